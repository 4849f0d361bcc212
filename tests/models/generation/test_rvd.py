import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow.diffusion import process as processes
from jaxflow.diffusion import training
from jaxflow.models.generation import rvd
from tests import golden


def build(**overrides):
    return rvd.Model(dataclasses.replace(rvd.TINY, **overrides), rngs=nnx.Rngs(0))


def clips(array):
    """Brings (T, B, C, H, W) to (B, T, H, W, C)."""
    return jnp.asarray(np.moveaxis(array, (0, 1, 2), (1, 0, 4)))


@pytest.fixture(scope="module")
def official(case):
    return case("rvd")


def test_means_states_and_network_are_those_of_the_official_code(official, count):
    model, arrays, info = official
    assert count(model) == info["parameter_count"]
    graph, state = nnx.split(model)

    @jax.jit
    def run(state, video, noisy, time):
        model = nnx.merge(graph, state)
        means, states = model.watch(video)
        last = tuple(x[:, -1] for x in states)
        return means, last, model.denoiser(noisy, time, last)

    noisy = jnp.asarray(golden.nhwc(arrays["x_t"]))
    means, last, out = run(state, clips(arrays["video"]), noisy, arrays["t"])

    tolerance = info["tolerance"]
    np.testing.assert_allclose(means, clips(arrays["mu"]), atol=tolerance["mu"])
    for i, states in enumerate(last):
        crop = golden.nhwc(arrays[f"context{i}_crop"])
        np.testing.assert_allclose(states[:, -4:, -4:, :8], crop, atol=2e-5)
    expected = golden.nhwc(arrays["network"])
    np.testing.assert_allclose(out, expected, rtol=0, atol=tolerance["network"])


@pytest.mark.slow
def test_loss_on_frames_is_the_official_one_on_residuals(official):
    model, arrays, info = official
    video, noise = clips(arrays["video"]), clips(arrays["loss_noise"])
    # The first two frames are only looked at, and so get no noise here.
    noise = jnp.concatenate([jnp.zeros_like(noise), noise], axis=1)
    bars = processes.alpha_bars(model.process)[arrays["t"]][:, None, None, None, None]
    noisy = jnp.float32(np.sqrt(bars)) * video + jnp.float32(np.sqrt(1 - bars)) * noise
    out = golden.run(model, noisy, jnp.asarray(arrays["t"]), clean=video)
    loss = np.abs(out - noise)[:, 2:].mean()
    np.testing.assert_allclose(
        loss, arrays["loss"], rtol=0, atol=info["tolerance"]["loss"]
    )


@pytest.mark.slow
def test_samples_are_the_official_ones(official):
    model, arrays, info = official
    video = clips(arrays["video"])[:, :2]
    draws = np.moveaxis(arrays["draws"], 2, -1)
    draws = jnp.asarray(draws.reshape(2, 21, *draws.shape[1:]))
    graph, state = nnx.split(model)

    @jax.jit
    def run(state, video, draws):
        model = nnx.merge(graph, state)
        return rvd.sample(jax.random.key(0), model, video, count=2, draws=draws)

    out = run(state, video, draws)
    expected = clips(arrays["sample"])[:, 2:]
    np.testing.assert_allclose(out, expected, rtol=0, atol=info["tolerance"]["sample"])


@pytest.mark.parametrize(
    ("name", "official_name"),
    [
        ("rvd_64", "img_size 64 (config.py: dim 48)"),
        ("rvd_128", "img_size 128/256 (config.py: dim 64)"),
    ],
)
def test_reads_every_published_key(published, count, unread, name, official_name):
    shapes, parameters = published("rvd", official_name)
    assert unread(name, "rvd", shapes) == []
    assert count(name) == parameters


@pytest.mark.slow
def test_a_prediction_depends_on_its_frame_and_clean_ones_before(rng):
    model = build()
    noisy, clean = jnp.float32(rng.normal(size=(2, 1, 4, 8, 8, 3)))
    time = jnp.array([300])
    out = golden.run(model, noisy, time, clean=clean)
    later = golden.run(model, noisy, time, clean=clean.at[:, 2].add(1.0))
    np.testing.assert_allclose(later[:, :3], out[:, :3], atol=1e-5)
    assert np.abs(later[:, 3] - out[:, 3]).max() > 1e-3
    other = golden.run(model, noisy.at[:, 1].add(1.0), time, clean=clean)
    changed = np.abs(other - out).max(axis=(0, 2, 3, 4)) > 1e-4
    np.testing.assert_array_equal(changed, [False, True, False, False])


@pytest.mark.slow
def test_frames_can_be_diffused_themselves(rng):
    model = build(target="frame")
    assert model.transform is None and model.predictor is None
    video = jnp.float32(rng.uniform(-1, 1, size=(2, 3, 8, 8, 3)))
    graph, state = nnx.split(model)

    @jax.jit
    def run(state, key, video):
        model = nnx.merge(graph, state)
        steps = processes.sampling_steps(model.process, 3)
        return rvd.sample(key, model, video, count=2, steps=steps)

    first, second = (run(state, jax.random.key(seed), video) for seed in (0, 1))
    assert first.shape == (2, 2, 8, 8, 3) and np.isfinite(first).all()
    assert np.abs(first - second).max() > 1e-2
    np.testing.assert_array_equal(first, run(state, jax.random.key(0), video))


@pytest.mark.slow
@pytest.mark.parametrize("target", ["residual", "frame"])
def test_trains_by_the_loss_of_all_networks(rng, target):
    model = build(target=target)
    graph, params = nnx.split(model)
    videos = jnp.float32(rng.uniform(-1, 1, size=(2, 4, 8, 8, 3)))

    def loss(params, key):
        model = nnx.merge(graph, params)
        return training.loss(model, training.batch(key, videos, model.process, most=3))

    value, slope = jax.jit(jax.value_and_grad(loss))(params, jax.random.key(0))
    assert 0.1 < value < 10
    norms = [np.abs(leaf).max() for leaf in jax.tree.leaves(slope)]
    assert np.isfinite(norms).all() and min(norms) > 0


def test_says_how_to_make_frames_where_there_are_none_before(rng):
    noisy, time = jnp.zeros((1, 2, 8, 8, 3)), jnp.zeros(1)
    model = build()
    with pytest.raises(ValueError, match=r"jaxflow\.generate"):
        model(noisy, time)
    with pytest.raises(ValueError, match="at least one frame"):
        rvd.sample(jax.random.key(0), model, noisy[:, :0], count=1)
    with pytest.raises(ValueError, match="takes no `condition`"):
        model(noisy, time, clean=noisy, condition=jnp.zeros(1, int))


@pytest.mark.parametrize("overrides", [{"dim": 12}, {"target": "flow"}, {"count": 0}])
def test_rejects_configs_that_make_no_network(overrides):
    (name,) = overrides
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        build(**overrides)
