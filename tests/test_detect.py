"""Tests for jaxflow.detect."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow import detect
from jaxflow.data.ava import Box
from jaxflow.models.video import resnet3d

CONFIG = dataclasses.replace(
    resnet3d.TINY,
    regions="legacy",
    head_mode="sigmoid_mean",
    temporal_pool=False,
    frame_stride=2,
)


@pytest.fixture(scope="module")
def network():
    model = resnet3d.Model(CONFIG, rngs=nnx.Rngs(0))
    model.train()
    return model


@pytest.fixture(scope="module")
def video():
    return np.random.default_rng(0).integers(0, 256, (20, 32, 48, 3), np.uint8)


BOXES = [
    Box("v", 1.0, (0.0, 0.0, 0.5, 1.0), 3),
    Box("v", 1.0, (0.0, 0.0, 0.5, 1.0), 4),
    Box("v", 1.0, (0.2, -0.1, 1.3, 0.8)),
    Box("v", 0.0, (0.5, 0.25, 1.0, 1.0)),
]


def test_scores_boxes_of_the_clip_around_each_moment(network, video):
    first, second = detect.detect_actions(
        network, video, BOXES, fps=10, stride=2, short_side=32
    )
    assert (first.second, second.second) == (0, 1)
    assert first.scores.shape == (1, 5) and second.scores.shape == (2, 5)
    assert first.scores.dtype == np.float32

    # The middle frames are 0 and 10; before the first frame, it repeats.
    model = nnx.merge(*nnx.split(network), copy=True)
    model.eval()
    frames = np.array([[0, 0, 0, 2], [6, 8, 10, 12]])
    clip = jnp.asarray(video[frames] / np.float32(255))
    rows = jnp.array([[1.0, 0, 0, 24, 31], [1, 9.6, 0, 47, 25.6], [0, 24, 8, 47, 31]])
    expected = model(clip, rows)
    np.testing.assert_allclose(second.scores, expected[:2], atol=1e-5)
    np.testing.assert_allclose(first.scores, expected[2:], atol=1e-5)


def test_logits_become_probabilities(network, video):
    config = dataclasses.replace(CONFIG, head_mode="logit_mean")
    other = resnet3d.Model(config, rngs=nnx.Rngs(0))
    options = {"fps": 10, "stride": 2, "short_side": 32}
    for one, two in zip(
        detect.detect_actions(network, video, BOXES, **options),
        detect.detect_actions(other, video, BOXES, **options),
        strict=True,
    ):
        np.testing.assert_allclose(one.scores, two.scores, atol=1e-6)


def test_the_model_stays_in_its_mode(network, video):
    list(detect.detect_actions(network, video, BOXES[:1], fps=10, short_side=32))
    assert not network.deterministic


@pytest.mark.parametrize(
    ("boxes", "options", "message"),
    [
        ([], {}, "`boxes` must not be empty"),
        ([Box("v", 2.2, (0, 0, 1, 1))], {}, "must be in the video, which lasts 2 s"),
        (BOXES, {"fps": None}, "give `fps`"),
        (BOXES, {"stride": 0}, "`stride` must be positive"),
        (BOXES, {"short_side": -3}, "`short_side` must be positive"),
    ],
)
def test_what_is_wrong_is_one_clear_error(network, video, boxes, options, message):
    with pytest.raises(ValueError, match=message):
        detect.detect_actions(network, video, boxes, **{"fps": 10, **options})


def test_a_classifier_of_clips_is_refused(video):
    model = resnet3d.Model(resnet3d.TINY, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="must score boxes, as slowfast_8x8_r50_ava"):
        detect.detect_actions(model, video, BOXES, fps=10)
