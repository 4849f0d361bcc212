"""Tests for jaxflow.data.augment_clips."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow import ops
from jaxflow.data import augment_clips, clips, photometric

KEYS = jax.random.split(jax.random.key(0), 300)


def ramp(height, width, frames=2):
    """A clip whose colour is its position, so that it says where it came from."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    frame = np.stack([y / 100, x / 100, 0 * x + 0.5], -1)
    return np.stack([frame] * frames)


def many(function, keys=KEYS):
    return np.asarray(jax.jit(jax.vmap(function))(keys))


@pytest.mark.parametrize(("height", "width"), [(24, 37), (40, 23)])
def test_scale_jitter_is_resizing_then_cropping(height, width):
    clip = ramp(height, width)
    crop = functools.partial(
        augment_clips.scale_and_crop, clip=clip, size=20, short_side=(22, 24)
    )
    found = many(lambda key: crop(key), KEYS[:60])
    assert found.shape == (60, 2, 20, 20, 3)
    whole = {}
    for side in range(22, 25):
        shape = [length * side // min(height, width) for length in (height, width)]
        whole[side] = np.asarray(ops.resize(clip, tuple(shape), antialias=False))
    seen = set()
    short = int(width < height)
    for result in found:
        step = (result[0, 11, 11] - result[0, 10, 10])[short]
        side = round(min(height, width) / (100 * step))
        resized = whole[min(max(side, 22), 24)]
        # The crop is where its middle pixel is.
        error = np.abs(resized[0] - result[0, 10, 10]).sum(-1)
        y, x = np.unravel_index(error.argmin(), error.shape)
        expected = resized[:, y - 10 : y + 10, x - 10 : x + 10]
        np.testing.assert_allclose(result, expected, atol=2e-5)
        seen.add((resized.shape[1], y == 10, x == 10))
    assert {shape for shape, _, _ in seen} == {r.shape[1] for r in whole.values()}


def test_crops_without_scaling_reach_every_corner_and_take_uint8():
    clip = np.stack(np.broadcast_arrays(*np.mgrid[:12, :16], 7), -1)[None]
    crop = functools.partial(
        augment_clips.scale_and_crop, clip=jnp.asarray(clip, jnp.uint8), size=10
    )
    found = np.rint(255 * many(lambda key: crop(key))[:, 0])
    corners = {tuple(result[0, 0, :2].astype(int)) for result in found}
    assert corners == {(y, x) for y in range(3) for x in range(7)}
    y, x = found[0, 0, 0, :2].astype(int)
    np.testing.assert_array_equal(found[0], clip[0, y : y + 10, x : x + 10])


def test_parts_of_random_shape_are_within_their_ranges():
    clip = ramp(40, 60)
    crop = functools.partial(
        augment_clips.resized_crop, clip=clip, size=16, area=(0.1, 0.5)
    )
    found = many(lambda key: crop(key))[:, 0]
    # Between pixel centres of a part, positions rise by its side / 16.
    height = 1600 * (found[:, 9, 8, 0] - found[:, 8, 8, 0])
    width = 1600 * (found[:, 8, 9, 1] - found[:, 8, 8, 1])
    np.testing.assert_allclose(height, np.rint(height), atol=0.02)
    # Sides are rounded.
    assert 0.1 * 2400 - 30 < (height * width).min() < 400
    assert 1000 < (height * width).max() < 0.5 * 2400 + 40
    ratio = width / height
    assert 0.7 < ratio.min() < 0.85 and 1.2 < ratio.max() < 1.42
    top = 100 * found[:, :, :, 0].min((1, 2))
    assert top.min() < 1 and (100 * found[..., 0].max((1, 2))).max() > 37
    # A part that cannot fit is the largest from the middle that has an allowed ratio.
    part = augment_clips.resized_crop(
        KEYS[0], clip, size=8, area=(1.0, 1.0), ratio=(1.0, 1.0)
    )
    middle = ops.resize(clip[:, :, 10:50], (8, 8), antialias=False)
    np.testing.assert_allclose(part, middle, atol=1e-5)


def test_mirroring_is_numpys_flip_half_of_the_time():
    clip = np.random.default_rng(0).integers(0, 256, (3, 5, 6, 3), np.uint8)
    found = many(lambda key: augment_clips.flip_clip(key, clip))
    assert found.dtype == np.uint8
    mirrored = (found == np.flip(clip, 2)).all((1, 2, 3, 4))
    assert (mirrored | (found == clip).all((1, 2, 3, 4))).all()
    # Four standard deviations of a share of 300.
    assert abs(mirrored.mean() - 0.5) < 0.12
    never = many(lambda key: augment_clips.flip_clip(key, clip, probability=0.0))
    assert (never == clip).all()


def test_colours_change_in_every_frame_by_the_same_factors():
    rng = np.random.default_rng(0)
    clip = rng.uniform(0.3, 0.6, (2, 6, 7, 3)).astype(np.float32)
    ranges = photometric.Jitter(brightness=0.4, contrast=0, saturation=0, hue=0)
    found = many(
        lambda key: augment_clips.jitter_clip(key, clip, ranges=ranges), KEYS[:50]
    )
    factors = found / clip
    np.testing.assert_allclose(
        factors, factors[:, :1, :1, :1, :1] + 0 * clip, rtol=1e-5
    )
    spread = factors[:, 0, 0, 0, 0]
    assert 0.6 <= spread.min() < 0.75 and 1.25 < spread.max() <= 1.4
    # Contrast is about the mean grey of the frame, which stays.
    ranges = photometric.Jitter(brightness=0, contrast=0.5, saturation=0, hue=0)
    found = many(
        lambda key: augment_clips.jitter_clip(key, clip, ranges=ranges), KEYS[:50]
    )
    grey = found @ np.array([0.299, 0.587, 0.114])
    expected = (clip @ np.array([0.299, 0.587, 0.114])).mean((1, 2))
    np.testing.assert_allclose(
        grey.mean((2, 3)), expected + 0 * grey[..., 0, 0], rtol=1e-5
    )


def test_a_box_is_erased_in_all_frames_at_one_place():
    clip = np.full((3, 20, 30, 3), 2.0, np.float32)  # No noise is as large.
    erase = functools.partial(augment_clips.erase_box, clip=clip, probability=0.5)
    found = many(lambda key: erase(key))
    erased = (found != 2).all(-1)
    assert ((found != 2).any(-1) == erased).all()
    assert (erased == erased[:, :1]).all()
    some = erased[:, 0].any((1, 2))
    assert abs(some.mean() - 0.5) < 0.12
    areas, rows, columns = [], [], []
    for mask in erased[some, 0]:
        y, x = np.nonzero(mask)
        assert mask[y.min() : y.max() + 1, x.min() : x.max() + 1].all()
        rows.append(np.ptp(y) + 1)
        columns.append(np.ptp(x) + 1)
        areas.append(mask.mean())
    ratio = np.array(columns) / np.array(rows)
    assert 0.01 < min(areas) < 0.06 and 0.25 < max(areas) < 0.36
    # Sides are whole numbers: the ratio of a small box is rough.
    assert 0.2 < ratio.min() < 0.6 and 1.8 < ratio.max() < 4.5
    first = found[np.argmax(some)]
    noise = first[erased[np.argmax(some)]]
    assert 0 <= noise.min() and noise.max() < 1 and noise.std() > 0.2
    frames = [first[t][erased[np.argmax(some)][t]] for t in (0, 1)]
    assert not np.array_equal(*frames)


def batch(classes=5, size=6):
    rng = np.random.default_rng(0)
    clips = rng.uniform(size=(size, 2, 16, 20, 3)).astype(np.float32)
    return clips, np.asarray(jax.nn.one_hot(np.arange(size) % classes, classes))


def test_mixup_is_one_blend_of_clips_and_labels():
    clips, labels = batch(classes=6)
    mix = jax.jit(functools.partial(augment_clips.mixup, alpha=0.8))
    weights = []
    for key in KEYS[:60]:
        mixed, shares = map(np.asarray, mix(key, clips, labels))
        np.testing.assert_allclose(shares.sum(1), 1, atol=1e-6)
        # With a class of its own, a label says who was blended: x is linear in y.
        np.testing.assert_allclose(
            mixed, np.einsum("ij,j...->i...", shares, clips), atol=1e-5
        )
        weights += list(np.diagonal(shares))
    weights = [w for w in weights if w < 1]
    assert np.mean(weights) == pytest.approx(0.5, abs=0.15)


def test_the_weights_of_mixup_are_of_the_beta_distribution():
    clips, labels = np.zeros((2, 1, 1, 1, 3), np.float32), np.eye(2)
    stats = pytest.importorskip("scipy.stats")
    keys = jax.random.split(jax.random.key(1), 4000)
    shares = many(lambda k: augment_clips.mixup(k, clips, labels, alpha=0.4)[1], keys)
    weights = shares[:, 0, 0]
    weights = weights[weights < 1]  # Where the partner is another one.
    assert abs(len(weights) - 2000) < 130
    assert stats.kstest(weights, stats.beta(0.4, 0.4).cdf).pvalue > 1e-3


def test_cutmix_pastes_a_box_and_mixes_labels_by_its_area():
    clips, labels = batch(classes=6)
    mix = jax.jit(augment_clips.cutmix)
    areas = []
    for key in KEYS[:60]:
        mixed, shares = map(np.asarray, mix(key, clips, labels))
        assert (mixed.shape, mixed.dtype) == (clips.shape, clips.dtype)
        np.testing.assert_allclose(shares.sum(1), 1, atol=1e-6)
        for i in range(len(clips)):
            pasted = (mixed[i] != clips[i]).any(-1)
            assert (pasted == pasted[:1]).all()
            others = [j for j in np.flatnonzero(shares[i]) if j != i]
            if not others:
                assert not pasted.any()
                continue
            assert shares[i, others[0]] == pytest.approx(pasted[0].mean(), abs=1e-6)
            y, x = np.nonzero(pasted[0])
            box = np.s_[:, y.min() : y.max() + 1, x.min() : x.max() + 1]
            assert pasted[box].all()
            np.testing.assert_array_equal(mixed[i][box], clips[others[0]][box])
            areas.append(pasted[0].mean())
    assert min(areas) < 0.1 and max(areas) > 0.5


@pytest.mark.slow  # It compiles every operation.
def test_a_batch_is_augmented_clip_by_clip():
    rng = np.random.default_rng(0)
    clips = rng.integers(0, 256, (3, 2, 20, 26, 3), np.uint8)
    clips[1] = clips[0]
    run = functools.partial(
        augment_clips.augment_batch,
        size=12,
        short_side=(14, 18),
        colour=augment_clips.JITTER,
        layers=2,
        erase=0.5,
    )
    run = jax.jit(run)
    found = np.asarray(run(KEYS[0], clips))
    assert found.shape == (3, 2, 12, 12, 3) and found.dtype == np.float32
    assert 0 <= found.min() and found.max() <= 1 and np.isfinite(found).all()
    assert not np.array_equal(found[0], found[1])
    np.testing.assert_array_equal(found, run(KEYS[0], clips))


def test_a_batch_of_uint8_is_cropped_where_nothing_else_is_asked_for():
    rng = np.random.default_rng(0)
    clips = rng.integers(0, 256, (3, 2, 20, 26, 3), np.uint8)
    plain = augment_clips.augment_batch(KEYS[0], clips, size=20, flip=0.0)
    assert any(
        np.array_equal(np.rint(255 * plain[0]), clips[0][:, :, x : x + 20])
        for x in range(7)
    )


@pytest.mark.parametrize(
    ("function", "arguments", "options", "said"),
    [
        ("scale_and_crop", 4, {"size": 30}, "`short_side`"),
        ("scale_and_crop", 5, {"size": 10}, r"must be \(T, H, W, 3\)"),
        ("resized_crop", 4, {"area": (0.0, 1.0)}, "`area`"),
        ("resized_crop", 4, {"ratio": (2.0, 1.0)}, "`ratio`"),
        ("erase_box", 4, {"area": (0.1, 1.5)}, "`area`"),
        ("augment_batch", 4, {}, r"must be \(B, T, H, W, 3\)"),
    ],
)
def test_numbers_out_of_range_are_refused(function, arguments, options, said):
    clip = np.zeros((2, 2, 20, 20, 3)[5 - arguments :], np.float32)
    with pytest.raises(ValueError, match=said):
        getattr(augment_clips, function)(KEYS[0], clip, **options)


def test_labels_that_are_no_shares_and_clips_of_integers_are_refused():
    clips, labels = batch()
    for function in (augment_clips.mixup, augment_clips.cutmix):
        with pytest.raises(ValueError, match="`labels` must be"):
            function(KEYS[0], clips, labels.argmax(1))
        with pytest.raises(ValueError, match="`alpha`"):
            function(KEYS[0], clips, labels, alpha=0)
    with pytest.raises(ValueError, match="must be uint8 or float"):
        augment_clips.mixup(KEYS[0], clips.astype(np.int32), labels)


def test_the_loader_and_the_device_scale_alike():
    clip = np.random.default_rng(0).integers(0, 256, (2, 15, 24, 3), np.uint8)
    expected = clips.resized_crop(clip, 15, 15)
    found = many(lambda key: augment_clips.scale_and_crop(key, clip, size=15))
    # One of ten places is the middle.
    assert np.isclose(found, expected, atol=1e-6).all((1, 2, 3, 4)).any()
