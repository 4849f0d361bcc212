import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow.layers import inception3d, resnet3d


@pytest.mark.parametrize(
    ("size", "margin"), [(8, (0, 1)), (9, (1, 1)), (1, (1, 1)), (2, (0, 1))]
)
def test_same_padding_is_tensorflows(size, margin):
    assert resnet3d.same_padding((size,), (3,), (2,)) == (margin,)


def test_pools_differ_on_even_sizes_only():
    x = jnp.arange(8.0).reshape(1, 1, 1, 8, 1)
    same = inception3d.max_pool(x, (1, 1, 3), (1, 1, 2), same=True)
    torch = inception3d.max_pool(x, (1, 1, 3), (1, 1, 2), same=False)
    np.testing.assert_array_equal(same.ravel(), [2, 4, 6, 7])
    np.testing.assert_array_equal(torch.ravel(), [1, 3, 5, 7])


def test_classifier_averages_windows_of_two_frames(rng):
    layer = inception3d.Classifier(
        3, 4, window=7, mode="logit_mean", dropout_rate=0.5, rngs=nnx.Rngs(0)
    )
    layer.eval()
    x = rng.normal(size=(2, 3, 2, 2, 3)).astype(np.float32)
    # The middle frame is in both windows.
    mean = (x[:, 0] + 2 * x[:, 1] + x[:, 2]).mean((1, 2)) / 4
    expected = mean @ np.asarray(layer.conv.kernel[...])[0, 0, 0]
    np.testing.assert_allclose(layer(jnp.asarray(x)), expected, atol=1e-6)
    assert layer.steps(jnp.asarray(x)).shape == (2, 2, 4)


def test_softmax_mean_gives_probabilities_in_evaluation_only(rng):
    layer = inception3d.Classifier(
        3, 4, window=7, mode="softmax_mean", dropout_rate=0.5, rngs=nnx.Rngs(0)
    )
    x = jnp.asarray(rng.normal(size=(2, 3, 2, 2, 3)), jnp.float32)
    layer.eval()
    np.testing.assert_allclose(layer(x).sum(-1), 1, rtol=1e-5)
    layer.train()
    trained = layer(x, key=jax.random.key(0))
    assert not np.allclose(trained.sum(-1), 1)
    assert not np.allclose(trained, layer(x, key=jax.random.key(1)))


def test_body_shrinks_to_an_eighth_and_a_thirty_second():
    unit = functools.partial(resnet3d.ConvNorm, padding="same")

    def run(x):
        body = inception3d.Inception(
            3, pointwise=unit, spatial=unit, width=1 / 16, rngs=nnx.Rngs(0)
        )
        return body(x)

    shape = jax.eval_shape(run, jnp.ones((1, 17, 70, 64, 3))).shape
    assert shape == (1, 3, 3, 2, 64)
