import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow import convert
from jaxflow.diffusion import parameterisations, samplers, schedules
from jaxflow.models.generation import fdm
from tests import golden

PLAIN = dataclasses.replace(fdm.TINY, dropout_rate=0.0, num_classes=None)
IMAGES = dataclasses.replace(PLAIN, attend_frames=False)


def build(config, seed=0, *, noise=0.0):
    """Returns a model, with noise on its weights: some of them start at zero."""
    model = fdm.Model(config, rngs=nnx.Rngs(seed))
    model.eval()
    numbers = np.random.default_rng(seed)
    for slot in convert.weight_slots(model).values() if noise else ():
        added = noise * numbers.standard_normal(slot.variable.shape)
        slot.variable[...] = slot.variable[...] + jnp.float32(added)
    return model


def inputs(rng, batch=2, frames=5, channels=3):
    noisy, clean = rng.normal(size=(2, batch, frames, 8, 8, channels))
    return {
        "noisy": jnp.float32(noisy),
        "time": jnp.arange(batch) * 400 + 3,
        "clean": jnp.float32(clean),
        "observed": jnp.float32(np.arange(frames) < 2)[None].repeat(batch, 0),
        "latent": jnp.float32(np.arange(frames) >= 2)[None].repeat(batch, 0),
        "indices": jnp.array([0, 7, 2, 3, 9][:frames])[None].repeat(batch, 0),
    }


def run(model, noisy, time, **options):
    return np.asarray(golden.run(model, noisy, time, **options))


def channels_last(array):
    return jnp.asarray(np.moveaxis(array, 2, -1))


def rows(array):
    return jnp.asarray(array.reshape(array.shape[:2]))


def companions(arrays):
    return {
        "clean": channels_last(arrays["x0"]),
        "observed": rows(arrays["obs_mask"]),
        "latent": rows(arrays["latent_mask"]),
        "indices": jnp.asarray(arrays["frame_indices"], jnp.int32),
    }


def test_equals_the_official_network(case, count):
    model, arrays, info = case("fdm_unet")
    assert count(model) == info["parameter_count"]
    out = run(
        model,
        channels_last(arrays["x"]),
        jnp.asarray(arrays["timesteps"]),
        **companions(arrays),
    )
    np.testing.assert_allclose(
        np.moveaxis(out, -1, 2), arrays["out"], atol=info["tolerance"]["out"], rtol=0
    )


@pytest.mark.slow
def test_equals_the_official_sampling_chain(case, count):
    model, arrays, info = case("fdm_sampling_chain")
    assert count(model) == info["parameter_count"]
    bars = schedules.alpha_bars(schedules.linear_betas(1000))
    chosen = schedules.strided(1000, int(info["timestep_respacing"]))
    np.testing.assert_array_equal(chosen[::-1], arrays["timestep_map"])
    steps = schedules.steps(bars, chosen)
    graph, state = nnx.split(model)
    given = companions(arrays)
    draws = jnp.moveaxis(jnp.asarray(arrays["step_noise"]), 3, -1)

    @jax.jit
    def chain(state, start):
        network = nnx.merge(graph, state)

        def predict(noisy, time):
            return network(noisy, jnp.broadcast_to(time, noisy.shape[:1]), **given)

        return samplers.sample(
            jax.random.key(0),
            parameterisations.denoiser(predict, "noise"),
            start,
            steps,
            update=functools.partial(samplers.ddpm, gamma=1.0),
            draws=draws,
            trajectory=True,
        )

    found = chain(state, channels_last(arrays["init_noise"]))
    np.testing.assert_allclose(
        np.moveaxis(found, -1, 3),
        arrays["trajectory"],
        atol=info["tolerance"]["trajectory"],
        rtol=0,
    )


def fill(module, state, table):
    """Fills a part of the network from official keys; all of both are used."""
    filled = set()
    for key, array in state.items():
        theirs, leaf = key.rsplit(".", 1)
        found = [ours for name, ours in table.items() if re.fullmatch(name, theirs)]
        slot = convert.find_slot(module, f"{found[0]}.{leaf}")
        slot.fill(array)
        filled.add(slot.path)
    assert filled == set(convert.weight_slots(module))
    return module


