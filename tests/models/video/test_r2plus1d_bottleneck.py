import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow import convert, cost
from jaxflow.models.video import r2plus1d_bottleneck


def test_has_the_published_number_of_parameters():
    model = cost.describe("r2plus1d_r50")
    assert cost.count_parameters(model) == 28_107_600


def test_reads_every_key_of_pytorchvideo_once(read_names):
    norm = ("weight", "bias", "running_mean", "running_var")
    shapes = {}

    def add(conv, normed, shape):
        shapes[f"{conv}.weight"] = shape
        shapes.update({f"{normed}.{leaf}": shape[:1] for leaf in norm})

    add("blocks.0.conv", "blocks.0.norm", (64, 3, 1, 7, 7))
    features = 64
    for stage, count in enumerate((3, 4, 6, 3), start=1):
        inner = 32 * 2**stage
        for block in range(count):
            prefix = f"blocks.{stage}.res_blocks.{block}"
            if block == 0:
                shape = (4 * inner, features, 1, 1, 1)
                add(f"{prefix}.branch1_conv", f"{prefix}.branch1_norm", shape)
            prefix += ".branch2"
            add(f"{prefix}.conv_a", f"{prefix}.norm_a", (inner, features, 1, 1, 1))
            split = f"{prefix}.conv_b"
            add(f"{split}.conv_t", f"{split}.norm", (inner, inner, 3, 1, 1))
            add(f"{split}.conv_xy", f"{prefix}.norm_b", (inner, inner, 1, 3, 3))
            add(f"{prefix}.conv_c", f"{prefix}.norm_c", (4 * inner, inner, 1, 1, 1))
            features = 4 * inner
    shapes |= {"blocks.5.proj.weight": (400, 2048), "blocks.5.proj.bias": (400,)}

    paths = read_names(r2plus1d_bottleneck.KEYS["pytorchvideo"], shapes)

    model = cost.describe("r2plus1d_r50")
    slots = {key: convert.find_slot(model, path) for key, path in paths.items()}
    assert all(slot.accepts(shapes[key]) for key, slot in slots.items())
    filled = sorted(slot.path for slot in slots.values())
    assert filled == sorted(convert.weight_slots(model))


def test_a_block_is_its_four_convolutions(rng):
    block = r2plus1d_bottleneck.Block(3, 2, strides=(2, 2, 2), rngs=nnx.Rngs(0))
    block.eval()
    x = jnp.asarray(rng.normal(size=(1, 5, 6, 7, 3)), jnp.float32)

    def filtered(layer, x, strides, padding):
        kernel = layer.conv.kernel[...]
        y = jax.lax.conv_general_dilated(
            x, kernel, strides, padding, dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
        )
        return y / np.sqrt(1 + 1e-5)

    none = ((0, 0),) * 3
    y = jax.nn.relu(filtered(block.a, x, (1, 1, 1), none))
    y = jax.nn.relu(filtered(block.time, y, (2, 1, 1), ((1, 1), (0, 0), (0, 0))))
    y = jax.nn.relu(filtered(block.space, y, (1, 2, 2), ((0, 0), (1, 1), (1, 1))))
    y = filtered(block.c, y, (1, 1, 1), none)
    expected = jax.nn.relu(y + filtered(block.shortcut, x, (2, 2, 2), none))
    np.testing.assert_allclose(block(x), expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 1, 20, 33, 3), (2, 5, 40, 37, 3)], ids=str)
def test_takes_any_clip(run, shape):
    model = r2plus1d_bottleneck.Model(r2plus1d_bottleneck.TINY, rngs=nnx.Rngs(0))
    model.eval()
    scores = run(model, jnp.ones(shape, jnp.bfloat16))
    assert scores.shape == (shape[0], 5)
    assert np.isfinite(scores).all()
