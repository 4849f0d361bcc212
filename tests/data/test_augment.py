"""Tests for jaxflow.data.augment."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow import ops
from jaxflow.data import augment, synthetic

OLD = (40, 56)
NEW = (32, 44)


def ramp_image(size):
    """A picture whose colour is its position, so that it says where it came from."""
    x, y = np.moveaxis(np.asarray(ops.pixel_grid(*size)), -1, 0)
    return np.stack([x / 100, y / 100, np.full_like(x, 0.5)], -1).astype(np.float32)


def affine_sample(motion):
    """Frames of a plane that moves by a 2x3 affine map, with its flow both ways."""
    grid = np.asarray(ops.pixel_grid(*OLD), np.float64)
    inverse = np.linalg.inv(np.vstack([motion, [0, 0, 1]]))[:2]
    forth = grid @ motion[:, :2].T + motion[:, 2] - grid
    back = grid @ inverse[:, :2].T + inverse[:, 2] - grid
    # Frame 2 shows at p what frame 1 shows at p + back(p).
    first = ramp_image(OLD)
    second = first + np.pad(back / 100, ((0, 0), (0, 0), (0, 1)))
    arrays = {
        "image1": first,
        "image2": second,
        "flow": forth,
        "flow_backward": back,
        "occlusion": np.zeros(OLD, bool),
    }
    return {
        k: jnp.asarray(v, v.dtype if v.dtype == bool else np.float32)
        for k, v in arrays.items()
    }


MOTION = np.array([[1.02, -0.05, 1.5], [0.04, 0.97, -2.0]])
RECIPES = {
    name: augment.Recipe(geometry=recipe.geometry, colour=None, lookup="bilinear")
    for name, recipe in augment.RECIPES.items()
    if name in ("flownet", "raft_chairs")
}


@functools.cache
def augmented(name, number=8):
    keys = jax.random.split(jax.random.key(0), number)
    draw = functools.partial(augment.augment, recipe=RECIPES[name], size=NEW)
    sample = affine_sample(MOTION)
    result = jax.jit(jax.vmap(lambda key: draw(key, sample)))(keys)
    maps = functools.partial(
        augment.draw_maps, ranges=RECIPES[name].geometry, old=OLD, new=NEW
    )
    place = jax.vmap(lambda key: jax.random.split(key, 4)[0])(keys)
    first, second = jax.jit(jax.vmap(maps))(place)
    return (*jax.tree.map(np.asarray, (result, first, second)),)


@pytest.mark.parametrize("name", RECIPES)
def test_flow_of_an_affine_motion_is_the_conjugate_motion(name):
    result, first, second = augmented(name)
    grid = np.asarray(ops.pixel_grid(*NEW), np.float64)
    homogeneous = np.concatenate([grid, np.ones((*NEW, 1))], axis=-1)
    motion = np.vstack([MOTION, [0, 0, 1]])
    for flow, back, valid, t1, t2 in zip(
        result["flow"],
        result["flow_backward"],
        result["valid"],
        first,
        second,
        strict=True,
    ):
        t1, t2 = t1.astype(np.float64), t2.astype(np.float64)
        expected = homogeneous @ (np.linalg.inv(t2) @ motion @ t1).T
        # Within the frame bilinear lookup of an affine flow is exact.
        np.testing.assert_allclose(
            flow[valid], (expected[..., :2] - grid)[valid], atol=2e-3
        )
        expected = homogeneous @ (np.linalg.inv(t1) @ np.linalg.inv(motion) @ t2).T
        inside = ((back > -100) & (back < 100)).all(-1) & valid
        error = np.abs(back - (expected[..., :2] - grid))[inside]
        assert np.quantile(error, 0.9) < 2e-3


@pytest.mark.parametrize("name", RECIPES)
def test_warping_new_frame_2_by_the_new_flow_gives_new_frame_1(name):
    result, _, _ = augmented(name)
    warped = np.asarray(ops.backward_warp(result["image2"], result["flow"]))
    grid = np.asarray(ops.pixel_grid(*NEW))
    target = grid + result["flow"]
    margin = 3
    last = np.array(NEW[::-1]) - 1 - margin
    # Away from where the old frames end and repeat their border.
    seen = ((target > margin) & (target < last)).all(-1) & result["valid"]
    seen &= (np.abs(result["image1"][..., :2] - 0.2) < 0.12).all(-1)
    assert np.mean(seen) > 0.02
    # Colours are linear in the position: bilinear sampling twice is exact.
    np.testing.assert_allclose(warped[seen], result["image1"][seen], atol=1e-4)


@pytest.mark.parametrize("name", RECIPES)
def test_points_that_leave_the_new_frame_are_occluded(name):
    result, _, _ = augmented(name)
    target = np.asarray(ops.pixel_grid(*NEW)) + result["flow"]
    outside = ((target < -0.01) | (target > np.array(NEW[::-1]) - 0.99)).any(-1)
    inside = ((target >= 0) & (target <= np.array(NEW[::-1]) - 1)).all(-1)
    assert result["occlusion"][outside].all()
    assert not result["occlusion"][inside].any()


def test_nearest_lookup_never_mixes_two_motions():
    sample = affine_sample(np.eye(3)[:2])
    motion = np.where(np.arange(OLD[1])[:, None] < 20, 0.0, 7.0)
    sample["flow"] = jnp.asarray(np.broadcast_to(motion, (*OLD, 2)), jnp.float32)
    shrink = jnp.diag(jnp.array([1.7, 1.3, 1.0]))
    result = augment.apply_maps(sample, shrink, shrink, size=NEW)
    expected = np.array([[0, 0], [7 / 1.7, 7 / 1.3]])
    found = np.unique(np.asarray(result["flow"])[..., 0].round(3))
    np.testing.assert_allclose(found, expected[:, 0], atol=2e-3)


def test_valid_is_carried_along_and_false_outside():
    sample = affine_sample(MOTION) | {
        "valid": jnp.broadcast_to(jnp.arange(OLD[1]) > 10, OLD)
    }
    shift = jnp.array([[1.0, 0.0, 5.0], [0.0, 1.0, -3.0], [0.0, 0.0, 1.0]])
    result = augment.apply_maps(sample, shift, shift, size=OLD)
    expected = np.zeros(OLD, bool)
    expected[3:, 6:51] = True
    np.testing.assert_array_equal(result["valid"], expected)


def test_the_identity_changes_nothing():
    sample = affine_sample(MOTION)
    result = augment.apply_maps(sample, jnp.eye(3), jnp.eye(3), size=OLD)
    for name in ("image1", "image2", "flow", "flow_backward"):
        np.testing.assert_allclose(result[name], sample[name], atol=1e-4)
    assert result["valid"].all()


@pytest.mark.parametrize("recipe", ["flownet", "raft_kitti"])
def test_recipes_keep_shapes_ranges_and_types(recipe):
    batch = jax.jit(
        functools.partial(synthetic.flow_batch, batch_size=2, size=(64, 80))
    )(jax.random.key(0))
    change = functools.partial(augment.augment_batch, recipe=recipe, size=(48, 64))
    result = jax.jit(change)(jax.random.key(1), batch, strength=augment.ramp(25_000))
    assert result["image1"].shape == result["image2"].shape == (2, 48, 64, 3)
    assert result["flow"].shape == result["flow_backward"].shape == (2, 48, 64, 2)
    for name in ("valid", "occlusion", "occlusion_backward"):
        assert result[name].shape == (2, 48, 64) and result[name].dtype == bool
    images = np.stack([result["image1"], result["image2"]])
    assert images.min() >= 0 and images.max() <= 1 and np.isfinite(images).all()
    assert np.isfinite(result["flow"]).all()
    assert not np.allclose(result["image1"][0], result["image1"][1])


def test_ramp_is_that_of_flownet2():
    for step in (0, 50_000, 10**7):
        expected = 0.5 + 0.5 * (2 / (1 + math.exp(-1.0986 * step / 50_000)) - 1)
        assert augment.ramp(step) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("flip", "axis", "sign"),
    [
        (augment.flip_horizontal, 1, (-1, 1)),
        (augment.flip_vertical, 0, (1, -1)),
    ],
)
def test_a_flip_mirrors_frames_and_flow(flip, axis, sign):
    sample = affine_sample(MOTION)
    flipped = flip(sample)
    np.testing.assert_array_equal(
        flipped["image1"], np.flip(np.asarray(sample["image1"]), axis)
    )
    np.testing.assert_array_equal(
        flipped["flow"],
        np.flip(np.asarray(sample["flow"]), axis) * np.array(sign, np.float32),
    )
    # It is the map that mirrors, up to the rounding of its inverse.
    start = np.where(np.array(sign) < 0, np.array(OLD[::-1]) - 1, 0)
    matrix = jnp.asarray(
        [[sign[0], 0, start[0]], [0, sign[1], start[1]], [0, 0, 1]], dtype=float
    )
    mapped = augment.apply_maps(sample, matrix, matrix, size=OLD)
    np.testing.assert_allclose(mapped["flow"], flipped["flow"], atol=1e-4)
    again = flip(flipped)
    for name in sample:
        np.testing.assert_array_equal(again[name], sample[name])


def test_a_crop_takes_one_window_of_everything():
    crop = jax.jit(functools.partial(augment.random_crop, size=(8, 9)))
    corners = set()
    for seed in range(20):
        cut = crop(jax.random.key(seed), affine_sample(MOTION))
        left, top = np.rint(np.asarray(cut["image1"])[0, 0, :2] * 100).astype(int)
        corners.add((top, left))
        for name, whole in affine_sample(MOTION).items():
            np.testing.assert_array_equal(
                cut[name], whole[top : top + 8, left : left + 9]
            )
    assert len(corners) > 15


def test_rejects_what_it_cannot_do():
    sample = affine_sample(MOTION)
    with pytest.raises(ValueError, match=r"`recipe` must be one of 'flownet'.*'raf'"):
        augment.augment(jax.random.key(0), sample, recipe="raf")
    with pytest.raises(ValueError, match="`lookup` must be one of"):
        augment.apply_maps(sample, jnp.eye(3), jnp.eye(3), size=OLD, lookup="cubic")
    with pytest.raises(ValueError, match=r"`size` \(41, 9\) is larger"):
        augment.random_crop(jax.random.key(0), sample, size=(41, 9))
    with pytest.raises(ValueError):
        augment.apply_maps(
            sample | {"flow": jnp.zeros((3, 3, 2))}, jnp.eye(3), jnp.eye(3), size=OLD
        )


def resize_sparse(flow, valid, scale):
    """Sparse flow after scaling: the definition, pixel by pixel."""
    height, width = (round(side * scale) for side in valid.shape)
    new_flow = np.zeros((height, width, 2), np.float32)
    new_valid = np.zeros((height, width), bool)
    for y, x in np.argwhere(valid):
        # Pixel centres: the corner of the frame stays, as when frames are resized.
        row = int(np.rint((y + 0.5) * scale - 0.5))
        column = int(np.rint((x + 0.5) * scale - 0.5))
        if 0 <= row < height and 0 <= column < width:
            new_flow[row, column] = scale * flow[y, x]
            new_valid[row, column] = True
    return new_flow, new_valid


@pytest.mark.parametrize("scale", [0.55, 1.0, 1.75])
def test_sparse_flow_is_carried_and_never_spread(rng, scale):
    sample = affine_sample(MOTION)
    sample["flow"] = jnp.asarray(rng.normal(size=(*OLD, 2)), jnp.float32)
    sample["valid"] = jnp.asarray(rng.uniform(size=OLD) < 0.3)
    size = tuple(round(side * scale) for side in OLD)
    start = 0.5 / scale - 0.5
    matrix = jnp.array([[1 / scale, 0, start], [0, 1 / scale, start], [0, 0, 1]])
    result = augment.apply_maps(sample, matrix, matrix, size=size, lookup="sparse")
    flow, valid = resize_sparse(
        *map(np.asarray, (sample["flow"], sample["valid"])), scale
    )
    np.testing.assert_array_equal(result["valid"], valid)
    np.testing.assert_allclose(result["flow"], flow, atol=1e-4)
    if scale >= 1:
        assert valid.sum() == np.sum(sample["valid"])


def test_warping_by_sparse_flow_gives_frame_1_where_it_is_known():
    draw = functools.partial(
        augment.augment,
        recipe=augment.Recipe(
            geometry=augment.ScaleAndCrop(), colour=None, lookup="sparse"
        ),
        size=NEW,
    )
    translation = np.array([[1.0, 0.0, 2.5], [0.0, 1.0, -1.25]])
    sample = affine_sample(translation)
    sample["valid"] = (jnp.arange(OLD[0] * OLD[1]) % 3 == 0).reshape(OLD)
    keys = jax.random.split(jax.random.key(0), 8)
    result = jax.jit(jax.vmap(lambda key: draw(key, sample)))(keys)
    warped = np.asarray(ops.backward_warp(result["image2"], result["flow"]))
    target = np.asarray(ops.pixel_grid(*NEW)) + np.asarray(result["flow"])
    seen = ((target > 3) & (target < np.array(NEW[::-1]) - 4)).all(-1)
    seen &= np.asarray(result["valid"])
    inside = (np.abs(np.asarray(result["image1"])[..., :2] - 0.2) < 0.12).all(-1)
    seen &= inside
    assert 0.002 < seen.mean() < 0.34
    # A translation is the same at every pixel, so that rounding places is without
    # effect.
    np.testing.assert_allclose(
        warped[seen], np.asarray(result["image1"])[seen], atol=1e-4
    )


def test_frames_of_8_bits_are_augmented_as_floats():
    sample = affine_sample(MOTION)
    bits = {
        n: jnp.round(255 * sample[n]).astype(jnp.uint8) for n in ("image1", "image2")
    }
    floats = {name: value.astype(jnp.float32) / 255 for name, value in bits.items()}
    run = functools.partial(augment.augment, jax.random.key(0), size=NEW)
    one = run(sample | bits, recipe=RECIPES["raft_chairs"])
    two = run(sample | floats, recipe=RECIPES["raft_chairs"])
    np.testing.assert_array_equal(one["image2"], two["image2"])
    assert one["image1"].dtype == np.float32
