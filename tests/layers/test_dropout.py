import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow.layers import dropout

ONES = jnp.ones((1000, 50))


def training(rate):
    layer = dropout.Dropout(rate)
    layer.train()
    return layer


def test_keeps_the_mean_and_scales_up_what_is_left():
    dropped = training(0.25)(ONES, key=jax.random.key(0))
    # 50 000 draws: the standard error of the mean is 0.003.
    np.testing.assert_allclose(dropped.mean(), 1, atol=0.015)
    assert set(np.unique(dropped)) == {0, np.float32(1 / 0.75)}


def test_a_new_layer_drops_nothing():
    layer = dropout.Dropout(0.5)
    np.testing.assert_array_equal(layer(ONES, key=jax.random.key(0)), ONES)


def test_training_without_random_numbers_says_the_way_out():
    with pytest.raises(ValueError, match=r"pass `key=`.*jaxflow\.train.*eval"):
        training(0.5)(ONES)
    np.testing.assert_array_equal(training(0)(ONES), ONES)


@pytest.mark.parametrize("rate", [1, -0.1, float("nan")])
def test_rejects_a_rate_out_of_range(rate):
    with pytest.raises(ValueError, match="dropout_rate"):
        dropout.Dropout(rate)


class Several(nnx.Module):
    """Layers of ours and of Flax's, some with a stream of another generator."""

    def __init__(self):
        rngs = nnx.Rngs(jax.random.key(0, impl="rbg"))
        self.layers = nnx.data(
            [
                dropout.Dropout(0.5),
                dropout.Dropout(0.5),
                nnx.Dropout(0.5, rngs=rngs),
                nnx.Dropout(0.5, rngs=rngs),
                nnx.Dropout(0.5),
            ]
        )

    def __call__(self, x):
        return [layer(x) for layer in self.layers for _ in range(2)]


def seeded(key):
    model = Several()
    model.train()
    dropout.seed(model, key)
    return model(ONES[:1])


def test_a_seed_decides_and_every_layer_and_call_draws_something_else():
    run = jax.jit(seeded)
    first, same, other = (run(jax.random.key(i)) for i in (3, 3, 4))
    np.testing.assert_array_equal(first, same)
    assert len({np.asarray(x).tobytes() for x in (*first, *other)}) == 20


def test_a_key_is_split_and_none_stays_none():
    assert dropout.split(None, 2) == [None, None]
    one, two = dropout.split(jax.random.key(0), 2)
    assert one != two
