"""Analytic textures under exactly known motion."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

COS, SIN = np.cos(np.radians(3)), np.sin(np.radians(3))
# Linear part and translation of each motion, about the middle of the image.
MOTIONS = {
    "shift_small": (np.eye(2), (0.4, -0.3)),
    "shift_medium": (np.eye(2), (3.3, -2.7)),
    "shift_large": (np.eye(2), (9.5, 6.25)),
    "rotation": (np.array([[COS, -SIN], [SIN, COS]]), (0.0, 0.0)),
    "zoom": (1.05 * np.eye(2), (0.0, 0.0)),
    "affine": (np.array([[1.03, 0.02], [-0.015, 0.98]]), (1.2, -0.8)),
}


class Texture:
    """A sum of plane waves of 6 to 48 pixels, scaled to [0, 1]."""

    def __init__(self, seed=0, waves=40, shortest=6.0, longest=48.0):
        rng = np.random.default_rng(seed)
        lengths = np.exp(rng.uniform(np.log(shortest), np.log(longest), waves))
        angles = rng.uniform(0, 2 * np.pi, waves)
        self.phases = rng.uniform(0, 2 * np.pi, waves)
        self.amplitudes = np.sqrt(lengths)
        self.kx = 2 * np.pi * np.cos(angles) / lengths
        self.ky = 2 * np.pi * np.sin(angles) / lengths
        self.scale = 0.5 / (3 * np.sqrt((self.amplitudes**2).sum() / 2))

    def __call__(self, x, y):
        waves = zip(self.amplitudes, self.kx, self.ky, self.phases, strict=True)
        total = sum(a * np.cos(kx * x + ky * y + p) for a, kx, ky, p in waves)
        return np.clip(0.5 + self.scale * total, 0, 1)


def affine_points(linear, shift, x, y):
    """Moves points by an affine map about the middle of their grid."""
    middle = (x.max() + x.min()) / 2, (y.max() + y.min()) / 2
    dx, dy = x - middle[0], y - middle[1]
    return (
        linear[0][0] * dx + linear[0][1] * dy + middle[0] + shift[0],
        linear[1][0] * dx + linear[1][1] * dy + middle[1] + shift[1],
    )


def make_pair(motion, size=(128, 128), seed=0):
    """Renders frame 1, frame 2 (float32, (H, W, 1)) and the flow between them."""
    linear, shift = MOTIONS[motion] if isinstance(motion, str) else motion
    linear, shift = np.asarray(linear, float), np.asarray(shift, float)
    texture = Texture(seed)
    y, x = np.mgrid[: size[0], : size[1]].astype(float)
    inverse = np.linalg.inv(linear)
    back = affine_points(inverse, -inverse @ shift, x, y)
    there = affine_points(linear, shift, x, y)
    flow = np.stack([there[0] - x, there[1] - y], axis=-1)
    frames = (texture(x, y)[..., None], texture(*back)[..., None])
    return *(frame.astype(np.float32) for frame in frames), flow.astype(np.float32)


def endpoint_error(flow, truth, border=16):
    """Returns the mean end-point error without the border, in pixels."""
    error = np.linalg.norm(np.asarray(flow) - truth, axis=-1)
    return error[..., border:-border, border:-border].mean()


@pytest.fixture(scope="session")
def pair():
    """The function `make_pair`."""
    return make_pair


@pytest.fixture(scope="session")
def epe():
    """The function `endpoint_error`."""
    return endpoint_error


@pytest.fixture(scope="session")
def texture():
    """The class `Texture`."""
    return Texture


@pytest.fixture(scope="session", params=sorted(MOTIONS))
def motion(request):
    """Each of the six motions by name."""
    return request.param


def directional_slopes(function, frames, seed=0, step=1e-8):
    """Slopes of a weighted sum of outputs, by jax.grad and by differences."""
    rng = np.random.default_rng(seed)
    frames = [jnp.asarray(frame, jnp.float64) for frame in frames]
    directions = [rng.normal(size=frame.shape) for frame in frames]
    weights = rng.normal(size=jax.eval_shape(function, *frames).shape)

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=(0, 1))
    def value(*frames):
        return (function(*frames) * weights).sum()

    grads = value(*frames)[1]
    pairs = zip(grads, directions, strict=True)
    slope = sum(float((grad * direction).sum()) for grad, direction in pairs)
    moved = [
        [f + sign * step * d for f, d in zip(frames, directions, strict=True)]
        for sign in (1, -1)
    ]
    difference = float(value(*moved[0])[0] - value(*moved[1])[0]) / (2 * step)
    return slope, difference


@pytest.fixture(scope="session")
def slopes():
    """The function `directional_slopes`."""
    return directional_slopes