def test_equals_the_official_positions(folder):
    arrays, state = golden.load(folder, "fdm_rpenet")
    net = fdm.PositionNet(64, 4, 48, rngs=nnx.Rngs(0))
    names = {
        "embed_distances": "of_distance",
        "embed_diffusion_time": "of_time",
        "out": "out",
    }
    fill(net, state, names)
    found = net(
        jnp.asarray(arrays["temb"].reshape(2, 5, 48)),
        jnp.asarray(arrays["distances"], jnp.float32),
    )
    np.testing.assert_allclose(np.moveaxis(found, 1, 3), arrays["R"], atol=2.1e-5)


@pytest.mark.slow
def test_equals_the_official_attention(folder):
    arrays, state = golden.load(folder, "fdm_factorized_attention")
    config = dataclasses.replace(fdm.TINY, groups=32, num_heads=4)
    config = dataclasses.replace(config, official_attention=True)
    block = fill(fdm.Attention(64, config, 48, rngs=nnx.Rngs(0)), state, fdm._ATTEND)
    x = jnp.asarray(np.moveaxis(arrays["x"].reshape(2, 5, 64, 4, 6), 2, -1))
    embedded = jnp.asarray(arrays["temb"].reshape(2, 5, 48))
    indices = jnp.asarray(arrays["frame_indices"], jnp.float32)
    real = arrays["attn_mask"].reshape(2, 5)
    hidden = jnp.asarray(real[:, :, None] != real[:, None])
    pixels = lambda y: np.moveaxis(y, 1, -1).reshape(2, 24, 64, 5)  # noqa: E731
    out = block(x, embedded, indices, hidden)
    expected = np.moveaxis(arrays["out"].reshape(2, 5, 64, 4, 6), 2, -1)
    # The tolerances that come with the files.
    np.testing.assert_allclose(out, expected, atol=3.8e-5, rtol=0)
    for mask, name in ((hidden, "temporal"), (None, "temporal_no_mask")):
        found = pixels(block.frames(x, embedded, indices, mask))
        np.testing.assert_allclose(found, arrays[name], atol=5.2e-5, rtol=0)
    found = np.swapaxes(block.space(x).reshape(2, 5, 24, 64), 2, 3)
    np.testing.assert_allclose(found, arrays["spatial_only"], atol=2.2e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        (
            "fdm_carla",
            "carla_no_traffic (released checkpoint; README training command)",
        ),
        pytest.param(
            "fdm_64",
            "minerl and mazes_cwvae, 64 px defaults",
            marks=pytest.mark.slow,
        ),
        ("fdm_64_shallow", "64 px with one residual block"),
        pytest.param("fdm_32", "32 px defaults", marks=pytest.mark.slow),
    ],
)
def test_reads_every_published_key(published, count, unread, name, entry):
    shapes, parameters = published("fdm", entry)
    assert count(name) == parameters
    assert unread(name, "fdm", shapes) == []


@pytest.mark.slow
def test_observed_frames_matter_as_they_are_not_as_noise(rng):
    model, data = build(PLAIN, noise=0.1), inputs(rng)
    out = run(model, **data)
    other = data["noisy"].at[:, :2].set(jnp.nan)
    np.testing.assert_array_equal(run(model, **data | {"noisy": other}), out)
    other = data["clean"].at[:, :2].add(1)
    assert np.abs(run(model, **data | {"clean": other}) - out)[:, 2:].max() > 1e-3
    other = data["clean"].at[:, 2:].set(jnp.nan)
    np.testing.assert_array_equal(run(model, **data | {"clean": other}), out)


@pytest.mark.slow
@pytest.mark.parametrize("encoding", fdm.ENCODINGS)
def test_frame_numbers_count_as_the_encoding_says(rng, encoding):
    config = dataclasses.replace(PLAIN, time_encoding=encoding)
    model, data = build(config, noise=0.1), inputs(rng)
    out = run(model, **data)
    shifted = run(model, **data | {"indices": data["indices"] + 17})
    swapped = run(model, **data | {"indices": data["indices"][:, ::-1]})
    if encoding == "absolute":
        assert np.abs(shifted - out).max() > 1e-4
    else:
        np.testing.assert_allclose(shifted, out, atol=1e-5)
    if encoding == "none":
        np.testing.assert_array_equal(swapped, out)
    else:
        assert np.abs(swapped - out).max() > 1e-4


