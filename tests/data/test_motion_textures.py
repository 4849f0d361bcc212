"""Tests for jaxflow.data.motion_textures."""

import jax.numpy as jnp
import numpy as np

from jaxflow.data import motion_textures


def test_textures_move_by_their_path():
    rng = np.random.default_rng(0)
    waves = rng.uniform(-0.1, 0.1, (5, 3)).astype(np.float32)
    amplitudes = rng.normal(size=5).astype(np.float32)
    path = np.array([[0, 0, 0, 0], [2.5, -1, 0, 0], [0, 0, 0.3, 0], [1, 2, -0.2, 0.4]])
    height, width = 12, 17
    actual = motion_textures.render_texture(
        (jnp.asarray(waves), jnp.asarray(amplitudes)),
        jnp.asarray(path, jnp.float32),
        (height, width),
    )
    y, x = np.indices((height, width)) - np.array([5.5, 8.0])[:, None, None]
    for frame, (dx, dy, angle, log_scale) in zip(actual, path, strict=True):
        cos, sin = np.cos(angle), np.sin(angle)
        # Back from the frame to the texture: undo the shift, the turn, the scale.
        px = (cos * (x - dx) + sin * (y - dy)) / np.exp(log_scale)
        py = (-sin * (x - dx) + cos * (y - dy)) / np.exp(log_scale)
        angles = px[..., None] * waves[:, 0] + py[..., None] * waves[:, 1] + waves[:, 2]
        expected = np.sum(amplitudes * np.cos(2 * np.pi * angles), axis=-1)
        np.testing.assert_allclose(frame, expected, atol=1e-4)


def test_accelerating_and_decelerating_clips_have_the_same_velocities():
    paths = [
        np.diff(
            motion_textures._changing(
                jnp.int32(label),
                {"motion": jnp.full(4, 0.3)},
                jnp.arange(8.0) - 3.5,
            )[:, :2],
            axis=0,
        )
        for label in (0, 1)
    ]
    np.testing.assert_allclose(paths[0], -paths[1][::-1], atol=1e-6)
    # From nearly rest to nearly twice the mean.
    speed = np.linalg.norm(paths[0], axis=1)
    assert speed[0] < 0.2 * speed.mean() and speed[-1] > 1.8 * speed.mean()
