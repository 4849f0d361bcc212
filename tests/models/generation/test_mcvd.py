import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow import generation
from jaxflow.diffusion import parameterisations, samplers, schedules
from jaxflow.diffusion import process as processes
from jaxflow.models.generation import mcvd
from tests import golden

PUBLISHED = {
    "mcvd_smmnist": "smmnist_DDPM_big5",
    "mcvd_smmnist_future": "smmnist_DDPM_big5+num_frames_future5",
    "mcvd_smmnist_spade": "smmnist_DDPM_big5_spade",
    "mcvd_kth": "kth64_big+num_frames5+num_frames_cond10",
    "mcvd_bair": "bair_big+ngf192+n_head_channels192+num_frames5+num_frames_cond1"
    "+num_frames_future1",
    "mcvd_cityscapes": "cityscapes_big",
    "mcvd_cityscapes_spade": "cityscapes_big_spade",
    "mcvd_ucf101": "ucf101+ngf288+n_head_channels288+num_frames4+num_frames_cond4",
}


def build(**overrides):
    config = dataclasses.replace(mcvd.TINY, **overrides)
    model = mcvd.Model(config, rngs=nnx.Rngs(0))
    model.eval()
    return model


def frames_of(stacked, channels):
    """Splits (B, frames x C, H, W) into (B, frames, H, W, C)."""
    batch, _, height, width = stacked.shape
    split = stacked.reshape(batch, -1, channels, height, width)
    return np.moveaxis(split, 2, -1)


def whole_clip(config, current, conditioning):
    """Puts past, current and future frames in one clip; and which were not masked."""
    past, future = np.split(conditioning, [config.num_past], axis=1)
    clip = np.concatenate([past, current, future], axis=1)
    observed = np.abs(clip).max((2, 3, 4)) > 0
    observed[:, config.num_past : config.num_past + config.num_current] = False
    return jnp.asarray(clip), jnp.asarray(observed)


@pytest.mark.parametrize(
    "name",
    [
        "mcvd_concat",
        "mcvd_spade_pseudo3d",
        pytest.param("mcvd_spade", marks=pytest.mark.slow),
        pytest.param("mcvd_3d", marks=pytest.mark.slow),
        pytest.param("mcvd_pseudo3d", marks=pytest.mark.slow),
    ],
)
def test_equals_the_official_code(case, count, rng, name):
    model, arrays, info = case(name)
    config = model.config
    assert count(model) == info["parameter_count"]
    current = frames_of(arrays["x"], config.channels)
    conditioning = frames_of(arrays["cond"], config.channels)
    noisy, observed = whole_clip(config, current, conditioning)
    last = config.num_past + config.num_current
    slots = np.r_[: config.num_past, last : noisy.shape[1]]
    # What stands in masked frames, and for the others in the noisy clip, is not seen.
    junk = jnp.float32(rng.normal(size=noisy.shape))
    clean = jnp.where(observed[..., None, None, None], noisy, junk)
    noisy = noisy.at[:, slots].set(junk[:, slots])
    time = jnp.asarray(arrays["t"])

    out = golden.run(model, noisy, time, clean=clean, observed=observed)

    np.testing.assert_array_equal(out[:, slots], 0)
    expected = frames_of(arrays["out"], config.channels)
    np.testing.assert_allclose(
        out[:, config.num_past : last], expected, rtol=0, atol=info["tolerance"]["out"]
    )


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "mcvd_smmnist" else pytest.mark.slow)
        for name in PUBLISHED
    ],
)
def test_reads_every_published_key(published, count, unread, name):
    shapes, parameters = published("mcvd", PUBLISHED[name])
    assert unread(name, "mcvd", shapes) == []
    assert count(name) == parameters


@pytest.mark.slow
def test_no_clean_clip_is_one_whose_frames_are_all_masked(rng):
    model = build()
    for _, variable in nnx.to_flat_state(nnx.state(model)):
        variable[...] = jnp.float32(0.1 * rng.normal(size=variable.shape))
    noisy, clean = jnp.float32(rng.normal(size=(2, 1, 5, 16, 16, 2)))
    time = jnp.array([30])
    run = functools.partial(golden.run, model, noisy, time)
    masked = run(clean=clean, observed=jnp.zeros((1, 5), bool))
    np.testing.assert_allclose(run(), masked, atol=1e-6)
    # Past and future each have an effect.
    for slot in (1, 4):
        seen = run(clean=clean, observed=jnp.zeros((1, 5), bool).at[:, slot].set(True))
        assert np.abs(seen - masked).max() > 1e-3


