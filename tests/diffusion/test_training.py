import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow.diffusion import process, training

PROCESS = process.Process(predicts="velocity")


def test_a_batch_shows_frames_with_their_numbers():
    videos = jnp.broadcast_to(
        jnp.arange(12.0)[None, :, None, None, None] / 12, (6, 12, 2, 2, 1)
    )
    found = training.batch(jax.random.key(0), videos, PROCESS, most=5)
    assert found.clean.shape == found.noised.noisy.shape == (6, 5, 2, 2, 1)
    np.testing.assert_allclose(
        found.clean[..., 0, 0, 0], found.selection.indices / 12, rtol=1e-6
    )
    assert np.all(found.selection.latent.sum(1) >= 1)


class Perfect:
    """A network that knows the answer, but for frames that do not count."""

    takes = ("latent",)

    def __init__(self, batch, wrong):
        self.batch, self.wrong = batch, wrong

    def __call__(self, noisy, time, *, latent):
        assert latent is self.batch.selection.latent
        mask = latent[..., None, None, None] == 1
        other = jnp.full_like(noisy, jnp.nan)
        return jnp.where(mask, self.batch.noised.target + self.wrong, other)


@pytest.mark.parametrize("wrong", [0.0, 0.5])
def test_the_loss_is_that_of_latent_frames(wrong):
    videos = jax.random.normal(jax.random.key(1), (6, 12, 2, 2, 1))
    batch = training.batch(jax.random.key(0), videos, PROCESS, most=5)
    found = training.loss(Perfect(batch, wrong), batch)
    np.testing.assert_allclose(found, wrong**2, atol=1e-6)
