import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

import jaxflow
from jaxflow import convert, generation
from jaxflow.diffusion import process
from jaxflow.models.generation import fdm, rvd, unet3d

CONFIG = dataclasses.replace(
    fdm.TINY, channels=1, num_classes=3, num_frames=4, predicts="velocity"
)
QUICK = generation.Settings(steps=3)


def noisy_weights(model):
    numbers = np.random.default_rng(0)
    for slot in convert.weight_slots(model).values():
        added = 0.05 * numbers.standard_normal(slot.variable.shape)
        slot.variable[...] = slot.variable[...] + np.float32(added)
    model.eval()
    return model


@pytest.fixture(scope="module")
def model():
    return noisy_weights(fdm.Model(CONFIG, rngs=nnx.Rngs(0)))


@pytest.fixture
def clip(rng):
    return rng.uniform(size=(6, 8, 8, 1)).astype(np.float32)


def make(model, *args, **options):
    return jaxflow.generate(model, *args, **{"settings": QUICK, **options})


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


@pytest.mark.parametrize(
    ("frames", "options", "match"),
    [
        (np.zeros((2, 8, 8)), {}, "`frames` must be"),
        (np.zeros((2, 8, 8, 3)), {}, "`frames` must be"),
        (np.zeros((2, 8, 7, 1)), {"length": 4}, "multiples of 2"),
        (np.zeros((2, 8, 8, 1), int), {"length": 4}, "uint8 or floating"),
        (np.full((2, 8, 8, 1), np.nan), {"length": 4}, "finite"),
        (np.full((2, 8, 8, 1), 255.0), {"length": 4}, "255"),
        (np.zeros((2, 8, 8, 1)), {}, "length"),
        (np.zeros((2, 8, 8, 1)), {"length": 2}, "length"),
        (np.zeros((2, 8, 8, 1)), {"observed": [1, 1]}, "all 2 frames"),
        (np.zeros((2, 8, 8, 1)), {"observed": [1, 0, 0]}, "observed"),
        (np.zeros((2, 8, 8, 1)), {"observed": [2, 0]}, "0 and 1"),
        (np.zeros((2, 8, 8, 1)), {"observed": "later", "length": 4}, "observed"),
        (np.zeros((1, 8, 8, 1)), {"observed": "interpolate", "length": 4}, "given"),
        (None, {"observed": [1, 0]}, "needs `frames`"),
        (None, {"scheme": "zigzag"}, "scheme"),
        (
            np.zeros((6, 8, 8, 1)),
            {"observed": [0, 1, 0, 0, 0, 0], "scheme": "autoreg"},
            "at one end",
        ),
        (None, {"settings": QUICK._replace(sampler="euler")}, "sampler"),
        (None, {"settings": QUICK._replace(noise=2.0)}, "noise"),
        (None, {"settings": QUICK._replace(steps=0)}, "count"),
        (None, {"settings": QUICK._replace(scale=2.0)}, "condition"),
        (None, {"settings": QUICK._replace(weight=np.nan)}, "finite"),
        (None, {"seed": 2**63}, "64 bits"),
    ],
)
def test_what_cannot_be_raises(model, frames, options, match):
    with pytest.raises(ValueError, match=match):
        make(model, frames, **options)


def test_broken_weights_are_told(clip):
    broken = noisy_weights(fdm.Model(CONFIG, rngs=nnx.Rngs(0)))
    broken.last.bias[...] = np.full(1, np.nan, np.float32)
    with pytest.raises(ValueError, match="not finite"):
        make(broken, clip[:2], length=4)


def test_a_model_without_a_process_needs_one(monkeypatch):
    monkeypatch.delattr(unet3d.Model, "process")
    config = dataclasses.replace(unet3d.TINY, channels=1, cond_dim=None)
    with pytest.raises(ValueError, match="process"):
        make(unet3d.Model(config, rngs=nnx.Rngs(0)))


@pytest.mark.slow
def test_more_random_sampling_differs(model, clip):
    out = [
        make(model, clip[:3], length=4, settings=QUICK._replace(**options))
        for options in ({}, {"noise": 1.0}, {"sampler": "ddpm"})
    ]
    assert np.any(out[0] != out[1]) and np.any(out[1] != out[2])
    jax.block_until_ready(out)


@pytest.fixture(scope="module")
def extending():
    return noisy_weights(rvd.Model(rvd.TINY, rngs=nnx.Rngs(0)))


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