@pytest.mark.parametrize(
    "overrides",
    [
        {"kind": "3d", "spade": True},
        {"kind": "pseudo3d", "num_past": 0, "num_future": 0, "cond_emb": False},
        {"num_past": 0, "num_future": 1},
        {"num_past": 0, "num_future": 0},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "size",
    [
        pytest.param((16, 16), marks=pytest.mark.slow),
        pytest.param((6, 16), marks=pytest.mark.slow),
        (8, 18),
    ],
)
def test_other_kinds_and_sizes_have_the_right_shape(overrides, size):
    frames = dataclasses.replace(mcvd.TINY, **overrides).num_frames
    if size[1] == 18:
        overrides = {**overrides, "attn_resolutions": ()}
    noisy = jnp.zeros((1, frames, *size, 2))
    out = jax.eval_shape(lambda: build(**overrides)(noisy, jnp.zeros(1, int)))
    assert out.shape == noisy.shape


def upfirdn(x, kernel, *, up, down, before, after):
    """Zero-stuffs, pads, filters and picks, by SciPy, along one axis."""
    stuffed = np.zeros(up * x.size)
    stuffed[::up] = x
    padded = np.pad(stuffed, (before, after))
    return np.convolve(padded, kernel, mode="valid")[::down]


def test_changes_of_size_filter_by_1_3_3_1(rng):
    x = rng.normal(size=(8, 6))
    kernel = np.array([1, 3, 3, 1]) / 8
    halve = functools.partial(upfirdn, kernel=kernel, up=1, down=2, before=1, after=1)
    double = functools.partial(
        upfirdn, kernel=2 * kernel, up=2, down=1, before=2, after=1
    )
    for actual, along in ((mcvd.fir_down, halve), (mcvd.fir_up, double)):
        expected = np.apply_along_axis(along, 1, np.apply_along_axis(along, 0, x))
        out = actual(jnp.float32(x)[None, None, ..., None])
        np.testing.assert_allclose(out[0, 0, ..., 0], expected, atol=1e-6)


def test_groups_divide_the_channels():
    found = [
        mcvd.num_groups(features) for features in (3, 8, 12, 24, 96, 160, 384, 576)
    ]
    assert found == [1, 2, 3, 6, 24, 32, 32, 32]
    assert mcvd.num_groups(144 + 1) == 29


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clean": jnp.zeros((1, 5, 16, 16, 2))}, "`clean` needs `observed`"),
        ({"condition": jnp.zeros(1, int)}, "takes no `condition`"),
        ({"latent": jnp.zeros((1, 5))}, "cannot use `latent`"),
    ],
)
def test_rejects_what_it_cannot_use(options, message):
    noisy, time = jnp.zeros((1, 5, 16, 16, 2)), jnp.zeros(1, int)
    with pytest.raises(ValueError, match=message):
        build()(noisy, time, **options)


def test_rejects_clips_that_do_not_fit():
    model, time = build(), jnp.zeros(1, int)
    noisy = jnp.zeros((1, 5, 16, 16, 2))
    with pytest.raises(ValueError, match="must have 5 frames; got 4"):
        model(noisy[:, :4], time)
    with pytest.raises(ValueError, match="width with attention at the same levels"):
        model(jnp.zeros((1, 5, 16, 32, 2)), time)
    observed = jnp.array([[1, 1, 0, 1, 1]])
    with pytest.raises(ValueError, match="current frames, 2 to 3"):
        model(noisy, time, clean=noisy, observed=observed)


@pytest.mark.slow
def test_a_compiled_call_marks_what_it_cannot_refuse():
    noisy = jnp.zeros((2, 5, 16, 16, 2))
    observed = jnp.array([[1, 1, 0, 1, 1], [1, 1, 0, 0, 1]])
    out = golden.run(build(), noisy, jnp.zeros(2, int), clean=noisy, observed=observed)
    assert np.isnan(out[0, 2:4]).all() and np.isfinite(out[1]).all()


