"""Tests for jaxflow.convert."""

import importlib.util
import json
import pathlib
import struct

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
import safetensors
from flax import nnx, serialization

import jaxflow
from jaxflow import checkpoint, convert, estimate, models
from jaxflow.models.flow import pwcnet, spynet
from tests import golden


def tiny(seed=0):
    return spynet.Model(spynet.TINY, rngs=nnx.Rngs(seed))


def tiny_state(rng, prefix=""):
    """A state dict in sniklaus' dialect for the tiny SpyNet."""
    channels = (8, *spynet.TINY.features, 2)
    state = {}
    for level in range(2):
        for index in range(5):
            name = f"{prefix}moduleBasic.{level}.moduleBasic.{2 * index}"
            shape = (channels[index + 1], channels[index], 3, 3)
            state[f"{name}.weight"] = rng.normal(size=shape).astype(np.float32)
            state[f"{name}.bias"] = rng.normal(size=shape[:1]).astype(np.float32)
    return state


def weights(model):
    return {
        path: np.asarray(slot.variable[...])
        for path, slot in convert.weight_slots(model).items()
    }


def assert_same(actual, expected):
    actual, expected = weights(actual), weights(expected)
    assert list(actual) == list(expected)
    for path, value in expected.items():
        np.testing.assert_array_equal(actual[path], value, err_msg=path)


def test_fills_in_place_and_moves_the_axes(rng):
    model, state = tiny(), tiny_state(rng)
    assert jaxflow.convert_state_dict(model, state) is model
    kernel = state["moduleBasic.1.moduleBasic.2.weight"]
    np.testing.assert_array_equal(
        model.levels[1].convs[1].kernel[...], kernel.transpose(2, 3, 1, 0)
    )
    np.testing.assert_array_equal(
        model.levels[0].convs[4].bias[...], state["moduleBasic.0.moduleBasic.8.bias"]
    )


def test_unwraps_and_drops_the_prefix_of_data_parallel(rng):
    expected = convert.convert_state_dict(tiny(), tiny_state(rng))
    state = tiny_state(np.random.default_rng(0), prefix="module.")
    state["module.norm.num_batches_tracked"] = np.int64(3)
    actual = convert.convert_state_dict(tiny(1), {"epoch": 1, "state_dict": state})
    assert_same(actual, expected)


def test_one_error_lists_everything_and_leaves_the_model_alone(rng):
    model, state = tiny(), tiny_state(rng)
    before = weights(model)
    del state["moduleBasic.0.moduleBasic.0.bias"]
    del state["moduleBasic.1.moduleBasic.4.weight"]
    state["moduleBasic.0.moduleBasic.2.weight"] = np.zeros((8, 8, 5, 5))
    state["extra.weight"] = np.zeros(3)
    state["moduleBasic.7.moduleBasic.0.bias"] = np.zeros(8)
    with pytest.raises(ValueError) as error:
        convert.convert_state_dict(model, state)
    message = str(error.value)
    assert "\n" not in message
    assert "spynet (read as 'sniklaus')" in message
    assert "2 missing: levels.0.convs.0.bias, levels.1.convs.2.kernel" in message
    assert "2 unused: extra.weight, moduleBasic.7.moduleBasic.0.bias" in message
    assert (
        "1 misshapen: moduleBasic.0.moduleBasic.2.weight (8, 8, 5, 5) instead of "
        "(8, 8, 3, 3)" in message
    )
    for path, value in weights(model).items():
        np.testing.assert_array_equal(value, before[path])


def test_an_unknown_dialect_is_an_error(rng):
    with pytest.raises(ValueError, match=r"`dialect` must be one of .*'sniklaus'"):
        convert.convert_state_dict(tiny(), tiny_state(rng), dialect="caffe")


def test_a_second_value_for_one_weight_is_an_error_but_an_alias_is_not(rng):
    state = tiny_state(rng)
    own = {"levels.0.convs.0.bias": state["moduleBasic.0.moduleBasic.0.bias"]}
    table = {"both": ((r"alias", r"levels.0.convs.0.bias"), *spynet.KEYS["sniklaus"])}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spynet, "KEYS", table)
        convert.convert_state_dict(tiny(), state | {"alias": own.popitem()[1]})
        with pytest.raises(ValueError, match="a second value for levels"):
            convert.convert_state_dict(tiny(), state | {"alias": np.zeros(8)})


def test_weights_that_nothing_uses_may_be_missing():
    model = nnx.eval_shape(lambda: pwcnet.Model(pwcnet.Config(), rngs=nnx.Rngs(0)))
    unused = [p for p in convert.weight_slots(model) if convert.is_optional(model, p)]
    assert unused == ["decoder2.up_flow.bias", "decoder2.up_flow.kernel"]


def test_own_format_round_trip_records_the_model(tmp_path):
    model, path = tiny(), tmp_path / "w.safetensors"
    jaxflow.save_weights(model, path)
    assert_same(jaxflow.load_weights(tiny(1), path), model)
    with safetensors.safe_open(path, "np") as file:
        metadata = file.metadata()
    assert metadata["model"] == "jaxflow.models.flow.spynet"
    assert json.loads(metadata["config"])["networks"] == 2


