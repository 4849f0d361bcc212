"""Tests for jaxflow.models.video.eco."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from jaxflow import convert, cost, tables
from jaxflow.models.video import eco

# Layers of the authors' code, by block; those behind the bar are of the full net alone.
NAMES_3C = "3x3_reduce 3x3 double_3x3_2"
BRANCHES = "1x1 3x3_reduce 3x3 double_3x3_reduce double_3x3_1 double_3x3_2 pool_proj"


def original_names(*, full):
    """Returns the names of the authors' layers: those with weights, but the last."""
    pairs = ["conv1_7x7_s2", "conv2_3x3_reduce", "conv2_3x3"]
    blocks = ["3a", "3b", *(["4a", "4b", "4c", "4d", "5a", "5b"] if full else [])]
    pairs += [f"inception_{b}_{branch}" for b in blocks for branch in BRANCHES.split()]
    pairs += ["inception_3c_double_3x3_reduce", "inception_3c_double_3x3_1"]
    if full:
        pairs += [f"inception_3c_{branch}" for branch in NAMES_3C.split()]
        pairs += [f"inception_4e_{branch}" for branch in BRANCHES.split()[1:-1]]
    convolutions = ["res3a_2", "res3b_1", "res3b_2"]
    norms = ["res3a_bn", "res3b_1_bn", "res3b_bn"]
    for stage in (4, 5):
        names = ("a_1", "a_2", "a_down", "b_1", "b_2")
        convolutions += [f"res{stage}{name}" for name in names]
        norms += [f"res{stage}{name}_bn" for name in ("a_1", "a", "b_1", "b")]
    return [*pairs, *convolutions], [*(f"{name}_bn" for name in pairs), *norms]


@pytest.mark.parametrize(("name", "full"), [("eco", True), ("eco_lite", False)])
def test_reads_the_names_of_the_original(name, full, read_names):
    convolutions, norms = original_names(full=full)
    keys = [f"{layer}.{part}" for layer in convolutions for part in ("weight", "bias")]
    parts = ("weight", "bias", "running_mean", "running_var")
    keys += [f"{layer}.{part}" for layer in norms for part in parts]
    keys = [f"module.base_model.{key}" for key in keys]
    keys += ["module.new_fc.weight", "module.new_fc.bias"]
    found = read_names(eco.KEYS["original"], keys)
    slots = convert.weight_slots(cost.describe(name, width=4))
    ours = {slots[path].path for path in slots}
    assert len(found) == len(ours)
    owners = {path.rpartition(".")[0] for path in ours}
    assert {path.rpartition(".")[0] for path in found.values()} == owners


def test_costs_what_is_published_of_it():
    found, published = cost.read_table()["eco"], eco.PUBLISHED["eco"]
    assert tables.agrees(found.parameters / 1e6, published.parameters)
    assert tables.agrees(found.multiply_adds / 1e9, published.multiply_adds)


def test_parameters_of_the_lite_net_are_those_of_its_parts():
    def unit(inputs, outputs, window):
        return inputs * outputs * window + 3 * outputs

    def mixed(inputs, row):
        (a, b), (c, d) = row.three, row.double
        branches = [(inputs, row.one, 1), (inputs, a, 1), (a, b, 9), (inputs, c, 1)]
        branches += [(c, d, 9), (d, d, 9), (inputs, row.pool, 1)]
        return sum(unit(*branch) for branch in branches)

    total = unit(3, 64, 49) + unit(64, 64, 1) + unit(64, 192, 9)
    total += mixed(192, eco.MIXED["mixed_3a"]) + mixed(256, eco.MIXED["mixed_3b"])
    total += unit(320, 64, 1) + unit(64, 96, 9)
    total += unit(96, 128, 27) + 2 * unit(128, 128, 27)
    for outputs in (256, 512):
        inputs = outputs // 2
        total += unit(inputs, outputs, 27) + 3 * unit(outputs, outputs, 27)
        total += 27 * inputs * outputs + outputs  # the shortcut has no normalisation
    assert cost.read_table()["eco_lite"].parameters == total + 513 * 400


def test_a_block_is_four_branches_of_lax(rng):
    row = eco.Row(2, (3, 4), (5, 6), 7, "avg")
    block = eco.Inception(8, row, rngs=nnx.Rngs(0))
    block.eval()
    for name in ("one", "three", "double_2"):
        count = getattr(block, name).norm.mean.shape[0]
        getattr(block, name).norm.mean[...] = jnp.asarray(rng.normal(size=count))
    x = jnp.asarray(rng.normal(size=(2, 5, 6, 8)), jnp.float32)

    def unit(layer, x):
        kernel = layer.conv.kernel[...]
        side = (kernel.shape[0] - 1) // 2
        numbers = ("NHWC", "HWIO", "NHWC")
        y = lax.conv_general_dilated(
            x, kernel, (1, 1), [(side, side)] * 2, dimension_numbers=numbers
        )
        mean, var = (
            x[...][None, None, None] for x in (layer.norm.mean, layer.norm.var)
        )
        return jax.nn.relu((y - mean) / jnp.sqrt(var + 1e-5))

    @jax.jit
    def both(x):
        padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        pooled = sum(
            padded[:, i : i + 5, j : j + 6] for i in range(3) for j in range(3)
        )
        branches = [
            unit(block.one, x),
            unit(block.three, unit(block.three_reduce, x)),
            unit(block.double_2, unit(block.double_1, unit(block.double_reduce, x))),
            unit(block.pool_proj, pooled / 9),
        ]
        return block(x), jnp.concatenate(branches, -1)

    found, expected = both(x)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_frames_are_apart_before_the_3d_net_and_ordered_behind_it(rng):
    model = eco.Model(eco.TINY, rngs=nnx.Rngs(0))
    model.eval()
    clip = jnp.asarray(rng.uniform(size=(1, 4, 32, 32, 3)), jnp.float32)

    @jax.jit
    def run(clip):
        low = model.low(clip)
        return low, model.res5(model.res4(model.res3(low[1])))

    low, last = run(jnp.concatenate([clip, clip[:, ::-1]]))
    assert [each.shape for each in low] == [(2, 4, 4, 4, 20), (2, 4, 4, 4, 6)]
    assert last.shape == (2, 1, 1, 1, 32)
    for one, other in low:
        np.testing.assert_allclose(one, other[::-1], atol=1e-5)
    assert np.abs(last[0] - last[1]).max() > 1e-4


def test_the_full_net_takes_clips_of_other_sizes():
    graph, state = nnx.split(cost.describe("eco", width=4, num_classes=5))
    for shape in ((2, 4, 33, 47, 3), (2, 1, 64, 100, 3)):
        clip = jax.ShapeDtypeStruct(shape, jnp.float32)
        scores = jax.eval_shape(lambda s, x: nnx.merge(graph, s)(x), state, clip)
        assert scores.shape == (2, 5)


def test_small_clips_and_odd_widths_are_refused():
    model = eco.Model(eco.TINY, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="at least 1 frames of 32 x 32"):
        model(jnp.zeros((1, 4, 31, 32, 3)))
    with pytest.raises(ValueError, match="`width` must be even; got 3"):
        eco.Config(width=3)
