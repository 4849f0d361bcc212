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
