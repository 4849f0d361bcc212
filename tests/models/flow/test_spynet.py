"""Tests for jaxflow.models.flow.spynet, against outputs of the published code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow import cli, convert, estimate, models
from jaxflow.models.flow import spynet
from tests import golden
from tests.convert import states
from tests.io import test_torch7


@pytest.fixture(scope="module")
def case(test_data):
    """Golden arrays, and the model with the procedural weights."""
    arrays, state = golden.load(test_data / "golden" / "flow", "spynet")
    return arrays, convert.convert_state_dict(golden.blank("spynet"), state)


def test_flow_is_that_of_the_published_code(case):
    arrays, model = case
    flow = estimate.estimate_flow(model, arrays["image1"], arrays["image2"])
    # The published code itself moves by 2.4e-5 px between float32 and float64.
    np.testing.assert_allclose(flow, arrays["flow"], atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("level", "name"), [(0, "level0_output"), (1, "level1_output")]
)
def test_the_flow_of_a_level_is_that_of_the_published_code(case, level, name):
    arrays, model = case
    graphdef, state = nnx.split(model)

    @jax.jit
    def predictions(state, image1, image2):
        model = nnx.merge(graphdef, state, copy=True)
        return model(image1, image2).predictions

    frames = [jnp.float32(arrays[key][None]) / 255 for key in ("image1", "image2")]
    flows = predictions(state, *frames)
    assert len(flows) == 3
    residual = golden.nhwc(arrays[name])
    coarse = spynet.upsample(flows[level - 1]) if level else 0
    np.testing.assert_allclose(flows[level] - coarse, residual, atol=1e-4, rtol=0)


def test_the_coarsest_network_sees_normalised_frames_and_no_flow(case):
    arrays, model = case
    frames = (jnp.float32(arrays[key][None]) / 255 for key in ("image1", "image2"))
    coarsest = [model._pyramid(frame)[-1] for frame in frames]
    expected = golden.nhwc(arrays["level0_input"])
    # Values of order 1, averaged twice.
    np.testing.assert_allclose(
        jnp.concatenate(coarsest, axis=-1), expected[..., :6], atol=1e-5, rtol=0
    )
    np.testing.assert_array_equal(expected[..., 6:], 0)


@pytest.mark.parametrize(
    ("side", "levels"),
    [(32, 1), (64, 2), (96, 3), (128, 3), (256, 4), (512, 5), (544, 6)],
)
def test_number_of_levels_follows_the_longer_side(side, levels):
    model = spynet.Model(spynet.TINY, rngs=nnx.Rngs(0))
    image = jax.ShapeDtypeStruct((1, 32, side, 3), jnp.float32)
    found = jax.eval_shape(lambda a, b: model(a, b), image, image)
    assert len(found.predictions) == levels


def test_the_last_network_serves_all_finer_levels():
    config = spynet.Config(networks=1, features=(4, 4), kernel_size=1)
    model = spynet.Model(config, rngs=nnx.Rngs(0))
    for layer in model.levels[0].convs:
        layer.kernel[...] = jnp.zeros_like(layer.kernel[...])
    model.levels[0].convs[-1].bias[...] = jnp.array([1.0, -1.0])
    image = np.zeros((1, 64, 64, 3), np.float32)
    flow = golden.run(model, image, image).flow
    # The constant is added at 32 px, doubled, and added again at 64 px.
    np.testing.assert_allclose(flow[0, 5, 5], [3.0, -3.0], atol=1e-5)


def test_upsampling_doubles_size_and_values_and_keeps_corners():
    flow = jnp.arange(12.0).reshape(1, 2, 3, 2)
    up = spynet.upsample(flow)
    assert up.shape == (1, 4, 6, 2)
    np.testing.assert_allclose(up[0, ::3, ::5], 2 * flow[0, ::1, ::2], atol=1e-5)


def test_reads_one_torch7_file_a_level():
    model = models.create_model("spynet_chairs")
    rng = np.random.default_rng(0)
    state, channels = {}, (8, 32, 64, 32, 16, 2)
    for level in range(5):
        for index in range(5):
            name = f"modelL{level + 1}_4.modules.{2 * index + 1}"
            shape = (channels[index + 1], channels[index] * 49)
            state[f"{name}.weight"] = rng.normal(size=shape)
            state[f"{name}.gradWeight"] = np.zeros(shape)
            state[f"{name}.bias"] = rng.normal(size=shape[0])
    convert.convert_state_dict(model, state)
    flat = state["modelL2_4.modules.3.weight"]
    np.testing.assert_allclose(
        model.levels[1].convs[1].kernel[...],
        flat.reshape(64, 32, 7, 7).transpose(2, 3, 1, 0),
        rtol=1e-6,
    )


def official_folder(folder, tag, levels, rng):
    """Writes one Torch7 file a level, with all the fields that nn's layers have."""
    channels, kernels = (8, 32, 64, 32, 16, 2), {}
    for level in range(levels):
        modules = {}
        for index in range(5):
            shape = (channels[index + 1], channels[index], 7, 7)
            kernels[level, index] = rng.normal(size=shape).astype(np.float32)
            modules[2 * index + 1] = {
                "__class__": "nn.SpatialConvolution",
                "_type": "torch.FloatTensor",
                "weight": kernels[level, index].reshape(shape[0], -1).copy(),
                "bias": rng.normal(size=shape[0]).astype(np.float32),
                "gradWeight": np.zeros((shape[0], 4), np.float32),
                "gradBias": np.zeros(shape[0], np.float32),
                "gradInput": np.zeros((1, 2), np.float32),
                "output": np.full((1, 2), np.nan, np.float32),
                "finput": np.zeros((1, 2), np.float32),
                "fgradInput": np.zeros((1, 2), np.float32),
                "_input": {1: np.zeros((1, 2), np.float32)},
                "iSize": np.array([1, shape[1], 12, 16]),
                "train": False,
                "kW": 7,
                "padH": 3,
            }
            if index < 4:
                modules[2 * index + 2] = {
                    "__class__": "nn.ReLU",
                    "inplace": True,
                    "threshold": 0,
                    "output": np.zeros((1, 2), np.float32),
                }
        network = {"__class__": "nn.Sequential", "modules": modules}
        network["gradInput"] = np.zeros((1, 2), np.float32)
        path = folder / f"modelL{level + 1}_{tag}.t7"
        test_torch7.Writer().write(network).save(path)
    return kernels


