"""Networks without layers that answer with what they see."""

import jax.numpy as jnp
from flax import nnx


class Probe(nnx.Module):
    """A "network" that answers with what it sees: means of both frames, as flow."""

    def __init__(self, frames, *, scale=1):
        self.frames = frames
        self.scale = scale
        self.weight = nnx.Param(jnp.ones(()))
        self.deterministic = True

    def __call__(self, image1, image2, *, gain=1.0):
        assert self.deterministic
        step = self.scale
        both = jnp.stack([image1[..., 0], image2[..., 1]], axis=-1)
        return gain * self.weight[...] * both[:, ::step, ::step]


class Start(nnx.Module):
    """A "network" that answers with where it is told to start."""

    def __init__(self, frames):
        self.frames = frames

    def __call__(self, image1, image2, *, initial_flow=None):
        if initial_flow is None:
            return jnp.zeros((*image1.shape[:-1], 2))
        assert initial_flow.shape == (*image1.shape[:-1], 2)
        return initial_flow
