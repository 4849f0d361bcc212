"""Tests for jaxflow.viz.colours."""

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


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: viz.flow_to_image(np.ones((1, 1, 2)), max_flow=0),
            "`max_flow` must be positive",
        ),
        (lambda: viz.legend(size=3), "`size`"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
