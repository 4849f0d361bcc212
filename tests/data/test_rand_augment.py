"""Tests for jaxflow.data.rand_augment."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from jaxflow.data import rand_augment

FACTORS = (0.1, 0.6, 1.0, 1.3, 1.9)


@pytest.fixture(scope="module")
def clip():
    """Two frames: a smooth one of few values, and noise."""
    y, x = np.mgrid[:21, :30]
    smooth = np.stack([3 * x + 40, 5 * y + 20, 100 + (x - y)], -1)
    noise = np.random.default_rng(0).integers(0, 256, smooth.shape)
    flat = np.full_like(smooth, 77)
    return np.stack([smooth, noise, flat]).astype(np.uint8)


def ours(name, clip, *amount):
    function = jax.jit(getattr(rand_augment, name))
    return np.asarray(function(jnp.asarray(clip, jnp.float32), *amount))


def pils(function, clip):
    return np.stack([np.asarray(function(Image.fromarray(frame))) for frame in clip])


def test_autocontrast_is_pils(clip):
    expected = pils(ImageOps.autocontrast, clip)
    found = ours("autocontrast", clip)
    # Where the exact result is whole, PIL's product may fall below it, and is cut off.
    assert set(np.unique(found - expected)) <= {0, 1}
    assert np.mean(found != expected) < 0.02


def test_equalizing_is_pils(clip):
    expected = pils(ImageOps.equalize, clip)
    np.testing.assert_array_equal(ours("equalize", clip), expected)


def test_equalizing_many_pixels_of_few_values_is_pils():
    rng = np.random.default_rng(1)
    clip = rng.choice([3, 50, 51, 200], (2, 64, 70, 3), p=[0.7, 0.1, 0.1, 0.1])
    clip = clip.astype(np.uint8)
    expected = pils(ImageOps.equalize, clip)
    np.testing.assert_array_equal(ours("equalize", clip), expected)


@pytest.mark.parametrize("bits", [4, 6, 8])
def test_posterizing_is_pils(clip, bits):
    expected = pils(lambda frame: ImageOps.posterize(frame, bits), clip)
    np.testing.assert_array_equal(ours("posterize", clip, bits), expected)


@pytest.mark.parametrize("threshold", [0, 77, 128, 255])
def test_solarizing_is_pils(clip, threshold):
    expected = pils(lambda frame: ImageOps.solarize(frame, threshold), clip)
    np.testing.assert_array_equal(ours("solarize", clip, threshold), expected)


@pytest.mark.parametrize("name", ["brightness", "color", "contrast", "sharpness"])
def test_enhancing_is_pils(clip, name):
    enhance = getattr(ImageEnhance, name.capitalize())
    for factor in FACTORS:
        expected = pils(lambda frame, f=factor: enhance(frame).enhance(f), clip)
        found = ours(name, clip, factor)
        # PIL computes in single precision, and cuts off: one level at some values.
        assert np.abs(found - expected).max() <= 1
        assert np.mean(found != expected) < 0.02


@pytest.mark.parametrize("degrees", [-30.0, -7.5, 0.0, 12.0, 30.0])
def test_rotating_is_pils(clip, degrees):
    expected = pils(lambda frame: frame.rotate(degrees), clip)
    found = ours("rotate", clip, degrees)
    # Where a pixel's centre falls between two, rounding decides.
    assert np.mean((found != expected).any(-1)) < 0.005


@pytest.mark.parametrize("amount", [-0.3, 0.11, 0.25])
@pytest.mark.parametrize(
    ("name", "matrix"),
    [
        ("shear_x", lambda a: (1, a, 0, 0, 1, 0)),
        ("shear_y", lambda a: (1, 0, 0, a, 1, 0)),
        ("translate_x", lambda a: (1, 0, 31 * a, 0, 1, 0)),
        ("translate_y", lambda a: (1, 0, 0, 0, 1, 31 * a)),
    ],
)
def test_shearing_and_translating_are_pils(clip, name, matrix, amount):
    size = clip.shape[2], clip.shape[1]
    expected = pils(
        lambda frame: frame.transform(size, Image.Transform.AFFINE, matrix(amount)),
        clip,
    )
    scale = 31 if name.startswith("translate") else 1
    found = ours(name, clip, scale * amount)
    assert np.mean((found != expected).any(-1)) < 0.005


@functools.cache
def drawn(layers, magnitude, number=400):
    rng = np.random.default_rng(0)
    clip = rng.integers(0, 256, (2, 9, 11, 3)).astype(np.float32) / 255
    clip[1] = clip[0]
    keys = jax.random.split(jax.random.key(0), number)
    run = functools.partial(
        rand_augment.rand_augment, layers=layers, magnitude=magnitude
    )
    run = functools.partial(run, clip=jnp.asarray(clip))
    result = jax.jit(lambda keys: jax.lax.map(run, keys))(keys)
    return clip, np.asarray(result)


def test_every_operation_is_drawn_and_frames_change_alike():
    clip, result = drawn(1, 20.0)
    np.testing.assert_array_equal(result[:, 0], result[:, 1])
    np.testing.assert_allclose(np.rint(result * 255), result * 255, atol=1e-4)
    assert 0 <= result.min() and result.max() <= 1
    # Two signs of nine operations, and five without a sign (of noise, equalizing and
    # autocontrast change little, but something).
    different = np.unique(result[:, 0].reshape(len(result), -1), axis=0)
    assert 20 <= len(different) <= 23
    same = np.isclose(result[:, 0], clip[0], atol=1e-6).all((1, 2, 3)).mean()
    # Identity is one of 14, and autocontrast of full range another.
    assert 1 / 14 - 0.05 < same < 2 / 14 + 0.07


def test_magnitude_0_changes_next_to_nothing():
    clip, result = drawn(2, 0.0)
    changed = (np.abs(result - clip).reshape(len(result), -1).max(1) > 1e-6).mean()
    # Only equalize, autocontrast and solarize (from 255 on) know no magnitude.
    assert changed < 1 - (11 / 14) ** 2 + 0.1


def test_what_is_no_clip_is_refused():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="`clip` must be"):
        rand_augment.rand_augment(key, np.zeros((4, 8, 3)))
    with pytest.raises(ValueError, match="`layers`"):
        rand_augment.rand_augment(key, np.zeros((4, 8, 8, 3)), layers=0)
    assert len(rand_augment.OPERATIONS) == 14 and math.isclose(rand_augment.LEVELS, 30)
