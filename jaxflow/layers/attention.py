"""Attention over one axis of tokens: by softmax, and with linear cost."""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxflow.layers import conv, norm
from jaxflow.ops import products
from jaxflow.ops.correlation import accumulator


def softmax_attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    *,
    scale: float = 1.0,
    bias: jax.Array | None = None,
) -> jax.Array:
    """Averages values by the similarity of keys to queries (Vaswani et al., 2017).

        out_i = sum_j softmax_j(scale q_i . k_j + b_ij) v_j

    Args:
        query: (*B, heads, N, D).
        key: (*B, heads, M, D).
        value: (*B, heads, M, E).
        scale: Factor of the products, such as D^-1/2.
        bias: Added before the softmax, and broadcast to (*B, heads, N, M); minus
            infinity hides a key.

    Returns:
        (*B, heads, N, E), in the dtype of `value`; products are summed and the softmax
        taken in float32 at least.
    """
    scores = products.einsum("...id,...jd->...ij", query, key)
    wide = scores.dtype
    scores = scores * jnp.asarray(scale, wide)
    if bias is not None:
        scores += jax.lax.broadcast_to_rank(bias.astype(wide), scores.ndim)
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    out = products.einsum("...ij,...je->...ie", weights, value)
    return out.astype(value.dtype)


def linear_attention(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """Averages values over all tokens once, and reads the result by the queries.

        out_i = sum_d q_id sum_j softmax_j(k_jd) v_j

    Shen et al., "Efficient Attention: Attention with Linear Complexities" (WACV 2021).

    Args:
        query: (*B, heads, N, D), scaled or normalised as the network wants it.
        key: (*B, heads, M, D), before its softmax over the tokens.
        value: (*B, heads, M, E).

    Returns:
        (*B, heads, N, E), in the dtype of `value`; summed in float32 at least.
    """
    wide = accumulator(key)
    weights = jax.nn.softmax(key.astype(wide), axis=-2).astype(value.dtype)
    gathered = products.einsum("...jd,...je->...de", weights, value)
    out = products.einsum("...id,...de->...ie", query, gathered.astype(value.dtype))
    return out.astype(value.dtype)


def split_heads(x: jax.Array, heads: int) -> jax.Array:
    """Gives each head its block of channels: (*B, N, heads D) -> (*B, heads, N, D)."""
    return jnp.swapaxes(x.reshape(*x.shape[:-1], heads, -1), -3, -2)


def split_qkv(x: jax.Array, heads: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Splits (*B, N, 3 heads D) into query, key and value, each (*B, heads, N, D)."""
    query, key, value = jnp.split(x, 3, axis=-1)
    return split_heads(query, heads), split_heads(key, heads), split_heads(value, heads)


def join_heads(x: jax.Array) -> jax.Array:
    """Undoes `split_heads`: (*B, heads, N, D) -> (*B, N, heads D)."""
    x = jnp.swapaxes(x, -3, -2)
    return x.reshape(*x.shape[:-2], -1)


class LinearAttention(nnx.Module):
    """Attention over the pixels of each frame at linear cost, added to its input.

    Args:
        features: Channels.
        heads: Heads.
        head_features: Channels of a head, D; queries are scaled by D^-1/2.
        normalise_query: Whether a softmax over the channels of a query comes first.
        bias: Whether the normalisation has a bias.
        rngs: Source of the initial weights.
    """

    def __init__(
        self,
        features: int,
        heads: int,
        head_features: int,
        *,
        normalise_query: bool = False,
        bias: bool = False,
        rngs: nnx.Rngs,
    ):
        self.heads, self.normalise_query = heads, normalise_query
        inner = heads * head_features
        self.norm = norm.ChannelNorm(features, use_bias=bias)
        self.to_qkv = conv.Linear(features, 3 * inner, use_bias=False, rngs=rngs)
        self.to_out = conv.Linear(inner, features, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Transforms `x`, (*B, H, W, C)."""
        tokens = self.norm(x).reshape(*x.shape[:-3], -1, x.shape[-1])
        query, key, value = split_qkv(self.to_qkv(tokens), self.heads)
        if self.normalise_query:
            query = jax.nn.softmax(query.astype(accumulator(query)), axis=-1)
        query = (query * query.shape[-1] ** -0.5).astype(x.dtype)
        out = linear_attention(query, key, value)
        return x + self.to_out(join_heads(out)).reshape(x.shape)
