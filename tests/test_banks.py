"""Tests for jaxflow.banks."""

import dataclasses
import tracemalloc
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow import banks
from jaxflow.data.ava import Box
from jaxflow.layers import box_head
from jaxflow.models.video import resnet3d, slowfast

CONFIG = dataclasses.replace(resnet3d.TINY, temporal_pool=False, frame_stride=1)
OPTIONS = {"fps": 10, "stride": 2, "short_side": 32}


@pytest.fixture(scope="module")
def video():
    return np.random.default_rng(0).integers(0, 256, (35, 32, 48, 3), np.uint8)


def make(file=resnet3d, config=CONFIG, **overrides):
    model = file.Model(dataclasses.replace(config, **overrides), rngs=nnx.Rngs(0))
    model.eval()
    return model


def test_holds_the_mean_map_of_the_clip_around_each_moment(video):
    model = make()
    bank = banks.compute_bank(model, video, rate=2, batch_size=3, **OPTIONS)
    np.testing.assert_allclose(bank.seconds, np.arange(7) / 2 + 0.25)
    assert bank.features.shape == (7, 1, 128) and bank.valid.all()
    # Around the frame of 0.75 s, which is number 8.
    clip = jnp.asarray(video[[4, 6, 8, 10]] / np.float32(255))[None]
    expected = jax.jit(lambda clip: model.features(clip).mean((1, 2, 3)))(clip)
    np.testing.assert_allclose(bank.features[1], expected, atol=1e-5)


def test_the_batch_decides_nothing(video):
    model = make()
    one, many = (
        banks.compute_bank(model, video, batch_size=size, **OPTIONS) for size in (1, 4)
    )
    np.testing.assert_allclose(one.features, many.features, atol=1e-5)
    assert one.features.shape == (4, 1, 128)


@pytest.mark.slow
def test_maps_of_two_pathways_stand_side_by_side(video):
    model = make(slowfast, slowfast.TINY)
    bank = banks.compute_bank(model, video, rate=0.1, num_frames=8, **OPTIONS)
    assert bank.features.shape == (1, 1, 256 + 128)


BOXES = [
    Box("v", 2.0, (0.0, 0.0, 0.5, 1.0), 3, 0.2),
    Box("v", 2.0, (0.2, 0.1, 1.0, 0.8), 3, 0.9),
    Box("v", 2.0, (0.2, 0.1, 1.0, 0.8), 4, 0.8),
    Box("v", 2.0, (0.4, 0.4, 0.5, 0.5), 3, 0.3),
    Box("v", 0.0, (0.5, 0.25, 1.0, 1.0)),
]


@pytest.mark.parametrize("size", [1, 2])
def test_holds_the_surest_people_of_each_moment(video, size):
    model = make(regions="aligned")
    bank = banks.compute_bank(
        model, video, boxes=BOXES, most=2, batch_size=size, **OPTIONS
    )
    np.testing.assert_array_equal(bank.seconds, [0, 2])
    np.testing.assert_array_equal(bank.valid, [[True, False], [True, True]])
    clip = jnp.asarray(video[[16, 18, 20, 22]] / np.float32(255))[None]
    corners = jnp.array([[9.6, 3.2, 47, 25.6], [19.2, 12.8, 24, 16]])
    owners = jnp.zeros(2, jnp.int32)
    expected = jax.jit(
        lambda clip: box_head.pool(
            [model.features(clip)], corners, owners, aligned=True
        )
    )(clip)
    np.testing.assert_allclose(bank.features[1], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(bank.features[0, 1], 0)


def test_a_window_always_has_as_many_entries():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(5, 2, 3)).astype(np.float32)
    valid = np.array([[1, 1], [1, 0], [1, 1], [0, 0], [1, 1]], bool)
    bank = banks.Bank(np.arange(5) + 0.5, features, valid)
    found, counted, times = banks.window(bank, 1.6, moments=4)
    # Moments -1 to 2: the first is not in the video.
    np.testing.assert_array_equal(counted, [0, 0, 1, 1, 1, 0, 1, 1])
    np.testing.assert_array_equal(found[2], features[0, 0])
    np.testing.assert_array_equal(found[[0, 1, 5]], 0)
    np.testing.assert_allclose(times, [0, 0, -1.1, -1.1, -0.1, 0, 0.9, 0.9], atol=1e-6)
    assert banks.window(bank, 99, moments=60)[0].shape == (120, 3)


def test_memory_does_not_grow_with_the_video(monkeypatch):
    config = types.SimpleNamespace(num_frames=4, frame_stride=2, crop_size=32)
    network = types.SimpleNamespace(config=config, features=lambda clip: clip)
    monkeypatch.setattr(banks.splitting, "split", lambda model: (None, None))
    monkeypatch.setattr(
        banks, "_pooled", lambda *known: np.asarray(known[3]).mean((1, 2, 3))
    )
    # One frame, seen 20 000 times: as float32 it would be 250 MB.
    long = np.broadcast_to(np.zeros((32, 32, 3), np.uint8), (20_000, 32, 32, 3))
    tracemalloc.start()
    bank = banks.compute_bank(network, long, fps=20, short_side=32)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert bank.features.shape == (1000, 1, 3)
    assert peak < 10e6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0}, "`rate` must be positive"),
        ({"batch_size": 0}, "`batch_size` must be positive"),
        ({"boxes": BOXES}, "`boxes` must be None: `model` scores no boxes"),
        ({"fps": None}, "give `fps`"),
    ],
)
def test_what_is_wrong_is_one_clear_error(video, options, message):
    with pytest.raises(ValueError, match=message):
        banks.compute_bank(make(), video, **{**OPTIONS, **options})


def test_no_boxes_and_no_features_are_clear_errors(video):
    with pytest.raises(ValueError, match="`boxes` must not be empty"):
        banks.compute_bank(make(regions="legacy"), video, boxes=[], **OPTIONS)
    with pytest.raises(ValueError, match="method `features`"):
        banks.compute_bank(types.SimpleNamespace(), video, **OPTIONS)
