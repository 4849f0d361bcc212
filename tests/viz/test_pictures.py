"""Tests for jaxflow.viz.pictures."""

import numpy as np
import pytest

from jaxflow import viz


def test_arrows_lie_along_the_motion_and_start_on_the_grid():
    image = np.zeros((40, 40, 3), np.uint8)
    flow = np.zeros((40, 40, 2))
    flow[..., 0] = 10
    valid = np.zeros((40, 40), bool)
    valid[:20] = True
    picture = viz.draw_arrows(
        image, flow, stride=20, scale=0.8, color=(1, 2, 3), valid=valid
    )
    np.testing.assert_array_equal(picture[10, 10:19], [[1, 2, 3]] * 9)
    np.testing.assert_array_equal(picture[10, :10], 0)
    assert not picture[20:].any() and not image.any()


def test_an_overlay_mixes_only_where_the_mask_is_set():
    picture = viz.overlay(
        np.full((1, 3, 3), 0.4), [[0, 1, 0.5]], color=(255, 0, 0), opacity=1.0
    )
    expected = [[102, 102, 102], [255, 0, 0], [178, 51, 51]]
    np.testing.assert_allclose(picture[0], expected, atol=1)


def test_a_panel_places_every_picture_in_its_cell():
    reds = [np.full((4 + i, 6, 3), 10 * (i + 1), np.uint8) for i in range(3)]
    picture = viz.panel(reds, columns=2, gap=3)
    assert picture.shape == (2 * 6 + 3, 2 * 6 + 3, 3)
    np.testing.assert_array_equal(picture[1:5, :6], reds[0])
    np.testing.assert_array_equal(picture[:5, 9:], reds[1])
    np.testing.assert_array_equal(picture[9:, :6], reds[2])
    labelled = viz.panel(reds, labels=["a", "b", "光"], columns=9)
    assert labelled.shape == (6 + 18, 3 * 6 + 2 * 4, 3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, bool])
def test_white_is_white_in_every_type(dtype):
    white = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1
    picture = viz.panel([np.full((2, 2), white, dtype)])
    np.testing.assert_array_equal(picture, 255)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: viz.panel([]), "must not be empty"),
        (lambda: viz.panel([np.ones((2, 2))], labels=["a", "b"]), "`labels` must be 1"),
        (lambda: viz.panel([np.ones((2, 2))], columns=0), "`columns`"),
        (lambda: viz.panel([np.ones((2, 2, 4))]), "`images` must be"),
        (lambda: viz.panel([np.ones((2, 2), int)]), "got int64"),
        (lambda: viz.overlay(np.ones((2, 2)), np.ones((2, 3))), "`mask`"),
        (lambda: viz.draw_arrows(np.ones((2, 2)), np.ones((2, 3, 2))), "`flow` must"),
        (
            lambda: viz.draw_arrows(np.ones((2, 2)), np.ones((2, 2, 2)), stride=0),
            "`stride`",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_boxes_are_outlined_and_labelled_where_they_are():
    grey = np.full((60, 80, 3), 100, np.uint8)
    plain = viz.draw_boxes(grey, [[10, 20, 40, 50]], color=(255, 0, 0))
    changed = (plain != grey).any(-1)
    rows, columns = np.nonzero(changed)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (20, 50, 10, 40)
    assert not changed[23:48, 13:38].any()
    assert (plain[changed] == [255, 0, 0]).all()
    told = viz.draw_boxes(grey, [[10, 20, 40, 50]], labels=[["walk"]])
    assert (told != grey).any(-1)[23:48, 13:38].any()
    np.testing.assert_array_equal(viz.draw_boxes(grey, np.zeros((0, 4))), grey)


def test_boxes_beyond_the_border_are_cut_off():
    grey = np.full((60, 80), 100, np.uint8)
    drawn = viz.draw_boxes(grey, [[-30, -9, 200, 30.4]], color=(255, 0, 0))
    assert (drawn[0] == [255, 0, 0]).all() and (drawn[:31, 79] == [255, 0, 0]).all()
    assert (drawn[32:] == 100).all()


@pytest.mark.parametrize(
    ("boxes", "labels", "message"),
    [
        ([1, 2, 3, 4], None, r"`boxes` must be \(N, 4\)"),
        ([[1, 2, 3, 4]], [], "`labels` must be 1"),
    ],
)
def test_boxes_of_another_shape_are_one_clear_error(boxes, labels, message):
    with pytest.raises(ValueError, match=message):
        viz.draw_boxes(np.zeros((9, 9)), boxes, labels=labels)
