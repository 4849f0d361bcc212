"""Tests for jaxflow.spec.inputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow import spec

FRAMES = spec.Frames(multiple=16, minimum=(32, 48))


def frame(*shape, dtype=jnp.float32):
    return jnp.zeros(shape, dtype)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_a_pair_that_fits_passes(dtype):
    image = 0.3 * jnp.ones((2, 32, 48, 3), dtype)
    found = spec.check_pair(image, image, FRAMES)
    for wide in found:
        assert wide.dtype == jnp.float32
        np.testing.assert_array_equal(wide, np.asarray(image, np.float32))


@pytest.mark.parametrize(
    ("image1", "image2", "why"),
    [
        (frame(1, 32, 48, 3), frame(1, 32, 64, 3), "must be alike"),
        (frame(1, 32, 48, 3), frame(1, 32, 48, 3, dtype=jnp.bfloat16), "must be alike"),
        (frame(32, 48, 3), frame(32, 48, 3), r"must be \(B, H, W, 3\)"),
        (frame(1, 32, 48, 1), frame(1, 32, 48, 1), r"must be \(B, H, W, 3\)"),
        (frame(1, 32, 48, 3, dtype=jnp.uint8),) * 2 + ("must be floating",),
        (frame(1, 40, 48, 3),) * 2 + (r"multiples of 16; got \(40, 48\)",),
        (frame(1, 32, 32, 3),) * 2 + (r"at least \(32, 48\)",),
    ],
    ids=lambda value: "" if hasattr(value, "shape") else value,
)
def test_a_pair_that_does_not_fit_raises(image1, image2, why):
    with pytest.raises(ValueError, match=why):
        spec.check_pair(image1, image2, FRAMES)


def test_a_clip_that_fits_passes():
    spec.check_clip(frame(2, 3, 8, 9, 3, dtype=jnp.bfloat16), minimum=(3, 8, 9))
    clip = spec.check_clip(frame(1, 1, 8, 9, 2, dtype=jnp.float16), channels=2)
    assert clip.dtype == jnp.float32


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (frame(3, 8, 9, 3), r"must be \(B, T, H, W, 3\).*clip\[None\]"),
        (frame(1, 3, 8, 9, 1), r"must be \(B, T, H, W, 3\)"),
        (frame(1, 3, 8, 9, 3, dtype=jnp.uint8), "divide 8-bit"),
        (frame(1, 2, 8, 9, 3), "at least 3 frames of 8 x 9"),
        (frame(1, 3, 7, 9, 3), "got 3 of 7 x 9"),
    ],
)
def test_a_wrong_clip_is_one_clear_error(clip, message):
    with pytest.raises(ValueError, match=message):
        spec.check_clip(clip, minimum=(3, 8, 9))


def test_a_clip_of_another_size_than_the_dense_layers_fix_is_an_error():
    spec.check_fixed_clip(frame(2, 4, 8, 8, 3), frames=4, side=8)
    for shape in ((2, 5, 8, 8, 3), (2, 4, 8, 9, 3), (2, 4, 9, 8, 3)):
        with pytest.raises(ValueError, match=r"must be \(B, 4, 8, 8, 3\).* crop it"):
            spec.check_fixed_clip(frame(*shape), frames=4, side=8)


@pytest.mark.parametrize(
    ("value", "message"),
    [(float("nan"), "finite"), (float("inf"), "finite"), (1.5, "0 to 1.5: divide")],
)
def test_pixels_out_of_range_are_an_error_where_they_can_be_seen(value, message):
    pixels = frame(2, 2).at[0, 1].set(value)
    with pytest.raises(ValueError, match=f"`clip` must be .*{message}"):
        spec.check_pixels("clip", pixels)
    jax.jit(lambda x: spec.check_pixels("clip", x))(pixels)
    spec.check_pixels("clip", frame(2, 2) + 1.005)
    spec.check_pixels("clip", frame(0, 2))
