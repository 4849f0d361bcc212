"""Rendered clips with exactly known motion, for the recipes beside this file.

Every scene is a function of continuous positions, so that a frame at any time and from
any camera is exact. NumPy only; frames are (H, W, 3), float32, in [0, 1].
"""

import numpy as np


def texture(seed, *, waves=30, shortest=6.0, longest=60.0):
    """Returns a function (x, y) -> colours in [0, 1], a sum of plane waves."""
    rng = np.random.default_rng(seed)
    lengths = np.exp(rng.uniform(np.log(shortest), np.log(longest), waves))
    angles, phases = rng.uniform(0, 2 * np.pi, (2, waves))
    kx, ky = (2 * np.pi * f(angles) / lengths for f in (np.cos, np.sin))
    colours = rng.normal(size=(waves, 3)) * np.sqrt(lengths)[:, None]
    colours *= 0.17 / np.sqrt((colours**2).sum(0) / 2)

    def sample(x, y):
        total = np.full((*x.shape, 3), 0.5)
        for a, b, phase, colour in zip(kx, ky, phases, colours, strict=True):
            total += np.cos(a * x + b * y + phase)[..., None] * colour
        return np.clip(total, 0, 1).astype(np.float32)

    return sample


def send(matrix, x, y):
    """Moves positions by a 3 x 3 matrix."""
    u, v, w = (m[0] * x + m[1] * y + m[2] for m in matrix)
    return u / w, v / w


def camera_clip(path, size, *, seed=0):
    """Films a plane: frame t shows at path[t] p what frame 0 shows at p."""
    scene = texture(seed)
    y, x = np.mgrid[: size[0], : size[1]].astype(float)
    return np.stack([scene(*send(np.linalg.inv(matrix), x, y)) for matrix in path])


def disc_clip(times, size, *, seed=0, pan=(3.0, -1.5), speed=(-4.0, 3.0), radius=18.0):
    """Films a disc that moves over a background that moves.

    Returns:
        The frames, and a function that gives the motion of points between two times.
    """
    behind, before = (texture(seed + k, shortest=5, longest=25) for k in (0, 1))
    y, x = np.mgrid[: size[0], : size[1]].astype(float)
    middle = size[1] / 2, size[0] / 2

    def on_disc(x, y, t):
        dx, dy = x - middle[0] - speed[0] * t, y - middle[1] - speed[1] * t
        return np.clip(radius + 0.5 - np.hypot(dx, dy), 0, 1)[..., None]

    def frame(t):
        alpha = on_disc(x, y, t)
        front = before(x - speed[0] * t, y - speed[1] * t)
        back = behind(x - pan[0] * t, y - pan[1] * t)
        return (alpha * front + (1 - alpha) * back).astype(np.float32)

    def motion(points, t, later):
        inside = on_disc(points[..., 0], points[..., 1], t) > 0.5
        return np.where(inside, speed, pan) * (later - t)

    return np.stack([frame(t) for t in times]), motion


def shaky_path(length, size, *, seed=0, shake=2.5):
    """Returns a slow pan with hand shake: (T, 3, 3), frame 0 -> frame t."""
    rng = np.random.default_rng(seed)
    matrices = []
    middle = np.array([size[1] / 2, size[0] / 2])
    for t in range(length):
        dx, dy, turn, zoom = rng.normal(size=4) * (t > 0)
        angle = 0.006 * turn
        linear = (1 + 0.004 * zoom) * np.array(
            [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        )
        matrix = np.eye(3)
        matrix[:2, :2] = linear
        matrix[:2, 2] = middle - linear @ middle
        matrix[:2, 2] += 0.4 * t + shake * dx, shake * dy
        matrices.append(matrix)
    return np.stack(matrices)


def psnr(one, two):
    """Peak signal-to-noise ratio in decibels, for values in [0, 1]."""
    return float(-10 * np.log10(((np.asarray(one) - np.asarray(two)) ** 2).mean()))
