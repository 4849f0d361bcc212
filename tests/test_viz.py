"""Tests for jaxflow.viz."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow import io, viz

DIAGONAL = 0.5**0.5


def colour_of(u, v, **options):
    return viz.flow_to_image(np.array([[[u, v]]]), **options)[0, 0].tolist()


def test_the_wheel_has_the_published_hues():
    wheel = viz.color_wheel()
    assert wheel.shape == (55, 3)
    rows = [0, 14, 15, 20, 21, 24, 25, 35, 36, 48, 49, 54]
    expected = [
        (255, 0, 0), (255, 238, 0), (255, 255, 0), (43, 255, 0), (0, 255, 0),
        (0, 255, 191), (0, 255, 255), (0, 24, 255), (0, 0, 255), (235, 0, 255),
        (255, 0, 255), (255, 0, 43),
    ]  # fmt: skip
    np.testing.assert_array_equal(wheel[rows], expected)


@pytest.mark.parametrize(
    ("u", "v", "expected"),
    [
        (1, 0, [255, 0, 0]),
        (0, 1, [255, 229, 0]),
        (-1, 0, [0, 209, 255]),
        (0, -1, [88, 0, 255]),
        (DIAGONAL, DIAGONAL, [255, 114, 0]),
        (0, 0, [255, 255, 255]),
        (0.5, 0, [255, 127, 127]),
        (0, 0.5, [255, 242, 127]),
        (2, 0, [191, 0, 0]),
    ],
)
def test_golden_pixels_at_radius_1(u, v, expected):
    assert colour_of(u, v, max_flow=1.0) == expected


def test_the_sign_of_zero_does_not_matter():
    assert colour_of(1.0, -0.0) == colour_of(1.0, 0.0) == [255, 0, 0]
    assert colour_of(-0.0, -1.0) == colour_of(0.0, -1.0)


def test_a_real_flow_has_the_colours_of_the_reference(test_data):
    folder = test_data / "data/flow/sintel/alley_1"
    flow, valid = io.read_flow(folder / "flow/frame_0002.flo")
    reference = io.read_image(folder / "colorwheel_flowiz/frame_0002.png")
    picture = viz.flow_to_image(flow, valid=valid).astype(int)
    # The reference divides by the radius plus 1e-5, which tips a rounding or two.
    assert np.abs(picture - reference).max() <= 1


def test_the_longest_known_vector_is_never_out_of_range(rng):
    flow = rng.normal(size=(50, 60, 2)).astype(np.float32)
    np.testing.assert_array_equal(
        viz.flow_to_image(flow), viz.flow_to_image(flow, max_flow=viz.max_speed(flow))
    )
    # A hue in full colour has a channel at 255; darkening would lower all of them.
    assert (viz.flow_to_image(flow).max(-1) == 255).all()


def test_the_unknown_is_black_and_out_of_the_scale():
    flow = np.zeros((1, 5, 2))
    flow[0, 0], flow[0, 1, 0], flow[0, 2, 1], flow[0, 3] = 2, np.nan, 1e10, 500
    picture = viz.flow_to_image(flow, valid=np.array([[1, 1, 1, 0, 1]]))
    np.testing.assert_array_equal(picture[0, 1:4], 0)
    assert picture[0, 0].tolist() == colour_of(2, 2)
    assert picture[0, 4].tolist() == [255, 255, 255]
    assert viz.max_speed(np.full((1, 1, 2), np.nan)) == 0


def test_a_clip_shares_one_scale_and_a_jax_array_is_taken():
    flow = np.array([[[[1.0, 0]]], [[[2.0, 0]]]])
    picture = viz.flow_to_image(jnp.asarray(flow))
    assert picture.shape == (2, 1, 1, 3)
    assert picture[:, 0, 0].tolist() == [[255, 127, 127], [255, 0, 0]]


def test_the_legend_has_its_colours_where_they_are_named():
    size = 151
    picture = viz.legend(max_flow=7.0, size=size)
    assert picture.shape == (size + 18, size, 3)
    near, far, beside = size // 2 - 40, size // 2 + 60, size // 2 + 4
    red, green, blue = (int(c) for c in picture[beside, far])
    assert red == 255 and green < 120 and blue < 120  # right: red
    red, green, blue = (int(c) for c in picture[near, near])
    assert blue == 255 and red < 120  # top left: blue
    red, green, blue = (int(c) for c in picture[size - near, near])
    assert green == 255 and red < 120  # bottom left: green
    assert (picture[size // 2 + 2, size // 2 + 2] > 230).all()  # centre: white
    assert (picture[0, 0] == 255).all()
    assert (picture[size // 2, size // 2 + 20] == 0).all()  # axis
    assert (picture[size:] < 128).any()  # caption


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


def test_the_error_map_is_brighter_where_the_error_is_larger():
    target = np.zeros((1, 4, 2))
    flow = target + np.array([[[0.0, 0], [1, 0], [2, 0], [9, 0]]])
    target[0, 3] = np.nan
    picture = viz.error_map(flow, target)
    np.testing.assert_array_equal(picture[0, :3, 0], [0, 128, 255])
    assert picture[0, 3].tolist() == [0, 0, 64]
    picture = viz.error_map(flow, target, max_error=1.0)
    np.testing.assert_array_equal(picture[0, :3, 1], [0, 255, 255])
    np.testing.assert_array_equal(viz.error_map(target, target)[0, :3], 0)


def test_kitti_colours_part_outliers_from_inliers():
    target = np.zeros((1, 5, 2))
    target[0, :, 0] = [10, 10, 100, 100, 1]
    flow = target + np.array([[[0.1, 0], [3.1, 0], [4.9, 0], [5.1, 0], [200, 0]]])
    picture = viz.kitti_error_map(flow, target, valid=np.array([[1, 1, 1, 1, 1]]))
    expected = [
        (49, 54, 149), (254, 224, 144), (224, 243, 248), (254, 224, 144), (165, 0, 38)
    ]  # fmt: skip
    np.testing.assert_array_equal(picture[0], expected)
    assert not viz.kitti_error_map(flow, target, valid=np.zeros((1, 5))).any()


@pytest.mark.parametrize("show", [viz.error_map, viz.kitti_error_map])
@pytest.mark.parametrize("bad", [np.nan, np.inf, 2e9])
def test_a_missing_estimate_is_marked_and_is_not_unknown(show, bad):
    target, flow = np.zeros((2, 1, 5, 2)), np.ones((2, 1, 5, 2))
    flow[0, 0, 1, 0] = flow[0, 0, 2, 1] = flow[1, 0, 3, 0] = bad
    target[1, 0, 3] = target[1, 0, 4] = np.nan
    picture = show(flow, target)
    magenta = (picture == [255, 0, 255]).all(-1)
    np.testing.assert_array_equal(magenta[0, 0], [False, True, True, False, False])
    assert not magenta[1].any()
    # The others look as they do without it, the scale included.
    clean = show(np.where(np.isfinite(flow) & (flow < 1e9), flow, 1), target)
    np.testing.assert_array_equal(picture[~magenta], clean[~magenta])


@pytest.mark.parametrize(
    ("speeds", "scale"),
    [
        ([2, 3, 90, 2.5], 3),
        ([90, 0, 0, 2, 2, 2], 2),
        ([*[4] * 18, 70, 80], 4),
        ([3], 3),
        ([3, 5], 5),
        ([0, 0, 0, 4], 4),
        ([np.nan, 2, 3, 4, np.inf], 3),
        ([0, 0], 1),
        ([], 1),
    ],
)
def test_the_scale_of_a_clip_survives_a_bad_pair(speeds, scale):
    assert viz.clip_scale(speeds) == scale


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


def test_quantised_flow_is_the_two_stream_code():
    flow = np.array([[[-30.0, -20.0], [0.0, 20.0], [50.0, np.nan]]])
    coded = viz.quantize_flow(flow)
    np.testing.assert_array_equal(coded, [[[0, 0], [128, 255], [255, 128]]])
    back = viz.dequantize_flow(coded)
    np.testing.assert_allclose(back, [[[-20, -20], [0, 20], [20, 0]]], atol=1e-5)
    flow = np.random.default_rng(0).uniform(-20, 20, (9, 9, 2))
    error = viz.dequantize_flow(viz.quantize_flow(flow)) - flow
    # Half a step of 40 / 255; near rest up to a step, for 128 is read as rest.
    assert np.abs(error).max() <= 40 / 255 + 1e-5
    assert np.abs(error[np.abs(flow) > 0.2]).max() <= 20 / 255 + 1e-5


def test_clipping_the_length_keeps_the_direction():
    flow = np.array([[[-30.0, -40.0], [3.0, -4.0], [0.0, 0.0]]])
    expected = [[[-12, -16], [3, -4], [0, 0]]]
    np.testing.assert_allclose(viz.clip_length(flow), expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, bool])
def test_white_is_white_in_every_type(dtype):
    white = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1
    picture = viz.panel([np.full((2, 2), white, dtype)])
    np.testing.assert_array_equal(picture, 255)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: viz.flow_to_image(np.zeros((2, 3, 3))), "`flow` must have the shape"),
        (lambda: colour_of(1, 1, max_flow=0), "`max_flow` must be positive"),
        (lambda: colour_of(1, 1, valid=np.ones((2, 2))), "`valid` must have the shape"),
        (lambda: viz.legend(size=3), "`size`"),
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
        (lambda: viz.error_map(np.ones((2, 2, 2)), np.ones((2, 3, 2))), "`flow` must"),
        (
            lambda: viz.error_map(np.ones((2, 2, 2)), np.ones((2, 2, 2)), max_error=-1),
            "`max_error`",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
