import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow.layers import basic3d
from tests import golden


@pytest.mark.parametrize(
    ("features", "middle"), [((64, 64), 144), ((64, 128), 230), ((128, 256), 460)]
)
def test_middle_features_are_those_of_the_paper(features, middle):
    assert basic3d.middle_features(*features) == middle


@pytest.mark.parametrize("kind", basic3d.KINDS)
def test_a_strided_block_halves_time_unless_it_is_two_dimensional(kind):
    block = basic3d.BasicBlock(4, 6, kind=kind, stride=2, rngs=nnx.Rngs(0))
    frames = 5 if kind == "2d" else 3
    out = golden.run(block, jnp.ones((1, 5, 7, 8, 4)))
    assert out.shape == (1, frames, 4, 4, 6)


def test_a_two_dimensional_block_keeps_frames_apart(rng):
    block = basic3d.BasicBlock(2, 2, kind="2d", rngs=nnx.Rngs(0))
    block.eval()
    clip = jnp.asarray(rng.normal(size=(1, 3, 4, 4, 2)), jnp.float32)
    changed = block(clip.at[:, 1].add(1.0))
    np.testing.assert_array_equal(changed[:, ::2], block(clip)[:, ::2])
    assert not np.allclose(changed[:, 1], block(clip)[:, 1])


def test_zero_init_makes_a_block_its_shortcut():
    block = basic3d.BasicBlock(2, 2, kind="2plus1d", zero_init=True, rngs=nnx.Rngs(0))
    x = jnp.ones((1, 3, 4, 4, 2))
    np.testing.assert_array_equal(block(x), x)


def test_the_two_rules_of_r2plus1d_differ_where_channels_grow():
    shared, own = (
        basic3d.BasicBlock(64, 128, kind=kind, stride=2, rngs=nnx.Rngs(0))
        for kind in ("2plus1d", "2plus1d_per_convolution")
    )
    assert shared.second.spatial.conv.kernel.shape[-1] == 230
    assert own.second.spatial.conv.kernel.shape[-1] == 288


def test_rejects_an_unknown_kind():
    with pytest.raises(ValueError, match="kind"):
        basic3d.BasicBlock(2, 2, kind="4d", rngs=nnx.Rngs(0))
