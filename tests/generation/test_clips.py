"""Tests for jaxflow.generation.clips."""

import jax
import numpy as np
import pytest

from jaxflow import generation
from jaxflow.diffusion import process
from jaxflow.models.generation import rvd
from tests.generation.network import QUICK, make


@pytest.mark.slow
def test_more_random_sampling_differs(model, clip):
    out = [
        make(model, clip[:3], length=4, settings=QUICK._replace(**options))
        for options in ({}, {"noise": 1.0}, {"sampler": "ddpm"})
    ]
    assert np.any(out[0] != out[1]) and np.any(out[1] != out[2])
    jax.block_until_ready(out)


@pytest.mark.slow
def test_a_network_of_next_frames_extends_a_video(extending, rng):
    clip = rng.uniform(size=(2, 16, 16, 3)).astype(np.float32)
    options = {"length": 5, "settings": QUICK._replace(sampler="ddpm")}
    out = make(extending, clip, **options)
    assert out.shape == (5, 16, 16, 3)
    np.testing.assert_array_equal(out[:2], clip)
    made = rvd.sample(
        jax.random.key(0),
        extending,
        2 * clip[None] - 1,
        count=3,
        steps=process.sampling_steps(extending.process, 3),
    )
    expected = np.clip((np.asarray(made[0]) + 1) / 2, 0, 1)
    np.testing.assert_allclose(out[2:], expected, atol=1e-4)
    other = np.stack([clip[0], 1 - clip[1]])
    assert np.any(make(extending, other, **options)[2:] != out[2:])


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"observed": "past", "length": 4}, "before it"),
        ({"observed": [True, False, True]}, "before it"),
        ({"frames": None, "length": 4}, "before it"),
        ({"length": 4, "scheme": "hierarchy-2"}, "autoreg"),
        ({"length": 4, "condition": 1}, "condition"),
        (
            {"length": 4, "settings": generation.Settings(conditioning="replacement")},
            "'network'",
        ),
    ],
)
def test_a_network_of_next_frames_refuses_other_tasks(extending, options, problem):
    frames = np.zeros((3, 16, 16, 3), np.float32)
    with pytest.raises(ValueError, match=problem):
        make(extending, **{"frames": frames, **options})