def test_reads_checkpoints_of_flax_and_orbax(tmp_path):
    model = tiny()
    pure = nnx.to_pure_dict(nnx.state(model))
    pure = json_keys(pure)
    (tmp_path / "w.msgpack").write_bytes(serialization.msgpack_serialize(pure))
    assert_same(jaxflow.load_weights(tiny(1), tmp_path / "w.msgpack"), model)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "orbax", pure)
    assert_same(jaxflow.load_weights(tiny(1), tmp_path / "orbax"), model)


def test_reads_what_checkpoint_saves(tmp_path):
    model = tiny()
    checkpoint.save(tmp_path / "model", model)
    assert_same(jaxflow.load_weights(tiny(1), tmp_path / "model"), model)
    state = {**checkpoint.weights_of(model), "moments": {"levels": jnp.zeros(3)}}
    with checkpoint.Checkpoints(tmp_path / "run") as run:
        for step in (9, 10):
            run.save(step, state, metrics={"loss": 1.0 / step})
    assert_same(jaxflow.load_weights(tiny(1), tmp_path / "run"), model)


def json_keys(tree):
    if isinstance(tree, dict):
        return {str(key): json_keys(value) for key, value in tree.items()}
    return tree


def test_several_files_are_one_checkpoint_with_their_names_in_front(tmp_path):
    for name in ("modelL1_F", "modelL2_F"):
        part = {"modules": {"1": {"weight": np.ones(3), "kW": 7}}}
        data = serialization.msgpack_serialize(part)
        (tmp_path / f"{name}.msgpack").write_bytes(data)
    state = convert.read_checkpoint(sorted(tmp_path.iterdir()))
    assert list(state) == ["modelL1_F.modules.1.weight", "modelL2_F.modules.1.weight"]


@pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.bfloat16])
def test_weights_of_other_precision_are_cast(rng, dtype):
    state = {key: value.astype(dtype) for key, value in tiny_state(rng).items()}
    model = convert.convert_state_dict(tiny(), state)
    assert model.levels[0].convs[0].bias[...].dtype == jnp.float32
    np.testing.assert_array_equal(
        model.levels[0].convs[0].bias[...],
        state["moduleBasic.0.moduleBasic.0.bias"].astype(np.float32),
    )


def test_reads_bfloat16_safetensors(tmp_path):
    values = np.array([1.5, -2.0], ml_dtypes.bfloat16)
    header = {"w": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}
    text = json.dumps(header).encode()
    path = tmp_path / "b.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + values.tobytes())
    np.testing.assert_array_equal(
        convert.read_checkpoint(path)["w"].astype(np.float32), [1.5, -2.0]
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("junk.safetensors", b"\xff" * 40),
        ("lying.safetensors", struct.pack("<Q", 2**60) + b"{}"),
        ("junk.msgpack", b"\xc1\xc1"),
        ("junk.t7", b"\x09\0\0\0"),
        ("junk.pth", b"no"),
        ("number.msgpack", serialization.msgpack_serialize(3)),
        ("empty.msgpack", serialization.msgpack_serialize({"epoch": 1})),
    ],
)
def test_a_file_that_is_no_checkpoint_is_one_error(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=name) as error:
        convert.read_checkpoint(tmp_path / name)
    assert "\n" not in str(error.value)


def test_a_folder_that_is_no_checkpoint_is_one_error(tmp_path):
    with pytest.raises(ValueError, match="is not an Orbax checkpoint"):
        convert.read_checkpoint(tmp_path)


def test_the_error_of_load_weights_names_the_file(tmp_path):
    path = tmp_path / "other.safetensors"
    model = pwcnet.Model(pwcnet.TINY, rngs=nnx.Rngs(jax.random.key(0)))
    convert.save_weights(model, path)
    with pytest.raises(
        ValueError, match=r"other\.safetensors: the state dict does not"
    ):
        convert.load_weights(tiny(), path)


@pytest.mark.parametrize(
    ("theirs", "ours", "tolerance"),
    [
        ("flownets", "flownets_mmflow", 1e-4),
        ("flownetc", "flownetc_mmflow", 2e-3),
        ("pwcnet", "pwcnet_mmflow", 1e-3),
        ("raft", "raft_large", 1e-3),
    ],
)
def test_weights_of_mmflow_give_its_flow(theirs, ours, tolerance):
    folder = pathlib.Path(__file__).parent / "fixtures"
    spec = importlib.util.spec_from_file_location("mm", folder / "make_mmflow.py")
    make_mmflow = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_mmflow)
    saved = np.load(folder / "mmflow.npz")
    shapes = json.loads(str(saved[f"{theirs}/keys"]))
    model = golden.blank(ours)
    convert.convert_state_dict(model, make_mmflow.fill(shapes))
    iterations = make_mmflow.RAFT_ITERATIONS
    options = {"iterations": iterations} if theirs == "raft" else {}
    flow = estimate.estimate_flow(model, *make_mmflow.frames(theirs), options=options)
    expected = saved[f"{theirs}/flow"]
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(flow, expected, atol=tolerance)


def test_weights_for_another_config_are_refused():
    path = pathlib.Path(__file__).parent / "fixtures" / "mmflow.npz"
    shapes = json.loads(str(np.load(path)["flownets/keys"]))
    state = {key: np.zeros(shape, np.float32) for key, shape in shapes.items()}
    model = models.create_model("flownets")
    with pytest.raises(ValueError, match="create one of flownets_mmflow"):
        convert.convert_state_dict(model, state)
    assert np.any(convert.weight_slots(model)["conv1.conv.kernel"].variable[...])
