"""Tests for jaxflow.data.walkers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import linear_model, pipeline, preprocessing

from jaxflow.data import motion_classes, walkers

# Head; shoulders, elbows, wrists, hips, knees and ankles, each left and right.
BONES = ((1, 3), (2, 4), (3, 5), (4, 6), (7, 9), (8, 10), (9, 11), (10, 12))
LENGTHS = (0.17, 0.17, 0.15, 0.15, 0.24, 0.24, 0.23, 0.23)


def test_bones_keep_their_length_and_moves_repeat():
    phase = jnp.linspace(0, 2 * np.pi, 9)
    joints = jax.jit(walkers.joints)
    for move in range(len(walkers.MOVES)):
        places = np.asarray(joints(move, phase))
        assert places.shape == (9, 13, 2)
        for (a, b), length in zip(BONES, LENGTHS, strict=True):
            lengths = np.linalg.norm(places[:, a] - places[:, b], axis=-1)
            np.testing.assert_allclose(lengths, length, atol=1e-5)
        np.testing.assert_allclose(places[0], places[-1], atol=1e-5)
        assert np.ptp(places, axis=0).max() > 0.1


def test_dots_are_where_they_are_asked_for():
    spots = np.asarray(
        walkers.render_dots(jnp.array([[[5.0, 2.0], [9.0, 7.0]]]), (20, 30))
    )
    assert spots.shape == (1, 20, 30)
    assert spots[0, 2, 5] == 1 and spots[0, 7, 9] == 1
    y, x = np.mgrid[:20, :30]
    first = np.exp(-0.5 * ((x - 5) ** 2 + (y - 2) ** 2) / 0.5**2)
    second = np.exp(-0.5 * ((x - 9) ** 2 + (y - 7) ** 2) / 0.5**2)
    np.testing.assert_allclose(spots[0], np.minimum(first + second, 1), atol=1e-5)


@functools.cache
def dancers():
    """Frames of 1000 clips projected on random directions, (N, T, 12), and labels."""
    data = motion_classes.load("train", 1000, task="dance", size=(32, 32))
    clips = np.asarray(data["clip"][..., 0]).reshape(1000, 16, -1)
    directions = np.random.default_rng(0).normal(size=(32 * 32, 12)) / 4
    return np.maximum((clips - 0.35) @ directions, 0), np.asarray(data["label"])


def told_apart(features):
    """Part of the clips told from their reversals by a logistic regression a pair."""
    right = []
    frames, labels = dancers()
    described = features(frames)
    (x, x_test), (y, y_test) = (np.split(a, [400]) for a in (described, labels))
    for pair in range(4):
        model = pipeline.make_pipeline(
            preprocessing.StandardScaler(),
            linear_model.LogisticRegression(C=0.01, max_iter=300),
        )
        model.fit(x[y // 2 == pair], y[y // 2 == pair])
        here = y_test // 2 == pair
        right.append(model.predict(x_test[here]) == y_test[here])
    return np.mean(np.concatenate(right))


def test_frames_without_their_order_do_not_tell_a_move_from_its_reversal():
    def unordered(frames):
        flat = frames[..., :, None] * frames[..., None, :]
        return np.concatenate(
            [frames.mean(1), frames.std(1), flat.mean(1).reshape(len(frames), -1)], -1
        )

    # 600 clips at chance: 0.5 with a standard deviation of 0.02.
    assert told_apart(unordered) == pytest.approx(0.5, abs=0.06)


def test_pairs_of_frames_tell_a_move_from_its_reversal():
    def ordered(frames):
        after = np.einsum("ntp,ntq->npq", frames[:, :-1], frames[:, 1:])
        turned = after - after.transpose(0, 2, 1)
        return turned[:, *np.triu_indices(12, 1)]

    assert told_apart(ordered) > 0.85


def test_a_dancer_is_seen_whole():
    draw = functools.partial(motion_classes.draw_clip, task="dance", noise=0.0)
    clip = jax.jit(draw)(jax.random.key(3), 0)
    assert clip.shape == (16, 48, 48, 3)
    frames = np.asarray(clip[..., 0])
    edges = np.concatenate([frames[:, [0, -1]].ravel(), frames[:, :, [0, -1]].ravel()])
    assert np.ptp(frames) > 0.3 and np.ptp(edges) < 0.2 * np.ptp(frames)
