"""Tests for jaxflow.spec."""

import dataclasses

import jax.numpy as jnp
import pytest

from jaxflow import spec

FRAMES = spec.Frames(multiple=16, minimum=(32, 48))


def frame(*shape, dtype=jnp.float32):
    return jnp.zeros(shape, dtype)


def test_descriptions_are_values():
    assert spec.Frames() == spec.Frames(multiple=64)
    assert hash(FRAMES) == hash(spec.Frames(multiple=16, minimum=(32, 48)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        FRAMES.multiple = 8
    weights = spec.Weights(file="f", source="s", licence="l", dialect="d", num_params=1)
    assert weights.metrics == {} and weights.colour == "rgb"


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_a_pair_that_fits_passes(dtype):
    image = frame(2, 32, 48, 3, dtype=dtype)
    spec.check_pair(image, image, FRAMES)


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
def test_check_clip_says_what_is_wrong(noisy, time, message):
    with pytest.raises(ValueError, match=message):
        spec.check_clip(noisy, time, channels=1, multiple=8, num_frames=3)


def test_check_clip_takes_every_real_type():
    for dtype in (jnp.float16, jnp.bfloat16, jnp.float32):
        spec.check_clip(clip(dtype=dtype), jnp.zeros(2, jnp.int32), channels=1)
        spec.check_clip(clip(dtype=dtype), jnp.zeros(2, dtype), channels=1)


@pytest.mark.parametrize("name", ["clean", "observed", "latent", "indices"])
def test_check_companions_says_what_is_unusable_or_misshapen(name):
    right = clip() if name == "clean" else jnp.zeros((2, 3))
    spec.check_companions(clip(), **{name: right}, takes=(name,))
    with pytest.raises(ValueError, match=f"cannot use `{name}`"):
        spec.check_companions(clip(), **{name: right})
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        spec.check_companions(clip(), **{name: right[:, :1]}, takes=(name,))


def test_check_companions_rejects_bytes():
    with pytest.raises(ValueError, match="`clean` must be floating"):
        spec.check_companions(clip(), clean=clip(dtype=jnp.uint8), takes=("clean",))
