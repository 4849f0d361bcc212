"""Tests for jaxflow.generation.videos."""

import dataclasses

import numpy as np
import pytest
from flax import nnx

from jaxflow.diffusion import process
from jaxflow.models.generation import fdm, unet3d
from tests.generation.network import CONFIG, QUICK, make, noisy_weights


@pytest.mark.parametrize("kind", [np.float32, np.uint8])
def test_observed_frames_are_returned_bit_for_bit(model, clip, kind):
    clip = (clip * 255).astype(kind) if kind is np.uint8 else clip
    mask = np.array([0, 1, 0, 1, 1, 0], bool)
    out = make(model, clip, observed=mask)
    assert out.shape == clip.shape and out.dtype == kind
    np.testing.assert_array_equal(out[mask], clip[mask])
    assert np.abs(out[~mask].astype(float) - clip[~mask]).max() > 0
    if kind is np.float32:
        assert out.min() >= 0 and out.max() <= 1
        hidden = np.where(mask[:, None, None, None], clip, np.nan)
        np.testing.assert_array_equal(make(model, hidden, observed=mask), out)


@pytest.mark.parametrize(
    ("task", "given"), [("future", [0, 1]), ("past", [9, 10]), ("interpolate", [0, 10])]
)
def test_tasks_put_the_given_frames_in_their_places(model, clip, task, given):
    out = make(model, clip[:2], observed=task, length=11)
    assert out.shape == (11, 8, 8, 1)
    np.testing.assert_array_equal(out[given], clip[:2])
    rest = np.delete(out, given, 0)
    assert np.isfinite(rest).all() and rest.std() > 0.01
    assert len(np.unique(rest.reshape(9, -1), axis=0)) == 9


def test_frames_follow_from_the_seed_and_from_what_is_observed(model, clip):
    out = make(model, clip[:3], length=4)
    np.testing.assert_array_equal(make(model, clip[:3], length=4), out)
    assert np.any(make(model, clip[:3], length=4, seed=1)[3] != out[3])
    assert np.any(make(model, 1 - clip[:3], length=4)[3] != out[3])


def test_nothing_given_is_a_video_of_the_models_size(model):
    assert make(model).shape == (4, 8, 8, 1)
    done = []
    out = make(
        model,
        length=9,
        size=(8, 4),
        scheme="autoreg",
        progress=lambda *now: done.append(now),
    )
    assert out.shape == (9, 8, 4, 1)
    assert done[-1][0] == done[-1][1] == len(done) > 1


@pytest.mark.slow
def test_guidance_with_a_scale_of_1_is_the_condition_itself(model, clip):
    def made(scale, condition=2):
        settings = QUICK._replace(scale=scale)
        return make(model, clip[:3], length=4, condition=condition, settings=settings)

    assert np.any(made(1.0) != made(1.0, condition=1))
    free = make(model, clip[:3], length=4)
    np.testing.assert_allclose(made(0.0), free, atol=1e-5)
    assert np.any(made(3.0) != made(1.0))


@pytest.mark.slow
def test_networks_without_observed_frames_follow_them_by_guidance(clip):
    config = dataclasses.replace(unet3d.TINY, channels=1, cond_dim=None)
    model = noisy_weights(unet3d.Model(config, rngs=nnx.Rngs(0)))
    own = process.Process(schedule="cosine")
    for way in ("replacement", "reconstruction"):
        settings = QUICK._replace(conditioning=way)
        out = make(model, clip[:2], length=6, settings=settings, process=own)
        np.testing.assert_array_equal(out[:2], clip[:2])
    out = make(model, clip[:2], length=4, settings=None, process=own)
    np.testing.assert_array_equal(out[:2], clip[:2])
    with pytest.raises(ValueError, match="takes no observed frames"):
        make(model, clip[:2], length=4, process=own)
    with pytest.raises(ValueError, match="autoreg"):
        make(
            model,
            clip[:2],
            length=9,
            scheme="hierarchy-2",
            settings=settings,
            process=own,
        )


def test_broken_weights_are_told(clip):
    broken = noisy_weights(fdm.Model(CONFIG, rngs=nnx.Rngs(0)))
    broken.last.bias[...] = np.full(1, np.nan, np.float32)
    with pytest.raises(ValueError, match="not finite"):
        make(broken, clip[:2], length=4)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"settings": QUICK._replace(steps=0)}, "count"),
        ({"settings": QUICK._replace(scale=2.0)}, "condition"),
        ({"seed": 2**63}, "64 bits"),
        ({"seed": "a"}, "`seed` must be an integer of 64 bits; got 'a'"),
    ],
)
def test_what_cannot_be_raises(model, options, match):
    with pytest.raises(ValueError, match=match):
        make(model, **options)
