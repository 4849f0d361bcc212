"""Tests for jaxflow.layers.box_head."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow import ops
from jaxflow.layers import box_head, dropout, resnet3d
from jaxflow.models.video import resnet3d as networks
from jaxflow.models.video import slowfast


def make(*, features=6, classes=4, mode="logit_mean", rate=0.5, aligned=False):
    head = box_head.BoxHead(
        features,
        classes,
        aligned=aligned,
        mode=mode,
        dropout_rate=rate,
        rngs=nnx.Rngs(0),
    )
    head.eval()
    return head


@pytest.fixture
def maps(rng):
    shapes = (2, 3, 5, 6, 4), (2, 7, 5, 6, 2)
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]


BOXES = jnp.array([[1.0, 8, 0, 70, 60], [0, 0, 0, 96, 80], [0, 20, 30, 25, 70]])


def test_is_the_largest_cell_of_the_mean_over_time(maps):
    head = make()
    pooled = []
    for each in maps:
        grid = ops.roi_align(
            each.mean(1),
            BOXES[:, 1:],
            BOXES[:, 0].astype(int),
            size=(7, 7),
            scale=1 / 16,
            aligned=False,
        )
        pooled.append(np.asarray(grid).max((1, 2)))
    kernel, bias = head.projection.kernel[...], head.projection.bias[...]
    expected = np.concatenate(pooled, axis=-1) @ kernel + bias[None, :]
    np.testing.assert_allclose(head(*maps, boxes=BOXES), expected, atol=1e-6)


def test_each_mode_gives_its_probabilities_in_evaluation_and_logits_in_training(maps):
    logits = make()(*maps, boxes=BOXES)
    for mode, function in (
        ("sigmoid_mean", jax.nn.sigmoid),
        ("softmax_mean", jax.nn.softmax),
    ):
        head = make(mode=mode, rate=0.0)
        np.testing.assert_allclose(
            head(*maps, boxes=BOXES), function(logits), atol=1e-6
        )
        head.train()
        dropout.seed(head, jax.random.key(0))
        np.testing.assert_allclose(head(*maps, boxes=BOXES), logits, atol=1e-6)


def test_rows_that_pad_score_zero_and_teach_nothing(maps):
    head = make(mode="sigmoid_mean")
    pads = jnp.array([[-1.0, np.nan, 0, 1, 1], [-1, 0, 0, 96, 80]])

    @jax.jit
    def score(maps, boxes):
        return head(*maps, boxes=boxes)

    alone = score(maps, BOXES)
    padded = score(maps, jnp.concatenate([BOXES, pads]))
    np.testing.assert_allclose(padded[:3], alone, atol=1e-6)
    np.testing.assert_array_equal(padded[3:], 0)
    slopes = jax.grad(lambda maps: jnp.sum(score(maps, pads)))(maps)
    assert all(not np.any(slope) for slope in slopes)


SMALL = {"crop_size": 32, "width": 8, "blocks": (1, 1, 1, 1), "num_classes": 3}


@pytest.fixture(scope="module")
def detector():
    config = networks.Config(
        **SMALL, regions="aligned", head_mode="sigmoid_mean", zero_init=False
    )
    model = networks.Model(config, rngs=nnx.Rngs(0))
    model.eval()
    graph, state = nnx.split(model)

    @jax.jit
    def score(clip, boxes):
        return nnx.merge(graph, state, copy=True)(clip, boxes)

    return model, score


@pytest.mark.slow
def test_a_network_scores_boxes_of_several_clips_each_by_itself(rng, detector):
    model, score = detector
    clip = jnp.asarray(rng.uniform(size=(2, 2, 48, 64, 3)), jnp.float32)
    boxes = jnp.array([[1.0, 0, 0, 64, 48], [0, 5, 6, 40, 44], [0, 0, 0, 64, 48]])
    scores = score(clip, boxes)
    assert scores.shape == (3, 3)
    np.testing.assert_allclose(model(clip), scores[jnp.array([2, 0])], atol=1e-5)
    swapped = score(clip[::-1], boxes.at[:, 0].set(1 - boxes[:, 0]))
    np.testing.assert_allclose(swapped, scores, atol=1e-5)


def test_the_last_stage_keeps_the_size_of_the_one_before(detector):
    model, _ = detector
    clip = jax.ShapeDtypeStruct((1, 2, 64, 96, 3), jnp.float32)
    graph, state = nnx.split(model)
    shape = jax.eval_shape(lambda x: nnx.merge(graph, state).features(x), clip).shape
    assert shape == (1, 2, 4, 6, 256)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([2.0, 0, 0, 9, 9], "row 1 of `boxes` must be of example 0 to 1, or -1"),
        ([0.5, 0, 0, 9, 9], "must be of example"),
        ([0.0, np.nan, 0, 9, 9], "must be finite"),
        ([0.0, 0, 0, np.inf, 9], "must be finite"),
        ([0.0, 9, 0, 3, 9], "must have x1 <= x2"),
    ],
)
def test_a_bad_box_is_one_clear_error(row, message):
    with pytest.raises(ValueError, match=message):
        box_head.check_boxes(np.array([[0.0, 0, 0, 9, 9], row]), 2)


@pytest.mark.parametrize("shape", [(5,), (2, 4), (1, 2, 5)])
def test_boxes_of_another_shape_are_one_clear_error(shape):
    with pytest.raises(ValueError, match=r"`boxes` must be \(K, 5\)"):
        box_head.check_boxes(np.zeros(shape), 2)


def test_rows_that_pad_may_hold_anything():
    rows = np.array([[-1, np.nan, 9, np.inf, 3], [0, 1, 1, 1, 1]])
    assert box_head.check_boxes(rows, 1).dtype == jnp.float32


def test_a_classifier_of_clips_refuses_boxes():
    model = slowfast.Model(slowfast.TINY, rngs=nnx.Rngs(0))
    clip = jnp.zeros((1, 8, 32, 32, 3))
    with pytest.raises(ValueError, match="`boxes` must be None"):
        jax.eval_shape(lambda clip: model(clip, np.zeros((1, 5))), clip)


def test_slowfast_dilates_both_pathways():
    config = dataclasses.replace(slowfast.TINY, regions="legacy")
    model = slowfast.Model(config, rngs=nnx.Rngs(0))
    clip = jax.ShapeDtypeStruct((1, 8, 64, 96, 3), jnp.float32)
    slow, fast = jax.eval_shape(model.features, clip)
    assert slow.shape == (1, 2, 4, 6, 256)
    assert fast.shape == (1, 8, 4, 6, 128)


def test_whole_frames_are_one_box_an_example():
    boxes = box_head.whole_frames(jnp.zeros((2, 1, 30, 40, 3)))
    np.testing.assert_array_equal(boxes, [[0, 0, 0, 40, 30], [1, 0, 0, 40, 30]])


def test_the_head_follows_the_config():
    of_clips = networks.Config(**SMALL)
    of_boxes = dataclasses.replace(of_clips, regions="legacy")
    head = box_head.head_of(8, of_clips, rngs=nnx.Rngs(0))
    assert isinstance(head, resnet3d.Head)
    head = box_head.head_of(8, of_boxes, rngs=nnx.Rngs(0))
    assert isinstance(head, box_head.BoxHead) and not head.aligned
