"""Tests for jaxflow.data.synthetic."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow import ops
from jaxflow.data import synthetic

SIZE = (96, 128)
BATCH = 8


def examine(key, preset, size=SIZE):
    """A pair of frames, and what its scene says about where its points go."""
    scene = synthetic.draw_scene(key, preset=preset, size=size)
    pair = synthetic.flow_pair(key, preset=preset, size=size)
    grid = ops.pixel_grid(*size).astype(pair["flow"].dtype)
    there, label_there = synthetic.render(scene, grid + pair["flow"], frame=2)
    here, _ = synthetic.render(scene, grid + pair["flow_backward"], frame=1)
    motion = scene.layers.backward[label_there]
    arrived = grid + pair["flow"] - scene.centre[None, None]
    homogeneous = jnp.concatenate([arrived, jnp.ones_like(arrived[..., :1])], axis=-1)
    moved = homogeneous + jnp.sum(motion * homogeneous[..., None, :], axis=-1)
    returned = moved[..., :2] / moved[..., 2:] + scene.centre[None, None]
    return pair | {
        "there": there,
        "here": here,
        "label_there": label_there,
        "return_trip": returned - grid,
        "target": grid + pair["flow"],
    }


@functools.cache
def batch(preset):
    keys = jax.random.split(jax.random.key(0), BATCH)
    draw = jax.jit(jax.vmap(functools.partial(examine, preset=preset)))
    return jax.tree.map(np.asarray, draw(keys))


def brightness_error(sample):
    """Largest change of colour of a point that both frames show, forth and back."""
    forth = np.abs(sample["there"] - sample["image1"])[~sample["occlusion"]]
    back = np.abs(sample["here"] - sample["image2"])[~sample["occlusion_backward"]]
    return max(forth.max(), back.max())


@pytest.mark.parametrize(
    "preset",
    [
        pytest.param(preset, marks=[] if preset == "things" else pytest.mark.slow)
        for preset in synthetic.PRESETS
    ],
)
def test_visible_points_keep_their_colour(preset):
    # float32 holds a position of 64 px to 4e-6 px, and colours change by < 0.5 a px.
    assert brightness_error(batch(preset)) <= 1e-5


def test_visible_points_keep_their_colour_to_the_last_digit_in_float64(double):
    draw = jax.jit(functools.partial(examine, preset="things", size=(48, 64)))
    sample = jax.tree.map(np.asarray, draw(jax.random.key(1)))
    assert sample["image1"].dtype == np.float64
    assert brightness_error(sample) < 1e-12


@pytest.mark.parametrize("preset", synthetic.PRESETS)
def test_backward_motion_undoes_forward_motion_where_visible(preset):
    sample = batch(preset)
    error = np.abs(sample["return_trip"])[~sample["occlusion"]]
    # Two homographies in float32 at 64 px.
    assert error.max() < 1e-4


@pytest.mark.parametrize("preset", synthetic.PRESETS)
def test_occlusion_is_what_the_other_frame_does_not_show(preset):
    sample = batch(preset)
    last = np.array(SIZE[::-1]) - 1
    inside = ((sample["target"] >= 0) & (sample["target"] <= last)).all(-1)
    expected = ~inside | (sample["label_there"] != sample["label"])
    # A point on an outline or on the border may fall on either side of it.
    assert np.mean(expected != sample["occlusion"]) < 1e-3
    assert 0 < np.mean(expected) < 0.6


def test_warping_frame_2_gives_frame_1_up_to_interpolation():
    sample = batch("chairs")
    warped = ops.backward_warp(sample["image2"], sample["flow"])
    error = np.abs(np.asarray(warped) - sample["image1"]).mean(-1)
    still = np.abs(sample["image2"] - sample["image1"]).mean(-1)
    visible = ~sample["occlusion"]
    assert error[visible].mean() < 0.02
    assert error[visible].mean() < 0.3 * still[visible].mean()


def test_a_scene_without_motion_stands_still():
    still = dataclasses.replace(
        synthetic.PRESETS["things"],
        background=synthetic.Motion(),
        objects=synthetic.Motion(),
    )
    draw = functools.partial(synthetic.flow_pair, preset=still, size=(48, 64))
    pair = jax.jit(draw)(jax.random.key(0))
    np.testing.assert_array_equal(pair["flow"], 0)
    # Each is computed by itself, and rounded.
    np.testing.assert_allclose(pair["image1"], pair["image2"], atol=2e-6)
    assert not np.any(pair["occlusion"])


def test_translation_moves_each_layer_as_one():
    sample = batch("translation")
    for label, flow in zip(sample["label"], sample["flow"], strict=True):
        for layer in np.unique(label):
            spread = np.ptp(flow[label == layer], axis=0)
            np.testing.assert_allclose(spread, 0, atol=1e-4)


def test_sdhom_moves_by_less_than_a_pixel_mostly():
    magnitude = np.linalg.norm(batch("sdhom")["flow"], axis=-1)
    assert np.mean(magnitude < 1) > 0.6


def test_a_batch_holds_the_samples_of_its_split_keys():
    draw = functools.partial(
        synthetic.flow_batch, preset="translation", batch_size=BATCH, size=SIZE
    )
    actual = jax.jit(draw)(jax.random.key(0))
    # Rounding differs between the two programs, and decides at an outline.
    same = np.isclose(actual["image1"], batch("translation")["image1"], atol=1e-4)
    assert np.mean(same) > 0.999


def test_images_are_in_range_and_not_flat():
    sample = batch("chairs")
    for name in ("image1", "image2"):
        assert sample[name].min() >= 0 and sample[name].max() <= 1
        assert sample[name].std(axis=(1, 2, 3)).min() > 0.02
        assert sample[name].dtype == np.float32


def test_rejects_what_it_cannot_draw():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match=r"`preset` must be one of 'translation'"):
        synthetic.flow_pair(key, preset="tables")
    with pytest.raises(ValueError, match=r"`size` must be positive; got 0"):
        synthetic.flow_pair(key, size=(0, 4))
    with pytest.raises(ValueError, match=r"`batch_size` must be positive"):
        synthetic.flow_batch(key, batch_size=0)
    with pytest.raises(ValueError, match=r"`frame` must be one of 1, 2; got 3"):
        synthetic.render(None, jnp.zeros((1, 2)), frame=3)


def test_pictures_move_with_the_layers_that_they_paint(rng):
    bank = jnp.asarray(rng.integers(0, 256, (3, 32, 32, 3)), jnp.uint8)
    recipe = dataclasses.replace(synthetic.PRESETS["world"], pictures=1.0, flat=0.0)

    @jax.jit
    def draw(key):
        scene = synthetic.draw_scene(key, preset=recipe, size=SIZE)
        pair = synthetic.flow_pair(key, preset=recipe, size=SIZE, textures=bank)
        grid = ops.pixel_grid(*SIZE)
        there, _ = synthetic.render(scene, grid + pair["flow"], frame=2, textures=bank)
        plain = synthetic.flow_pair(key, preset=recipe, size=SIZE)
        return pair, there, plain

    pair, there, plain = jax.tree.map(np.asarray, draw(jax.random.key(3)))
    seen = ~pair["occlusion"]
    # Positions of some 100 px are known to 1e-5 px; a picture's colour may change by 1
    # from a pixel to the next.
    assert np.abs(there - pair["image1"])[seen].max() < 1e-3
    # The scene is the same, its looks are not.
    np.testing.assert_array_equal(pair["flow"], plain["flow"])
    assert np.abs(pair["image1"] - plain["image1"]).mean() > 0.05


def test_an_exposure_of_no_time_gives_the_frames():
    def draw(key):
        scene = synthetic.draw_scene(key, preset="world", size=SIZE)
        pair = synthetic.flow_pair(key, preset="world", size=SIZE)
        return pair, synthetic.expose(scene, SIZE, exposure=0.0, samples=1)

    pair, (first, second) = jax.jit(draw)(jax.random.key(3))
    # Rounding decides at an outline, and moves a point by 1e-5 px elsewhere.
    assert np.mean(np.isclose(first, pair["image1"], atol=1e-4)) > 0.999
    assert np.mean(np.isclose(second, pair["image2"], atol=1e-4)) > 0.999


def test_a_picture_that_passes_by_is_blurred_by_a_box_of_its_way():
    moving = synthetic.Motion(translation=synthetic.Spread(sigma=6.0, limit=12.0))
    recipe = synthetic.Recipe(background=moving, objects=moving, count=(0, 0))

    def draw(key):
        scene = synthetic.draw_scene(key, preset=recipe, size=SIZE)
        return scene, synthetic.expose(scene, SIZE, exposure=0.5, samples=40)

    scene, frames = jax.jit(draw)(jax.random.key(1))
    u, v = np.asarray(scene.layers.forward)[0, :2, 2]
    assert np.hypot(u, v) > 1.5
    # The mean over the way, 1/4 of it to either side, by Gauss and Legendre.
    places, weights = np.polynomial.legendre.leggauss(8)
    for frame, blurred in zip((1, 2), frames, strict=True):
        look = jax.jit(functools.partial(synthetic.render, frame=frame))
        expected = np.zeros((*SIZE, 3))
        for place, weight in zip(places, weights, strict=True):
            points = ops.pixel_grid(*SIZE) + (place / 4) * jnp.array([[[u, v]]])
            expected += weight / 2 * np.asarray(look(scene, points)[0])
        # 40 pictures of at most 3 px: steps of 0.08 px.
        np.testing.assert_allclose(blurred, expected, atol=2e-3)


def test_rejects_an_exposure_without_pictures():
    with pytest.raises(ValueError, match=r"`samples` must be positive; got 0"):
        synthetic.expose(None, SIZE, exposure=0.5, samples=0)
