"""Tests for jaxflow.views.crops."""

import numpy as np
import pytest

from jaxflow import views
from jaxflow.views import crops


@pytest.mark.parametrize("channels", [2, 3, 5])
def test_flow_turns_round_in_the_mirror(channels, rng):
    """A scene that moves right moves left in the mirror, and as fast up or down."""
    clip = rng.uniform(size=(2, 4, 6, channels)).astype(np.float32)
    expected = clip[:, :, ::-1].copy()
    if channels != 3:
        u = 40 * expected[..., -2] - 20
        expected[..., -2] = (-u + 20) / 40
    found = views.spatial_views(clip, 4, count=10)
    np.testing.assert_allclose(found[5], expected[:, :, -4:], atol=1e-6)
    np.testing.assert_allclose(views.mirrored(clip), expected, atol=1e-6)


def test_crops_are_where_they_are_named():
    clip = np.arange(4 * 7).reshape(1, 4, 7, 1)
    corners = [int(v[0, 0, 0, 0]) for v in views.spatial_views(clip, 3, count=3)]
    assert corners == [7, 9, 11]
    five = [int(v[0, 0, 0, 0]) for v in views.spatial_views(clip, 3, count=5)]
    assert five == [0, 4, 7, 11, 9]
    ten = views.spatial_views(clip, 3, count=10)
    np.testing.assert_array_equal(ten[7], ten[2][:, :, ::-1])
    tall = views.spatial_views(clip.swapaxes(1, 2), 3, count=3)
    np.testing.assert_array_equal(tall[0], clip.swapaxes(1, 2)[:, :3, 1:])


def test_a_random_crop_is_one_place_in_all_frames():
    clip = (
        np.arange(5 * 7).reshape(1, 5, 7, 1) + 100 * np.arange(2)[:, None, None, None]
    )
    generator = np.random.default_rng(0)
    found = [crops.random_crop(clip, 3, generator) for _ in range(40)]
    for crop in found:
        assert crop.shape == (2, 3, 3, 1)
        np.testing.assert_array_equal(crop[1], crop[0] + 100)
    corners = {int(crop[0, 0, 0, 0]) for crop in found}
    assert corners <= {7 * y + x for y in range(3) for x in range(5)}
    assert len(corners) > 8


def test_crops_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="4 x 7, smaller than the crop 5"):
        views.spatial_views(np.zeros((1, 4, 7, 3)), 5)
    with pytest.raises(ValueError, match="`count` must be one of"):
        views.spatial_views(np.zeros((1, 4, 7, 3)), 3, count=2)  # type: ignore[arg-type]
