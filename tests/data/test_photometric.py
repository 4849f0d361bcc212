"""Tests for jaxflow.data.photometric."""

import colorsys
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage import color

from jaxflow.data import photometric


@pytest.fixture
def image(rng):
    return jnp.asarray(rng.uniform(size=(20, 30, 3)), jnp.float32)


def many(function, count=32):
    """Calls a function of a key with many keys."""
    keys = jax.random.split(jax.random.key(0), count)
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(function))(keys))


@pytest.mark.parametrize("turns", [0.0, 1 / 3, -0.2, 0.7])
def test_hue_turns_as_in_hsv(image, turns):
    hsv = color.rgb2hsv(np.asarray(image, np.float64))
    hsv[..., 0] = (hsv[..., 0] + turns) % 1
    np.testing.assert_allclose(
        photometric.shift_hue(image, turns), color.hsv2rgb(hsv), atol=1e-5
    )


def test_a_third_of_a_turn_takes_red_to_green_and_grey_stays():
    red = jnp.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.2, 0.1, 0.0]])
    turned = np.asarray(photometric.shift_hue(red, 1 / 3))
    np.testing.assert_allclose(turned[0], [0, 1, 0], atol=1e-5)
    np.testing.assert_allclose(turned[1], [0.5, 0.5, 0.5], atol=1e-6)
    hue, saturation, value = colorsys.rgb_to_hsv(0.2, 0.1, 0.0)
    expected = colorsys.hsv_to_rgb(hue + 1 / 3, saturation, value)
    np.testing.assert_allclose(turned[2], expected, atol=1e-5)


def test_without_ranges_colours_stay(image):
    still = photometric.Jitter(brightness=0, contrast=0, saturation=0, hue=0)
    first, second = many(
        lambda key: photometric.jitter_colours(key, image, image, ranges=still), 2
    )
    np.testing.assert_allclose(first[0], image, atol=1e-5)
    np.testing.assert_allclose(second[1], image, atol=1e-5)
    first, second = many(
        lambda key: photometric.change_chroma(key, image, image, strength=0.0), 2
    )
    np.testing.assert_allclose(first[0], image, atol=1e-5)
    np.testing.assert_allclose(second[1], image, atol=1e-5)


def test_jitter_changes_both_frames_alike_but_for_some(image):
    first, second = many(lambda key: photometric.jitter_colours(key, image, image), 400)
    alike = np.abs(first - second).max((1, 2, 3)) < 1e-5
    # Four standard deviations of a frequency of 0.2 in 400 draws.
    assert np.mean(~alike) == pytest.approx(0.2, abs=0.08)
    assert np.mean(np.abs(first - image[None]).max((1, 2, 3)) > 0.02) > 0.95
    assert first.min() >= 0 and first.max() <= 1


def test_chroma_of_frame_2_is_nearly_that_of_frame_1(image):
    first, second = many(lambda key: photometric.change_chroma(key, image, image))
    change = np.abs(first - image[None]).mean((1, 2, 3))
    relative = np.abs(first - second).mean((1, 2, 3))
    assert 0 < relative.mean() < 0.15 * change.mean()
    assert first.min() >= 0 and first.max() <= 1 and np.isfinite(first).all()


def test_contrast_and_brightness_are_the_formula():
    grey = jnp.full((4, 5, 3), 0.6)
    ranges = photometric.Chroma(
        colour=(1.0, 1.0),
        gamma=(2.0, 2.0),
        brightness=0,
        contrast=(-0.5, -0.5),
        relative=0,
    )
    first, second = photometric.change_chroma(
        jax.random.key(0), grey, grey, ranges=ranges
    )
    np.testing.assert_allclose(first, 0.5 + 0.5 * (0.36 - 0.5), atol=1e-5)
    np.testing.assert_allclose(second, first, atol=1e-6)


def test_noise_is_white_and_no_stronger_than_asked():
    grey = jnp.full((64, 64, 3), 0.5)
    first, second = many(
        functools.partial(photometric.add_noise, image1=grey, image2=grey, largest=0.08)
    )
    sigma = first.std((1, 2, 3))
    assert sigma.max() < 0.082 and sigma.min() < 0.02 < 0.06 < sigma.max()
    # 12 288 numbers a frame: their standard deviation is known to 0.7 %.
    np.testing.assert_allclose(second.std((1, 2, 3)), sigma, rtol=0.04)
    noise = (first - 0.5).reshape(len(first), -1)
    other = (second - 0.5).reshape(len(second), -1)
    correlation = np.sum(noise * other, 1) / np.sum(noise**2, 1)
    assert np.abs(correlation).max() < 0.05


def test_erased_boxes_have_the_mean_colour_and_the_size_asked():
    picture = jnp.arange(60 * 80 * 3.0).reshape(60, 80, 3) / (60 * 80 * 3)
    erased = many(
        lambda key: photometric.erase_boxes(key, picture, sides=(10, 20)), 200
    )
    changed = np.abs(erased - picture[None]).max(-1) > 0
    hit = changed.any((1, 2))
    assert np.mean(hit) == pytest.approx(0.5, abs=0.15)
    mean = np.asarray(picture).mean((0, 1))
    np.testing.assert_allclose(
        erased[changed], np.broadcast_to(mean, erased[changed].shape), atol=1e-5
    )
    assert changed.sum((1, 2)).max() <= 2 * 20 * 20
    np.testing.assert_array_equal(
        erased[~changed], np.broadcast_to(picture, erased.shape)[~changed]
    )


def test_frames_of_8_bits_become_floats_and_floats_stay():
    whole = photometric.as_float(np.array([[[0, 51, 255]]], np.uint8))
    np.testing.assert_allclose(whole, [[[0, 0.2, 1]]], atol=1e-7)
    assert photometric.as_float(whole.astype(np.float16)).dtype == np.float16
    with pytest.raises(ValueError, match="must be uint8 or float; got uint16"):
        photometric.as_float(np.zeros((2, 2, 3), np.uint16))
