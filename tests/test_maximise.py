"""Tests for jaxflow.maximise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow import maximise


class Linear(nnx.Module):
    """Scores that are sums of pixels, weighed by fixed numbers."""

    def __init__(self, weights, mode="logit_mean"):
        self.weights = nnx.Param(jnp.asarray(weights, jnp.float32))
        self.mode = mode

    def __call__(self, clip, *, key=None):
        scores = jnp.einsum("bthwc,thwck->bk", clip, self.weights[...])
        return jax.nn.softmax(scores) if self.mode == "softmax_mean" else scores


def climbed(model, **options):
    given = {"num_frames": 4, "crop_size": 6, "steps": 60} | options
    return maximise.maximise_class(jax.random.key(0), model, 1, **given)


def test_without_penalties_the_best_clip_of_a_linear_score_is_its_sign(rng):
    weights = rng.normal(size=(4, 6, 6, 3, 2))
    for mode in ("logit_mean", "softmax_mean"):
        found = climbed(Linear(weights, mode), spatial=0.0, temporal=0.0)
        np.testing.assert_array_equal(found.clip, weights[..., 1] > 0)
        # Before the softmax, which would be flat near 1.
        np.testing.assert_allclose(
            found.scores[-1], np.maximum(weights[..., 1], 0).sum(), rtol=1e-5
        )
    assert found.scores.shape == (61,) and found.scores[-1] > found.scores[0]


def test_slow_clips_change_less_than_fast_ones(rng):
    model = Linear(0.05 * rng.normal(size=(4, 6, 6, 3, 2)))
    changes = [
        float(maximise.roughness(climbed(model, temporal=weight).clip)[1])
        for weight in (maximise.FAST, 1.0, maximise.SLOW)
    ]
    assert changes[0] > 2 * changes[1] > 4 * changes[2]


def test_roughness_is_the_mean_squared_step():
    clip = jnp.zeros((2, 2, 3, 1)).at[1].set(0.225).at[:, :, 2].add(0.45)
    space, time = maximise.roughness(clip)
    np.testing.assert_allclose([space, time], [2.0, 1.0], rtol=1e-5)
    assert maximise.roughness(clip[:1])[1] == 0


def test_what_cannot_be_maximised_is_refused():
    model = Linear(np.ones((4, 6, 6, 3, 1)))
    with pytest.raises(ValueError, match="`class_index` must be at least 0 and below"):
        climbed(model)
    with pytest.raises(ValueError, match="`num_frames` and `crop_size` must be given"):
        climbed(model, crop_size=None)
    with pytest.raises(ValueError, match="`temporal` must be at least 0"):
        climbed(model, temporal=-1.0)
    with pytest.raises(ValueError, match="`steps` must be positive"):
        climbed(model, steps=0)
