"""Non-local blocks: every position looks at every other, in space and time."""

import math
from typing import Literal, cast

import jax
import jax.numpy as jnp
from flax import nnx

from jaxflow import _checks, ops
from jaxflow.layers import conv, norm
from jaxflow.ops import products

Form = Literal["gaussian", "embedded_gaussian", "dot_product", "concatenation"]
FORMS = ("gaussian", "embedded_gaussian", "dot_product", "concatenation")


class NonLocal(nnx.Module):
    """A residual weighted mean over all positions (Wang et al., CVPR 2018, Eq. 6).

        y_i = 1 / C(x) sum_j f(x_i, x_j) g(x_j)        z_i = x_i + BN(W y_i)

    with one of the four f of Sec. 3.2:

        gaussian           exp(x_i . x_j)                          C = sum_j f
        embedded_gaussian  exp(theta(x_i) . phi(x_j) / sqrt(d))    C = sum_j f
        dot_product        theta(x_i) . phi(x_j)                   C = number of j
        concatenation      relu(w . [theta(x_i), phi(x_j)])        C = number of j

    The division by sqrt(d), d the inner channels, is PySlowFast's; the paper has none.
    The scale of BN starts at 0, so that a new block is the identity.

    Args:
        features: Channels of x.
        inner_features: Channels d of theta, phi and g.
        form: Which f.
        pool: Window in t, y and x of the max-pool before phi and g; the positions j
            are then fewer. It is clipped to the size of the input.
        zero_init: Whether the scale of BN starts at 0, or else at 1.
        rngs: Source of the initial weights.

    Raises:
        ValueError: If there is no such form.
    """

    def __init__(
        self,
        features: int,
        inner_features: int,
        *,
        form: Form = "embedded_gaussian",
        pool: tuple[int, int, int] = (1, 2, 2),
        zero_init: bool = True,
        rngs: nnx.Rngs,
    ):
        _checks.one_of("form", form, FORMS)
        self.form = form
        self.pool = tuple(pool)

        def pointwise(inputs, outputs):
            layer = conv.Conv3d(inputs, outputs, 1, rngs=rngs)
            layer.kernel[...] = 0.01 * jax.random.normal(
                rngs.params(), layer.kernel.shape, jnp.float32
            )
            return layer

        if form != "gaussian":
            self.theta = pointwise(features, inner_features)
            self.phi = pointwise(features, inner_features)
        if form == "concatenation":
            # A vector of 2 d numbers, split in the half of theta and that of phi.
            self.score = pointwise(2 * inner_features, 1)
        self.g = pointwise(features, inner_features)
        self.out = pointwise(inner_features, features)
        self.norm = norm.BatchNorm(features)
        if zero_init:
            self.norm.scale[...] = conv.zeros(features)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Adds to `x`, (B, T, H, W, C), what its positions gather."""
        window = tuple(min(p, n) for p, n in zip(self.pool, x.shape[1:4], strict=True))
        seen = ops.max_pool(x, window) if math.prod(window) > 1 else x
        weights = self._weights(x, seen)
        values = _flat(self.g(seen))
        gathered = products.einsum("bij,bjc->bic", weights, values).astype(x.dtype)
        return x + self.norm(self.out(gathered.reshape(*x.shape[:-1], -1)))

    def _weights(self, x: jax.Array, seen: jax.Array) -> jax.Array:
        """Returns f / C, (B, positions of x, positions of seen)."""
        query, key = (
            (x, seen) if self.form == "gaussian" else (self.theta(x), self.phi(seen))
        )
        query, key = _flat(query), _flat(key)
        if self.form == "concatenation":
            kernel = self.score.kernel[...].reshape(2, -1).astype(x.dtype)
            scores = (query @ kernel[0])[:, :, None] + (key @ kernel[1])[:, None]
            bias = cast(nnx.Param, self.score.bias)
            scores = scores + bias[...].astype(x.dtype)[None, None]
            return jax.nn.relu(scores) / scores.shape[-1]
        scores = products.einsum("bic,bjc->bij", query, key)
        if self.form == "dot_product":
            return (scores / scores.shape[-1]).astype(x.dtype)
        if self.form == "embedded_gaussian":
            scores = scores * query.shape[-1] ** -0.5
        return jax.nn.softmax(scores, axis=-1).astype(x.dtype)


def _flat(x: jax.Array) -> jax.Array:
    """Lists the positions: (B, T, H, W, C) -> (B, T H W, C)."""
    return x.reshape(x.shape[0], -1, x.shape[-1])
