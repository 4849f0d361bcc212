"""Tests for jaxflow.data.textures."""

import jax
import numpy as np
import pytest
import scipy.stats

from jaxflow.data import textures


def spectrum_slope(picture):
    """Slope of the logarithm of the amplitude against that of the frequency."""
    field = np.asarray(picture, np.float64).mean(-1)
    amplitude = np.abs(np.fft.fft2(field - field.mean()))
    axis = np.fft.fftfreq(len(field))
    frequency = np.hypot(*np.meshgrid(axis, axis))
    ring = (frequency > 0.03) & (frequency < 0.25)
    return scipy.stats.linregress(
        np.log(frequency[ring]), np.log(amplitude[ring] + 1e-9)
    ).slope


@pytest.mark.parametrize("exponent", [0.5, 1.0])
def test_noise_has_the_spectrum_that_is_asked_for(exponent):
    # Little contrast, so that nothing is clipped.
    noise = jax.jit(
        lambda key: textures.power_law_noise(key, size=128, exponent=exponent)
    )
    slopes = [spectrum_slope(noise(jax.random.key(seed))) for seed in range(4)]
    np.testing.assert_allclose(np.mean(slopes), -exponent, atol=0.15)


def test_edges_push_noise_towards_two_levels():
    key = jax.random.key(0)
    soft, hard = (
        np.asarray(textures.power_law_noise(key, size=64, edges=edges)).mean(-1)
        for edges in (0.0, 8.0)
    )
    # Excess kurtosis: 0 for a normal field, -2 for one of two values.
    assert scipy.stats.kurtosis(hard.ravel()) < -1.2
    assert scipy.stats.kurtosis(hard.ravel()) < scipy.stats.kurtosis(soft.ravel())


def test_dead_leaves_cover_the_plane_repeat_and_look_alike_at_every_scale():
    draw = jax.jit(lambda key: textures.dead_leaves(key, size=96, leaves=600))
    picture = np.asarray(draw(jax.random.key(1)))
    assert picture.shape == (96, 96, 3) and picture.min() >= 0 and picture.max() <= 1
    # A natural spectrum falls with about 1 / f; white noise would be flat.
    assert -2.0 < spectrum_slope(picture) < -0.7
    # The seam is no larger a step than those inside.
    across = np.abs(picture[:, 0] - picture[:, -1]).mean()
    inside = np.abs(np.diff(picture, axis=1)).mean()
    assert across < 2 * inside
    np.testing.assert_array_equal(picture, draw(jax.random.key(1)))
    assert np.abs(picture - draw(jax.random.key(2))).mean() > 0.05


def test_a_bank_holds_photographs_first_and_the_number_that_is_asked_for():
    pytest.importorskip("skimage")
    bank = textures.bank(jax.random.key(0), count=13, size=32)
    assert bank.shape == (13, 32, 32, 3) and bank.dtype == np.uint8
    np.testing.assert_array_equal(bank[:11], textures.photographs(size=32))
    assert len(np.unique(bank.reshape(13, -1), axis=0)) == 13
    assert textures.bank(jax.random.key(0), count=2, size=16, photos=False).any()


def test_a_size_must_be_positive():
    with pytest.raises(ValueError, match="size"):
        textures.dead_leaves(jax.random.key(0), size=0)
