import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow.models.video import mfnet


def test_residuals_vanish_where_features_move_by_one_pixel(rng):
    frame = rng.normal(size=(6, 7, 2)).astype(np.float32)
    for index, (y, x) in enumerate(mfnet.SHIFTS):
        moved = np.roll(frame, (y, x), axis=(0, 1))
        clip = jnp.asarray(np.stack([frame, moved])[None])
        out = mfnet.residuals(clip).reshape(2, 6, 7, 5, 2)
        inner = np.asarray(out)[0, 1:-1, 1:-1]
        np.testing.assert_array_equal(inner[:, :, index], 0)
        others = np.delete(inner, index, axis=2)
        assert (np.abs(others).max((0, 1, 3)) > 0.1).all()


def test_the_last_frame_is_compared_with_itself(rng):
    clip = jnp.asarray(rng.normal(size=(1, 3, 4, 5, 2)), jnp.float32)
    out = mfnet.residuals(clip)
    np.testing.assert_array_equal(out[:, -1, :, :, :2], 0)


@pytest.mark.parametrize("join", mfnet.JOINS)
def test_motion_blocks_see_the_next_frame_only(join, rng):
    block = mfnet.MotionBlock(4, 2, join=join, rngs=nnx.Rngs(0))
    block.eval()
    clip = jnp.asarray(rng.normal(size=(1, 4, 3, 3, 4)), jnp.float32)
    change = np.abs(block(clip.at[:, 2].add(1.0)) - block(clip)).max((0, 2, 3, 4))
    np.testing.assert_array_equal(change > 1e-4, [False, True, True, False])


def test_rejects_an_unknown_join():
    with pytest.raises(ValueError, match="join"):
        mfnet.MotionBlock(4, 2, join="product", rngs=nnx.Rngs(0))
