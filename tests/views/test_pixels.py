"""Tests for jaxflow.views.pixels."""

import numpy as np
import pytest

from jaxflow.views import pixels


def test_frames_are_scaled_by_their_own_type():
    levels = [0, 0.2, 1]
    for kind, most in ((np.uint8, 255), (np.uint16, 65535), (np.float64, 1)):
        found = pixels.as_float((np.array(levels) * most).astype(kind))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, levels, atol=1e-7)


def test_grey_frames_have_three_equal_channels(rng):
    grey = rng.integers(0, 256, (2, 5, 6), np.uint8)
    for given in (grey, grey[..., None]):
        np.testing.assert_array_equal(
            pixels.as_frames(given, 3), np.stack([grey] * 3, -1)
        )


@pytest.mark.parametrize(
    ("shape", "channels", "match"),
    [
        ((5, 6, 3), 3, "is one picture"),
        ((2, 5, 6, 4), 3, r"must be \(T, H, W, 3\), \(T, H, W, 1\)"),
        ((0, 5, 6, 3), 3, "must be"),
        ((2, 5, 6, 1), 2, r"`flow` must be \(T, H, W, 2\);"),
    ],
)
def test_what_are_no_frames_is_one_clear_error(shape, channels, match):
    with pytest.raises(ValueError, match=match):
        pixels.as_frames(np.zeros(shape, np.uint8), channels, name="flow")


def test_frames_are_resized_to_their_shorter_side(rng):
    ramp = np.broadcast_to(np.linspace(0, 1, 8)[None, :, None], (4, 8, 3))
    assert pixels.resized(ramp, 6).shape == (6, 12, 3)
    assert pixels.resized(ramp.swapaxes(0, 1), 6).shape == (12, 6, 3)
    half = pixels.resized(ramp, 2)
    # The mean of two pixels of a ramp, as OpenCV's INTER_LINEAR at half the size.
    np.testing.assert_allclose(
        half[0, :, 0], (ramp[0, ::2, 0] + ramp[0, 1::2, 0]) / 2, atol=1e-6
    )
    assert pixels.resized(ramp, 6, size=(3, 5)).shape == (3, 5, 3)
    np.testing.assert_array_equal(pixels.resized(ramp, 4), ramp.astype(np.float32))
