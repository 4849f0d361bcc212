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
    found = training.loss(Perfect(batch, wrong), batch, power=1, average="sum")
    pixels = batch.selection.latent.sum(1).mean() * 4
    np.testing.assert_allclose(found, wrong * pixels, atol=1e-5)


def test_pictures_are_clips_of_one_frame_all_of_which_counts():
    videos = jax.random.normal(jax.random.key(1), (2, 3, 2, 2, 1))
    frames = training.pictures(videos)
    np.testing.assert_array_equal(frames[4, 0], videos[1, 1])
    found = training.batch(jax.random.key(0), frames, PROCESS, most=1)
    assert found.clean.shape == (6, 1, 2, 2, 1)
    np.testing.assert_array_equal(found.selection.latent, 1)
    np.testing.assert_array_equal(found.selection.observed, 0)


def test_the_joint_loss_weighs_clips_and_pictures():
    videos = jax.random.normal(jax.random.key(1), (2, 3, 2, 2, 1))
    clips = training.batch(jax.random.key(0), videos, PROCESS, most=3)
    pictures = training.pictures(videos)
    pictures = training.batch(jax.random.key(1), pictures, PROCESS, most=1)

    class Zero:
        takes = ()

        def __call__(self, noisy, time):
            return jnp.zeros_like(noisy)

    counted = clips.selection.latent[..., None, None, None] * jnp.ones((1, 1, 2, 2, 1))
    of_clips = [
        np.average(np.square(target), weights=weight)
        for target, weight in zip(clips.noised.target, counted, strict=True)
    ]
    of_pictures = np.mean(np.square(pictures.noised.target))
    found = training.joint_loss(Zero(), training.Joint(clips, pictures), weight=0.5)
    np.testing.assert_allclose(found, np.mean(of_clips) + 0.5 * of_pictures, rtol=1e-5)