def test_reads_the_official_torch7_files(tmp_path, monkeypatch, rng):
    monkeypatch.chdir(tmp_path)
    kernels = official_folder(tmp_path, "F", 6, rng)
    (tmp_path / "README.md").write_text("x")
    (tmp_path / "out").mkdir()
    several = sorted(str(path) for path in tmp_path.glob("*.t7"))
    for source in (tmp_path, str(tmp_path / "modelL*_F.t7"), several):
        model = models.describe("spynet")
        convert.load_weights(model, source)
        for (level, index), kernel in kernels.items():
            layer = model.levels[level].convs[index]
            np.testing.assert_array_equal(
                layer.kernel[...], kernel.transpose(2, 3, 1, 0)
            )
    for words in ([str(tmp_path)], ["modelL*_F.t7"], several):
        words = ["convert", *words, "--model", "spynet", "-o", "out/w.safetensors"]
        assert cli.main(words) == 0
        states.assert_same(
            convert.load_weights(models.describe("spynet"), "out/w.safetensors"), model
        )
    official_folder(tmp_path, "3", 5, rng)
    official_folder(tmp_path, "4", 5, rng)
    message = r"holds 3 checkpoints: modelL\*_3.t7, modelL\*_4.t7, modelL\*_F.t7"
    with pytest.raises(ValueError, match=message):
        convert.load_weights(models.describe("spynet"), tmp_path)
    convert.load_weights(models.describe("spynet_chairs"), tmp_path / "modelL*_4.t7")
