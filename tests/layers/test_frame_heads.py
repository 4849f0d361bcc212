"""Tests for jaxflow.layers.frame_heads."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow.layers import frame_heads


def count(module):
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))


def of(layer, x):
    return x @ np.asarray(layer.kernel[...]) + np.asarray(layer.bias[...])


def run(module, *arrays, **more):
    return jax.jit(lambda arrays, more: module(*arrays, **more))(arrays, more)


@pytest.fixture
def frames(rng):
    return jnp.asarray(rng.normal(size=(2, 4, 3)), jnp.float32)


def test_relations_are_the_sum_over_all_ordered_choices(frames):
    head = frame_heads.TemporalRelation(
        3, 4, 5, hidden=6, relations=99, rngs=nnx.Rngs(0)
    )
    expected = 0
    for index, scale in enumerate((2, 3, 4)):
        for chosen in itertools.combinations(range(4), scale):
            joined = np.maximum(np.asarray(frames)[:, chosen].reshape(2, -1), 0)
            inner = np.maximum(of(head.first[index], joined), 0)
            expected = expected + of(head.second[index], inner)
    np.testing.assert_allclose(run(head, frames), expected, atol=1e-5)
    # The order of frames matters, which an average over them cannot see.
    assert np.abs(run(head, frames[:, ::-1]) - expected).max() > 1e-3


def test_relations_have_the_parameters_of_the_authors_code():
    # TRN-pytorch on BNInception: 8 frames, 256 features, 174 classes.
    head = nnx.eval_shape(
        lambda: frame_heads.TemporalRelation(256, 8, 174, rngs=nnx.Rngs(0))
    )
    expected = sum((d * 256 + 1) * 256 + 257 * 174 for d in range(2, 9))
    assert count(head) == expected


def test_relations_are_drawn_in_training_and_spread_in_evaluation(frames):
    head = frame_heads.TemporalRelation(3, 4, 5, relations=2, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(run(head, frames), run(head, frames))
    head.train()
    found = [
        np.asarray(run(head, frames, key=jax.random.key(seed))) for seed in range(4)
    ]
    assert any(np.any(found[0] != other) for other in found[1:])
    with pytest.raises(ValueError, match="pass `key=`"):
        run(head, frames)


def test_choices_are_spread_from_the_first_to_the_last():
    np.testing.assert_array_equal(
        frame_heads.spread_relations(4, 2, 3), [[0, 1], [1, 2], [2, 3]]
    )
    assert frame_heads.spread_relations(5, 3, 99).shape == (10, 3)
    every = np.array(list(itertools.combinations(range(9), 4)))
    chosen = frame_heads.spread_relations(9, 4, 26)
    np.testing.assert_array_equal(chosen, every[::5])
    first, _, last = frame_heads.spread_relations(60, 30, 3)
    np.testing.assert_array_equal(first, np.arange(30))
    np.testing.assert_array_equal(last, np.arange(30, 60))


@pytest.mark.parametrize("shape", [(2, 3, 3), (4, 3)])
def test_relations_of_another_number_of_frames_are_an_error(shape):
    head = frame_heads.TemporalRelation(3, 4, 5, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"`frames` must be \(B, 4, D\)"):
        head(jnp.zeros(shape))
    with pytest.raises(ValueError, match="`num_frames` must be at least 2"):
        frame_heads.TemporalRelation(3, 1, 5, rngs=nnx.Rngs(0))


def test_pooling_takes_the_maximum_where_it_says(rng):
    frames = rng.normal(size=(2, 21, 3)).astype(np.float32)
    for kind in frame_heads.POOLINGS:
        head = frame_heads.TemporalPooling(3, 5, kind=kind, hidden=7, rngs=nnx.Rngs(0))
        assert count(head) == 4 * 7 + 8 * 5
        if kind == "conv":
            inner = np.maximum(of(head.first, frames.max(1)), 0)
        elif kind == "late":
            inner = np.maximum(of(head.first, frames), 0).max(1)
        else:
            pooled = np.stack([frames[:, i : i + 10].max(1) for i in (0, 5, 10)], 1)
            inner = np.maximum(of(head.first, pooled), 0).max(1)
        expected = of(head.second, inner)
        np.testing.assert_allclose(run(head, frames), expected, atol=1e-5)
    with pytest.raises(ValueError, match="`kind` must be"):
        frame_heads.TemporalPooling(3, 5, kind="early", rngs=nnx.Rngs(0))


def test_slow_pooling_takes_fewer_frames_than_a_window(rng):
    frames = rng.normal(size=(2, 4, 3)).astype(np.float32)
    slow, whole = (
        frame_heads.TemporalPooling(3, 5, kind=kind, hidden=7, rngs=nnx.Rngs(0))
        for kind in ("slow", "conv")
    )
    np.testing.assert_allclose(run(slow, frames), run(whole, frames), atol=1e-6)


def test_attention_is_second_order_pooling_of_rank_one(rng):
    x = rng.normal(size=(2, 3, 4, 4, 6)).astype(np.float32)
    head = frame_heads.AttentionPooling(6, 5, rngs=nnx.Rngs(0))
    assert count(head) == 7 * 5 + 7
    # tr(X^T X b a_k^T) / n, with a channel of ones for the biases.
    places = np.concatenate([x, np.ones_like(x[..., :1])], -1).reshape(2, -1, 7)
    second = np.einsum("bnc,bnd->bcd", places, places) / places.shape[1]
    a, b = (
        np.concatenate([layer.kernel[...], layer.bias[...][None]])
        for layer in (head.classes, head.saliency)
    )
    expected = np.einsum("bcd,ck,dj->bk", second, a, b)
    np.testing.assert_allclose(run(head, x), expected, atol=1e-5)
