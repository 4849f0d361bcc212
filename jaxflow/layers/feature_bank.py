"""Operators that join what a clip shows with a bank of what its video shows elsewhere.

Wu et al., "Long-Term Feature Banks for Detailed Video Understanding" (CVPR 2019), Sec.
3.3: short-term features S of N rows, (N, D), and of each row a window L of the bank,
(N, M, D'). Entries that `valid` does not count, and what stands there, are without
effect; a window without any gives zeros. All of it is float32.
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxflow import _checks
from jaxflow.layers import conv, dropout, timestep

Pooling = Literal["average", "maximum"]
# Of the sinusoid that tells when an entry is.
_TIME_FEATURES = 32


def pool_bank(bank: jax.Array, valid: jax.Array, *, kind: Pooling) -> jax.Array:
    """Pools a window of the bank: the operators "LFB Avg" and "LFB Max" of the paper.

    Args:
        bank: (N, M, D).
        valid: Which entries count, (N, M) bool.
        kind: "average" or "maximum".

    Returns:
        (N, D); 0 where no entry counts.

    Raises:
        ValueError: If there is no such kind.
    """
    _checks.one_of("kind", kind, ("average", "maximum"))
    counted = valid[..., None]
    if kind == "maximum":
        largest = jnp.max(jnp.where(counted, bank, -jnp.inf), axis=1)
        return jnp.where(jnp.any(counted, axis=1), largest, 0)
    total = jnp.sum(jnp.where(counted, bank, 0), axis=1)
    count = jnp.sum(valid, axis=1, keepdims=True, dtype=total.dtype)
    return total / jnp.maximum(count, 1)


class Attention(nnx.Module):
    """One step of the non-local operator: what a row finds in the bank, added to it.

        y = softmax(theta(A) . phi(B) / sqrt(d)) g(B)
        A' = A + dropout(out(relu(LayerNorm(y))))

    The paper's form with the normalisation before the non-linearity; the layer
    normalisation has no weights. `out` starts at 0, so that a new step is the identity.

    Args:
        features: Channels d of A and B.
        dropout_rate: Share of what is added that is zeroed in training.
        rngs: Source of the initial weights.
    """

    def __init__(self, features: int, *, dropout_rate: float, rngs: nnx.Rngs):
        self.theta = _linear(features, features, rngs)
        self.phi = _linear(features, features, rngs)
        self.g = _linear(features, features, rngs)
        self.out = _linear(features, features, rngs)
        self.out.kernel[...] = jnp.zeros((features, features), jnp.float32)
        self.dropout = dropout.Dropout(dropout_rate)

    def __call__(
        self,
        row: jax.Array,
        bank: jax.Array,
        valid: jax.Array,
        *,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Returns A', (N, d), for A `row` (N, d), B `bank` (N, M, d)."""
        scores = jnp.einsum("nd,nmd->nm", self.theta(row), self.phi(bank))
        scores = jnp.where(valid, scores * row.shape[-1] ** -0.5, -1e30)
        weights = jnp.where(valid, jax.nn.softmax(scores, axis=-1), 0)
        found = jnp.einsum("nm,nmd->nd", weights, self.g(bank))
        centred = found - jnp.mean(found, axis=-1, keepdims=True)
        spread = jnp.mean(centred**2, axis=-1, keepdims=True)
        normal = jax.nn.relu(centred * jax.lax.rsqrt(spread + 1e-5))
        return row + self.dropout(self.out(normal), key=key)


class NonLocalOperator(nnx.Module):
    """The non-local operator "LFB NL": some steps of `Attention`, between projections.

    Args:
        features: Channels D of the short-term features.
        bank_features: Channels D' of the bank.
        inner_features: Channels of the attention.
        steps: Number of steps.
        timed: Whether entries are told by when they are, too: a sinusoid of their
            seconds from the clip is added to their projection. The paper's are not.
        dropout_rate: Share of the projections and of each step that is zeroed in
            training.
        rngs: Source of the initial weights.
    """

    def __init__(
        self,
        features: int,
        bank_features: int,
        *,
        inner_features: int = 512,
        steps: int = 2,
        timed: bool = False,
        dropout_rate: float = 0.2,
        rngs: nnx.Rngs,
    ):
        self.of_row = _linear(features, inner_features, rngs)
        self.of_bank = _linear(bank_features, inner_features, rngs)
        if timed:
            self.of_time = _linear(_TIME_FEATURES, inner_features, rngs)
        self.timed = timed
        make = functools.partial(Attention, dropout_rate=dropout_rate, rngs=rngs)
        self.steps = nnx.data([make(inner_features) for _ in range(steps)])
        self.dropout = dropout.Dropout(dropout_rate)

    def __call__(
        self,
        row: jax.Array,
        bank: jax.Array,
        valid: jax.Array,
        *,
        times: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Returns what rows find in the bank.

        Args:
            row: Short-term features, (N, D).
            bank: (N, M, D').
            valid: Which entries count, (N, M) bool.
            times: Seconds of the entries from the clip, (N, M), if they are told by it;
                None is 0.
            key: Random key of the dropout in training; see `layers.dropout`.

        Returns:
            (N, inner_features).
        """
        keys = dropout.split(key, 2 + len(self.steps))
        entries = self.of_bank(jnp.where(valid[..., None], bank, 0))
        if self.timed:
            times = jnp.zeros(valid.shape) if times is None else times
            entries = entries + self.of_time(timestep.sinusoid(times, _TIME_FEATURES))
        entries = self.dropout(entries, key=keys[0])
        found = self.dropout(self.of_row(row), key=keys[1])
        for step, own in zip(self.steps, keys[2:], strict=True):
            found = step(found, entries, valid, key=own)
        return found


def _linear(inputs: int, outputs: int, rngs: nnx.Rngs) -> conv.Linear:
    """Returns a projection whose weights start small, as those of non-local blocks."""
    layer = conv.Linear(inputs, outputs, rngs=rngs)
    shape = (inputs, outputs)
    layer.kernel[...] = 0.01 * jax.random.normal(rngs.params(), shape, jnp.float32)
    return layer
