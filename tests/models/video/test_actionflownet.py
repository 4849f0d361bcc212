import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow.models.video import actionflownet


@pytest.mark.parametrize("shape", [(2, 5, 33, 30, 3), (1, 1, 16, 17, 3)], ids=str)
def test_flow_has_half_the_size_of_any_clip(shape):
    def flow(clip):
        model = actionflownet.Model(actionflownet.TINY, rngs=nnx.Rngs(0))
        return model.flow(clip)

    batch, time, height, width, _ = shape
    out = jax.eval_shape(flow, jax.ShapeDtypeStruct(shape, jnp.float32))
    assert out.shape == (batch, time, -(-height // 2), -(-width // 2), 2)


def test_scores_and_flow_come_from_one_encoder(run):
    model = actionflownet.Model(actionflownet.TINY, rngs=nnx.Rngs(0))
    model.eval()
    clip = jax.random.uniform(jax.random.key(0), (2, 4, 32, 32, 3))

    def call(model, clip):
        return model.both(clip), model(clip), model.flow(clip)

    (scores, flow), alone, flow_alone = run(model, clip, function=call)
    np.testing.assert_allclose(scores, alone, atol=1e-6)
    np.testing.assert_allclose(flow, flow_alone, atol=1e-6)
    assert flow.shape == (2, 4, 16, 16, 2)


def test_loss_is_cross_entropy_and_a_tenth_of_the_error(rng):
    scores = rng.normal(size=(2, 3)).astype(np.float32)
    estimate = rng.normal(size=(2, 4, 5, 6, 2)).astype(np.float32)
    target = rng.normal(size=(2, 3, 5, 6, 2)).astype(np.float32)
    labels = np.array([2, 0])
    odds = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    entropy = -np.log(odds[[0, 1], labels]).mean()
    error = np.linalg.norm(estimate[:, :3] - target, axis=-1).mean()
    loss = actionflownet.multi_task_loss(
        (jnp.asarray(scores), jnp.asarray(estimate)), jnp.asarray(labels), target
    )
    np.testing.assert_allclose(loss, entropy + 0.1 * error, rtol=1e-5)
