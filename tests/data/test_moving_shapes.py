import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow.data import moving_shapes


@pytest.mark.parametrize("kind", moving_shapes.KINDS)
def test_clips_have_the_usual_shape_and_range(kind):
    chosen = moving_shapes.KINDS[kind]
    clips = moving_shapes.clip_batch(jax.random.key(0), kind=kind, batch_size=3)
    assert clips.shape == (3, chosen.frames, *chosen.size, 1)
    assert clips.dtype == jnp.float32
    assert clips.min() == -1
    np.testing.assert_allclose(clips.max(), 1, atol=0.3)
    assert np.abs(clips[0] - clips[1]).max() > 1
    assert np.all(np.abs(np.diff(clips, axis=1)).max((2, 3, 4)) > 0.1)


def test_points_reflect_as_a_folded_line_does(rng):
    start = jnp.float32(rng.uniform(2, 8, size=(5, 2)))
    velocity = jnp.float32(rng.uniform(-3, 3, size=(5, 2)))
    low, high = jnp.full(2, 2.0), jnp.full(2, 8.0)
    path = moving_shapes.bounce(start, velocity, low, high, None, frames=40)
    # A triangle wave of period 12, in closed form.
    line = np.asarray(start) + np.arange(40)[:, None, None] * np.asarray(velocity)
    expected = 8 - np.abs((line - 2) % 12 - 6)
    np.testing.assert_allclose(path, expected, atol=1e-4)


def test_walls_send_points_on_in_the_drawn_direction(rng):
    fresh = jnp.float32(rng.uniform(-3, 3, size=(60, 4, 2)))
    start, low, high = jnp.full((4, 2), 5.0), jnp.zeros(2), jnp.full(2, 10.0)
    path = np.asarray(
        moving_shapes.bounce(start, fresh[0], low, high, fresh, frames=60)
    )
    assert path.min() >= 0 and path.max() <= 10
    velocity = np.array(fresh[0])
    turns = 0
    for t in range(58):
        free = path[t] + velocity
        hits = (free < 0) | (free > 10)
        for i in np.flatnonzero(hits.any(1)):
            drawn, turns = np.asarray(fresh[t, i]), turns + 1
            inward = np.where(free[i] < 0, np.abs(drawn), -np.abs(drawn))
            velocity[i] = np.where(hits[i], inward, drawn)
        np.testing.assert_allclose(
            np.where(hits, path[t + 1], free), path[t + 1], atol=1e-4
        )
    assert turns > 20


def test_one_shape_moves_without_changing(rng):
    del rng
    clips = moving_shapes.clip_batch(jax.random.key(1), batch_size=20)
    mass = (np.asarray(clips, float) + 1).sum((2, 3, 4)) / 2
    # A soft edge keeps the area of a disc or square to a pixel's share.
    np.testing.assert_allclose(mass, mass.mean(1, keepdims=True).repeat(8, 1), rtol=0.1)
    assert mass.min() > np.pi * 2**2 * 0.9 and mass.max() < (2 * 3.5 + 1) ** 2 * 1.1


def test_glyphs_are_the_ten_digits():
    assert len(moving_shapes._DIGITS) == 10
    assert len({tuple(row) for row in moving_shapes._DIGITS}) == 10
    assert moving_shapes._DIGITS[8].all()
    assert moving_shapes._DIGITS.sum(1).tolist() == [6, 2, 5, 5, 4, 5, 6, 3, 7, 6]
    clips = moving_shapes.clip_batch(jax.random.key(0), kind="glyphs", batch_size=2)
    # Steps are whole pixels: what is white in a frame is white in the next, moved.
    assert 0.03 < (np.asarray(clips) > 0.9).mean() < 0.3


def test_a_clip_depends_on_its_key_alone():
    key = jax.random.key(3)
    two = moving_shapes.clip_batch(key, batch_size=4)
    np.testing.assert_array_equal(two, moving_shapes.clip_batch(key, batch_size=4))
    longer = moving_shapes.clip_batch(key, kind="shapes", frames=40, batch_size=4)
    assert longer.shape[1] == 40


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"kind": "balls"}, "kind"),
        ({"batch_size": 0}, "batch_size"),
        ({"frames": 0}, "frames"),
        ({"size": (8, 16)}, "size"),
    ],
)
def test_bad_settings_raise(options, match):
    with pytest.raises(ValueError, match=match):
        moving_shapes.clip_batch(jax.random.key(0), **options)