@pytest.mark.slow
def test_generates_a_video_block_by_block_and_refuses_what_does_not_fit(rng):
    model = build(num_future=0)
    frames = np.float32(rng.uniform(size=(2, 16, 16, 2)))
    settings = generation.Settings(steps=2)
    video = generation.generate(model, frames, length=6, settings=settings)
    np.testing.assert_array_equal(video[:2], frames)
    assert video.shape == (6, 16, 16, 2) and video[2:].std() > 0.1
    for wrong in ({"length": 5}, {"length": 4, "observed": "past"}):
        with pytest.raises(ValueError, match="generates frames 2 to 3 of 4"):
            generation.generate(model, frames, settings=settings, **wrong)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"kind": "4d"}, "kind"),
        ({"n_head_channels": 6}, "`n_head_channels` must divide the 16 channels"),
        ({"spade": True, "num_past": 0, "num_future": 0}, "`spade` needs past"),
    ],
    ids=str,
)
def test_rejects_configs_that_make_no_network(overrides, message):
    with pytest.raises(ValueError, match=message):
        build(**overrides)


@pytest.fixture(scope="module")
def chain(case):
    """The small network of the official sampling chains, as (state, noisy, time)."""
    model, arrays, info = case("mcvd_diffusion")
    past = frames_of(arrays["cond"], 1)
    graph, state = nnx.split(model)

    def predict(state, noisy, time):
        clip = jnp.concatenate([jnp.asarray(past), noisy], axis=1)
        observed = jnp.broadcast_to(jnp.arange(3) < 1, clip.shape[:2])
        times = jnp.broadcast_to(time, clip.shape[:1])
        model = nnx.merge(graph, state)
        return model(clip, times, clean=clip, observed=observed)[:, 1:]

    return model.process, state, predict, arrays, info["tolerance"]


def test_equals_the_official_loss(chain):
    process, state, predict, arrays, tolerance = chain
    data, noise = (jnp.asarray(frames_of(arrays[k], 1)) for k in ("x", "loss_noise"))
    # Level 0 is the noisiest.
    bars = processes.alpha_bars(process)[::-1][arrays["labels"]]
    alpha, sigma = jnp.float32(np.sqrt(bars)), jnp.float32(np.sqrt(1 - bars))
    noisy = parameterisations.diffuse(data, noise, alpha, sigma)
    expected = frames_of(arrays["perturbed_x"], 1)
    np.testing.assert_allclose(noisy, expected, atol=tolerance["perturbed_x"])
    out = jax.jit(predict)(state, noisy, arrays["labels"])
    loss = (0.5 * np.square(noise - out)).sum(axis=(1, 2, 3, 4))
    expected = arrays["loss_per_clip"]
    np.testing.assert_allclose(loss, expected, atol=tolerance["loss_per_clip"])


@pytest.mark.parametrize(
    ("name", "update", "threshold"),
    [
        ("ddpm", samplers.ddpm, parameterisations.clip),
        pytest.param(
            "ddpm_just_beta",
            functools.partial(samplers.ddpm, gamma=1.0),
            parameterisations.clip,
            marks=pytest.mark.slow,
        ),
        pytest.param("ddpm_no_clip", samplers.ddpm, None, marks=pytest.mark.slow),
        pytest.param(
            "ddim", samplers.ddim, parameterisations.clip, marks=pytest.mark.slow
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_equals_the_official_sampling_chain(chain, name, update, threshold):
    process, state, predict, arrays, tolerance = chain
    chosen = np.arange(999, 0, -200)
    steps = schedules.steps(processes.alpha_bars(process), chosen)
    steps = steps._replace(time=jnp.asarray(processes.told(process, chosen)))
    start = jnp.asarray(frames_of(arrays["init_noise"], 1))
    draws = arrays["step_noise"].reshape(-1, *arrays["x"].shape[1:])
    draws = jnp.asarray(frames_of(draws, 1).reshape(5, *start.shape))

    @jax.jit
    def run(state, start, draws):
        denoise = parameterisations.denoiser(
            functools.partial(predict, state),
            process.predicts,
            threshold=threshold,
            keep_noise=name == "ddim",
        )
        return samplers.sample(
            jax.random.key(0),
            denoise,
            start,
            steps,
            update=update,
            draws=draws,
            trajectory=True,
        )

    made = run(state, start, draws)
    official = arrays[f"{name}_trajectory"]
    expected = np.stack([frames_of(step, 1) for step in official])
    limit = tolerance[f"{name}_trajectory"]
    # The official code ends with one more denoising at a noisy level: left out.
    np.testing.assert_allclose(made, expected[:-1], rtol=0, atol=limit)
