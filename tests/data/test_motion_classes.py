"""Tests for jaxflow.data.motion_classes."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import linear_model, pipeline, preprocessing

from jaxflow.data import motion_classes

TASKS = motion_classes.TASKS
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@functools.cache
def all_classes(task, count=3, noise=0.0, frames=None):
    """Clips of every class from the same keys: (count, classes, T, H, W, 3)."""
    draw = functools.partial(
        motion_classes.draw_clip, task=task, noise=noise, frames=frames
    )
    labels = jnp.arange(len(TASKS[task].classes))
    keys = jax.random.split(jax.random.key(0), count)
    over_labels = jax.vmap(draw, (None, 0))
    return np.asarray(jax.jit(jax.vmap(over_labels, (0, None)))(keys, labels))


@functools.cache
def split(name, task, count):
    data = motion_classes.load(name, count, task=task)
    return np.asarray(data["clip"][..., 0]), np.asarray(data["label"])


@pytest.mark.parametrize("task", [t for t in TASKS if TASKS[t].pairs])
def test_the_classes_of_a_pair_are_each_others_time_reversal(task):
    clips = all_classes(task)
    last = 2 * TASKS[task].pairs
    forth, back = clips[:, 0:last:2], clips[:, 1:last:2]
    np.testing.assert_allclose(back, forth[:, :, ::-1], atol=1e-5)
    assert np.abs(back - forth).mean() > 0.01


def test_names_say_how_clips_move():
    clips = all_classes("motion8")[..., 0]
    motion = np.stack([global_motion(c) for c in clips.reshape(-1, *clips.shape[2:])])
    motion = motion.reshape(3, 8, 4).mean(0)
    names = TASKS["motion8"].classes
    for name, column, sign in (
        ("right", 0, 1), ("left", 0, -1), ("down", 1, 1), ("up", 1, -1),
        ("clockwise", 2, 1), ("counter-clockwise", 2, -1),
        ("zoom in", 3, 1), ("zoom out", 3, -1),
    ):  # fmt: skip
        found = motion[names.index(name)]
        assert np.argmax(np.abs(found)) == column and found[column] * sign > 0, name


def global_motion(clip):
    """Least squares for (u, v, rotation, divergence), the last two at 0.8 radius."""
    middle = (clip[1:] + clip[:-1]) / 2
    slope_y, slope_x = np.gradient(middle, axis=(1, 2))
    change = clip[1:] - clip[:-1]
    height, width = clip.shape[1:]
    y, x = (
        np.indices((height, width))
        - np.array([height - 1, width - 1])[:, None, None] / 2
    )
    y, x = y / (0.4 * height), x / (0.4 * height)
    design = np.stack(
        [slope_x, slope_y, x * slope_y - y * slope_x, x * slope_x + y * slope_y], -1
    )
    return np.linalg.lstsq(design.reshape(-1, 4), -change.ravel(), rcond=None)[0]


def test_motion8_is_solved_by_a_rule_on_global_motion():
    clips, labels = split("test", "motion8", 400)
    motion = np.stack([global_motion(clip) for clip in clips])
    axis = np.argmax(np.abs(motion), axis=1)
    sign = np.take_along_axis(motion, axis[:, None], axis=1)[:, 0]
    assert np.mean(2 * axis + (sign < 0) == labels) > 0.98


def test_order2_is_solved_by_the_change_of_speed():
    clips, labels = split("test", "order2", 200)
    right = []
    for clip, label in zip(clips, labels, strict=True):
        early, late = global_motion(clip[:4])[:2], global_motion(clip[-4:])[:2]
        total = global_motion(clip)[:2]
        direction = total / np.linalg.norm(total)
        change = (late - early) @ direction / np.linalg.norm(total)
        if label < 2:
            right.append((change < 0) == label)
    assert np.mean(right) > 0.98


def frame_features(name, task, count):
    """What a single frame shows: random convolutions, histogram, spectrum, averaged."""
    clips, labels = split(name, task, count)
    return np.stack([describe(clip).mean(0) for clip in clips]), labels


def describe(frames):
    """Features of each frame, (T, F), whatever the order of frames."""
    filters = np.random.default_rng(0).normal(size=(12, 25)) / 5
    windows = np.lib.stride_tricks.sliding_window_view(frames, (5, 5), axis=(1, 2))
    patches = windows[:, ::2, ::2].reshape(len(frames), -1, 25)
    response = np.maximum((patches - patches.mean(-1, keepdims=True)) @ filters.T, 0)
    spectrum = np.log(np.abs(np.fft.rfft2(frames))[:, :8, :8] + 1e-3)
    return np.concatenate(
        [
            response.mean(1) * 10,
            response.std(1) * 10,
            spectrum.reshape(len(frames), -1),
            frames.mean((1, 2))[:, None],
            frames.std((1, 2))[:, None],
        ],
        axis=1,
    )


def accuracy_within_pairs(train, test, pairs):
    """Part of the clips told from their reversals, by a logistic regression a pair."""
    right = []
    for pair in range(pairs):
        (x, y), (x_test, y_test) = (
            (features[labels // 2 == pair], labels[labels // 2 == pair])
            for features, labels in (train, test)
        )
        model = pipeline.make_pipeline(
            preprocessing.StandardScaler(),
            linear_model.LogisticRegression(C=0.1, max_iter=300),
        )
        right.append(model.fit(x, y).predict(x_test) == y_test)
    return np.mean(np.concatenate(right))


@pytest.mark.slow
def test_single_frames_do_not_tell_a_motion_from_its_reversal():
    train, test = (
        frame_features(name, "motion8", count)
        for name, count in (("train", 1200), ("test", 1600))
    )
    # 1600 clips at chance: 0.5 with a standard deviation of 0.0125.
    assert accuracy_within_pairs(train, test, 4) == pytest.approx(0.5, abs=0.03)


def test_the_mean_frame_does_not_tell_a_motion_from_its_reversal():
    train, test = (
        (np.stack([describe(c.mean(0)[None])[0] for c in clips]), labels)
        for clips, labels in (
            split("train", "motion8", 1200),
            split("test", "motion8", 1600),
        )
    )
    assert accuracy_within_pairs(train, test, 4) == pytest.approx(0.5, abs=0.03)


def test_luma_does_not_tell_the_tint_nor_a_frame_the_motion():
    clips = all_classes("product")
    luma = (clips @ LUMA).reshape(3, 4, 4, *clips.shape[2:5])
    # Clipping to [0, 1] is rare.
    assert np.mean(np.abs(luma - luma[:, :1]) > 1e-4) < 0.01
    middle = clips.reshape(3, 4, 4, *clips.shape[2:])[..., 0]
    assert np.abs(middle[:, 0] - middle[:, 2]).mean() > 0.05


def test_every_eighth_frame_of_fastslow_stands_still():
    clips = all_classes("fastslow")
    for start in range(8):
        seen = clips[:, :, start::8]
        np.testing.assert_allclose(
            seen, np.broadcast_to(seen[:, :, :1], seen.shape), atol=1e-4
        )
    motion = np.abs(np.diff(clips, axis=2)).mean((0, 2, 3, 4, 5)).reshape(4, 4)
    np.testing.assert_allclose(motion[:, 0], 0, atol=1e-6)
    assert (np.diff(motion, axis=1) > 0).all()


def test_half_the_size_loses_most_of_the_texture_of_fastslow():
    frames = all_classes("fastslow")[:, ::4, 0, ..., 0]
    half = frames.reshape(3, 4, 16, 2, 16, 2).mean((3, 5))
    assert (
        np.abs(frames - frames[:, :1]).mean() > 2.5 * np.abs(half - half[:, :1]).mean()
    )


def test_longclip_differs_only_in_its_last_frames():
    clips = all_classes("longclip", count=2)
    np.testing.assert_allclose(clips[:, 0, :120], clips[:, 1, :120], atol=1e-5)
    for same, opposite in clips[..., 0]:
        first = global_motion(same[:8])[:2]
        assert global_motion(same[-8:])[:2] @ first > 0
        assert global_motion(opposite[-8:])[:2] @ first < 0


@pytest.mark.parametrize("task", ["motion8", "motion8-local", "product"])
def test_a_batch_has_shapes_ranges_and_all_classes(task):
    draw = jax.jit(functools.partial(motion_classes.clip_batch, task=task))
    batch = draw(
        jax.random.key(0),
    )
    assert batch["clip"].shape == (32, 8, *TASKS[task].size, 3)
    assert batch["clip"].dtype == jnp.float32 and batch["label"].dtype == jnp.int32
    assert batch["clip"].min() >= 0 and batch["clip"].max() <= 1
    assert len(np.unique(batch["label"])) > 0.5 * len(TASKS[task].classes)
    if task != "product":
        np.testing.assert_array_equal(batch["clip"][..., 0], batch["clip"][..., 2])


def test_splits_are_fixed_balanced_and_share_no_clip():
    bounds = sorted(motion_classes.SPLITS.values())
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(bounds))
    train, labels = split("train", "motion8", 1200)
    test, _ = split("test", "motion8", 1600)
    assert (np.bincount(labels) == 150).all()
    prints = [hash(clip.round(2).tobytes()) for clip in (*train, *test)]
    assert len(set(prints)) == len(prints)
    again = motion_classes.load("train", 3)["clip"][..., 0]
    np.testing.assert_allclose(again, train[:3], atol=1e-5)


def test_length_and_size_can_be_chosen():
    clip = motion_classes.draw_clip(
        jax.random.key(0), 3, task="order2", frames=5, size=(12, 20)
    )
    assert clip.shape == (5, 12, 20, 3)


def test_rejects_what_it_cannot_draw():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="`task` must be one of 'motion8'"):
        motion_classes.clip_batch(key, task="motion9")
    with pytest.raises(ValueError, match="`frames` must be positive; got 0"):
        motion_classes.draw_clip(key, 0, frames=0)
    with pytest.raises(ValueError, match="`batch_size` must be positive"):
        motion_classes.clip_batch(key, batch_size=0)
    with pytest.raises(ValueError, match="`split` must be one of 'train'"):
        motion_classes.load("all", 1)
    with pytest.raises(ValueError, match="`count` must be from 1 to 100000; got 0"):
        motion_classes.load("test", 0)
