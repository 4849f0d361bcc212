import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow import convert
from jaxflow.diffusion import guidance, parameterisations, samplers, schedules
from jaxflow.models.generation import ramvid
from tests import golden


def build(**overrides):
    config = dataclasses.replace(ramvid.TINY, **overrides)
    model = ramvid.Model(config, rngs=nnx.Rngs(0))
    model.eval()
    return model


@pytest.mark.parametrize(
    "name", ["ramvid_unet", pytest.param("ramvid_unet_b", marks=pytest.mark.slow)]
)
def test_equals_the_official_code(case, count, name):
    model, arrays, info = case(name)
    assert count(model) == info["parameter_count"]
    options = {"condition": jnp.asarray(arrays["y"])} if "y" in arrays else {}
    noisy, time = golden.nhwc(arrays["x"]), arrays["timesteps"]
    out = golden.run(model, jnp.asarray(noisy), jnp.asarray(time), **options)
    expected = golden.nhwc(arrays["out"])
    np.testing.assert_allclose(out, expected, rtol=0, atol=info["tolerance"]["out"])


@pytest.mark.parametrize(
    ("name", "official"),
    [
        ("ramvid_bair", "BAIR (README flags)"),
        ("ramvid_kinetics600", "Kinetics-600 and UCF-101 (README flags)"),
    ],
)
def test_reads_every_published_key(published, count, unread, name, official):
    shapes, parameters = published("ramvid", official)
    assert unread(name, "ramvid", shapes) == []
    assert count(name) == parameters


@pytest.mark.slow
def test_observed_frames_are_those_of_the_clean_clip(rng):
    model = build(num_classes=None)
    model.last.kernel[...] = jnp.float32(rng.normal(size=model.last.kernel.shape))
    noisy, clean = jnp.float32(rng.normal(size=(2, 2, 4, 8, 8, 3)))
    observed = jnp.asarray([[1, 0, 0, 1], [0, 0, 0, 0]])
    time = jnp.array([10.0, 900.5])
    pasted = noisy.at[0, jnp.array([0, 3])].set(clean[0, jnp.array([0, 3])])
    out = golden.run(model, noisy, time, clean=clean, observed=observed)
    np.testing.assert_allclose(out, golden.run(model, pasted, time), atol=1e-5)
    assert np.abs(out[0] - golden.run(model, noisy, time)[0]).max() > 1e-3


@pytest.mark.parametrize(
    ("bound", "levels", "frames"),
    [
        (0, 3, (0, 0, 0)),
        (8, 3, (8, 4, 2)),
        (6, 3, (6, 3, 2)),
        (2, 3, (2, 1, 1)),
        (4, 4, (4, 2, 1, 1)),
        (1, 2, (1, 1)),
    ],
)
def test_frames_of_levels_are_those_that_the_convolutions_leave(bound, levels, frames):
    config = dataclasses.replace(
        ramvid.TINY,
        scale_time_dim=bound,
        channel_mult=(1,) * levels,
        attention_downsampling=(),
        num_classes=None,
    )
    assert ramvid.frames_of_levels(config) == frames
    noisy = jnp.zeros((1, bound or 5, 2**levels, 2**levels, 3))

    def predict(noisy):
        return ramvid.Model(config, rngs=nnx.Rngs(0))(noisy, jnp.zeros(1))

    assert jax.eval_shape(predict, noisy).shape == noisy.shape


@pytest.mark.parametrize("bound", [5, 10])
def test_rejects_a_number_of_frames_that_the_way_up_cannot_meet(bound):
    with pytest.raises(ValueError, match="`scale_time_dim` must be even"):
        build(scale_time_dim=bound, channel_mult=(1, 1, 1, 1))


@pytest.mark.parametrize(
    ("overrides", "options", "message"),
    [
        ({}, {}, "must be the class of each clip"),
        ({}, {"condition": jnp.zeros(2)}, "got float32"),
        ({}, {"condition": jnp.zeros((2, 1), int)}, "must be the class"),
        ({"num_classes": None}, {"condition": jnp.zeros(2, int)}, "no `condition`"),
        ({"num_classes": None, "scale_time_dim": 4}, {}, "must have 4 frames; got 3"),
        ({"num_classes": None}, {"observed": jnp.zeros((2, 3))}, "needs `clean`"),
        ({"num_classes": None}, {"latent": jnp.zeros((2, 3))}, "cannot use `latent`"),
    ],
    ids=str,
)
def test_rejects_what_does_not_fit(overrides, options, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(
            lambda: build(**overrides)(
                jnp.zeros((2, 3, 8, 8, 3)), jnp.zeros(2), **options
            )
        )


@pytest.mark.slow
def test_dropout_acts_in_training_alone(rng):
    model = build(num_classes=None, dropout_rate=0.5)
    for _, variable in nnx.to_flat_state(nnx.state(model)):
        variable[...] = jnp.float32(0.1 * rng.normal(size=variable.shape))
    noisy = jnp.float32(rng.normal(size=(1, 2, 8, 8, 3)))
    run = functools.partial(golden.run, model, noisy, jnp.ones(1))
    evaluated = run(key=jax.random.key(0))
    np.testing.assert_array_equal(evaluated, run())
    model.train()
    first, second = run(key=jax.random.key(0)), run(key=jax.random.key(1))
    assert np.abs(first - second).max() > 1e-3
    with pytest.raises(ValueError, match="random numbers"):
        run()


@pytest.mark.slow
def test_equals_the_official_sampling_chain(folder):
    """Clean frames pasted before every step, with the official draws."""
    info = json.loads((folder / "ramvid_diffusion.json").read_text())
    config = info["config"]
    arrays, state = golden.load(folder, "ramvid_diffusion")
    model = golden.blank(
        "ramvid_unet",
        model_channels=config["model_channels"],
        num_heads=config["num_heads"],
    )
    convert.convert_state_dict(model, state, dialect="ramvid")
    chosen = schedules.strided(1000, int(info["timestep_respacing"]))
    np.testing.assert_array_equal(chosen[::-1], arrays["timestep_map"])
    steps = schedules.steps(schedules.alpha_bars(schedules.linear_betas(1000)), chosen)
    video, start = (
        jnp.asarray(np.moveaxis(arrays[name], 1, -1))
        for name in ("video", "init_noise")
    )
    observed = np.zeros(video.shape[:2], bool)
    observed[:, info["sampling_conditional_frames"]] = True
    graph, weights = nnx.split(model)

    @jax.jit
    def chain(weights, start, draws):
        network = nnx.merge(graph, weights)

        def predict(noisy, time):
            return network(noisy, jnp.broadcast_to(time, noisy.shape[:1]))

        return samplers.sample(
            jax.random.key(0),
            parameterisations.denoiser(predict, "noise"),
            start,
            steps,
            update=functools.partial(samplers.ddpm, gamma=1.0),
            before=guidance.paste(video, jnp.asarray(observed)),
            draws=draws,
            trajectory=True,
        )

    found = chain(weights, start, jnp.moveaxis(jnp.asarray(arrays["draws"]), 2, -1))
    np.testing.assert_allclose(
        np.moveaxis(found, -1, 2),
        arrays["trajectory"],
        atol=info["tolerance"]["trajectory"],
        rtol=0,
    )
