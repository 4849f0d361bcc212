"""Tests for jaxflow.layers.generation."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow.layers import generation


def clip(shape=(2, 3, 8, 16, 1), dtype=jnp.float32):
    return jnp.zeros(shape, dtype)


@pytest.mark.parametrize(
    ("noisy", "time", "message"),
    [
        (clip((3, 8, 16, 1)), jnp.zeros(2), "must be .B, T, H, W, 1."),
        (clip((2, 3, 8, 16, 3)), jnp.zeros(2), "must be .B, T, H, W, 1."),
        (clip(dtype=jnp.uint8), jnp.zeros(2), "floating"),
        (clip((2, 3, 8, 12, 1)), jnp.zeros(2), "multiples of 8"),
        (clip((2, 4, 8, 16, 1)), jnp.zeros(2), "must have 3 frames; got 4"),
        (clip(), jnp.zeros(()), "`time` must be"),
        (clip(), jnp.zeros((2, 3)), "`time` must be"),
        (clip(), jnp.zeros(2, bool), "`time` must be a real number"),
    ],
    ids=str,
)
def test_check_noisy_says_what_is_wrong(noisy, time, message):
    with pytest.raises(ValueError, match=message):
        generation.check_noisy(noisy, time, channels=1, multiple=8, num_frames=3)


def test_check_noisy_takes_every_real_type():
    for dtype in (jnp.float16, jnp.bfloat16, jnp.float32):
        generation.check_noisy(clip(dtype=dtype), jnp.zeros(2, jnp.int32), channels=1)
        generation.check_noisy(clip(dtype=dtype), jnp.zeros(2, dtype), channels=1)


@pytest.mark.parametrize("name", ["clean", "observed", "latent", "indices"])
def test_check_companions_says_what_is_unusable_or_misshapen(name):
    right = clip() if name == "clean" else jnp.zeros((2, 3))
    generation.check_companions(clip(), **{name: right}, takes=(name,))
    with pytest.raises(ValueError, match=f"cannot use `{name}`"):
        generation.check_companions(clip(), **{name: right})
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        generation.check_companions(clip(), **{name: right[:, :1]}, takes=(name,))


def test_check_companions_rejects_bytes():
    with pytest.raises(ValueError, match="`clean` must be floating"):
        generation.check_companions(
            clip(), clean=clip(dtype=jnp.uint8), takes=("clean",)
        )


def test_check_classes_says_what_is_wrong():
    generation.check_classes(None, 2, None)
    generation.check_classes(jnp.zeros(2, int), 2, 5)
    with pytest.raises(ValueError, match="takes no `condition`"):
        generation.check_classes(jnp.zeros(2, int), 2, None)
    for classes in (None, jnp.zeros(3, int), jnp.zeros(2), jnp.zeros((2, 1), int)):
        with pytest.raises(ValueError, match="of 0 to 4; got"):
            generation.check_classes(classes, 2, 5)


@pytest.mark.parametrize("dtype", [bool, np.int32, np.float32])
def test_paste_takes_observed_frames_bit_for_bit(rng, dtype):
    noisy, clean = jnp.float32(rng.normal(size=(2, 2, 3, 4, 5, 1)))
    noisy = noisy.at[0, 1].set(jnp.nan)
    observed = np.array([[0, 1, 0], [1, 0, 1]], dtype)
    pasted = generation.paste(noisy, clean, jnp.asarray(observed))
    chosen = observed.astype(bool)
    np.testing.assert_array_equal(pasted[chosen], clean[chosen])
    np.testing.assert_array_equal(pasted[~chosen], noisy[~chosen])
    assert generation.paste(noisy, None, None) is noisy
    with pytest.raises(ValueError, match="`observed` needs `clean`"):
        generation.paste(noisy, None, observed)
    with pytest.raises(ValueError, match="`clean` needs `observed`"):
        generation.paste(noisy, clean, None)


def test_draws_are_different_keys_or_none():
    assert list(itertools.islice(generation.draws(None), 3)) == [None] * 3
    keys = itertools.islice(generation.draws(jax.random.key(0)), 3)
    data = [tuple(np.ravel(jax.random.key_data(key))) for key in keys]
    assert len(set(data)) == 3