def test_frames_may_come_in_any_order_with_their_numbers(rng):
    model, data = build(PLAIN, noise=0.1), inputs(rng)
    order = np.array([3, 0, 4, 2, 1])
    moved = {name: x if name == "time" else x[:, order] for name, x in data.items()}
    np.testing.assert_allclose(
        run(model, **moved), run(model, **data)[:, order], atol=1e-5
    )


@pytest.mark.slow
def test_a_fresh_video_network_is_its_image_network_on_every_frame(rng):
    image, video = build(IMAGES), build(PLAIN, seed=1)
    numbers = np.random.default_rng(0)
    for slot in convert.weight_slots(image).values():
        added = 0.1 * numbers.standard_normal(slot.variable.shape)
        slot.variable[...] = slot.variable[...] + jnp.float32(added)
    # What the two share goes over: it is what an image network was trained to.
    nnx.update(video, nnx.state(image))
    data = inputs(rng)
    as_images = run(image, **data)
    assert np.abs(as_images).max() > 0.1
    np.testing.assert_array_equal(run(video, **data), as_images)
    # The image network sees one frame at a time, and a clip may be one frame.
    for network in (image, video):
        for frame in range(5):
            one = {
                name: x if name == "time" else x[:, frame : frame + 1]
                for name, x in data.items()
            }
            np.testing.assert_allclose(
                run(network, **one), as_images[:, frame : frame + 1], atol=1e-5
            )


@pytest.mark.slow
@pytest.mark.parametrize("official", [False, True])
def test_padding_changes_real_frames_in_the_official_attention_alone(rng, official):
    config = dataclasses.replace(PLAIN, official_attention=official)
    model, data = build(config, noise=0.1), inputs(rng)
    data["latent"] = data["latent"].at[:, -1].set(0)
    out = run(model, **data)
    changed = data["noisy"].at[:, -1].add(3)
    other = run(model, **data | {"noisy": changed})
    assert np.abs(other - out)[:, -1].max() > 1e-3
    if official:
        assert np.abs(other - out)[:, :-1].max() > 1e-4
        return
    np.testing.assert_allclose(other[:, :-1], out[:, :-1], atol=1e-5)
    # Nor does it matter whether there is any.
    fewer = {name: x if name == "time" else x[:, :-1] for name, x in data.items()}
    np.testing.assert_allclose(run(model, **fewer), out[:, :-1], atol=1e-5)


@pytest.mark.slow
def test_classes_none_and_minus_one_are_the_same(rng):
    config = dataclasses.replace(PLAIN, num_classes=3)
    model, data = build(config, noise=0.1), inputs(rng)
    free = run(model, **data)
    out = run(model, **data, condition=jnp.array([-1, 2]))
    np.testing.assert_allclose(out[0], free[0], atol=1e-5)
    assert np.abs(out[1] - free[1]).max() > 1e-3
    assert np.isnan(run(model, **data, condition=jnp.array([0, 3]))[1]).all()
    with pytest.raises(ValueError, match="condition"):
        run(model, **data, condition=jnp.array([0.0, 1.0]))
    with pytest.raises(ValueError, match="num_classes"):
        run(build(PLAIN), **data, condition=jnp.array([0, 1]))


def test_a_learned_variance_doubles_the_channels(rng):
    config = dataclasses.replace(PLAIN, learns_variance=True)
    data = inputs(rng)
    out = jax.eval_shape(functools.partial(build(config), **data))
    assert out.shape == (*data["noisy"].shape[:-1], 6)


@pytest.mark.slow
def test_dropout_acts_in_training_alone(rng):
    model, data = build(fdm.TINY, noise=0.1), inputs(rng)
    out = run(model, **data)
    np.testing.assert_array_equal(run(model, **data, key=jax.random.key(0)), out)
    model.train()
    assert np.abs(run(model, **data, key=jax.random.key(0)) - out).max() > 1e-3


def test_an_unknown_encoding_raises():
    with pytest.raises(ValueError, match="time_encoding"):
        build(dataclasses.replace(PLAIN, time_encoding="learned"))
