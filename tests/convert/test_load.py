"""Tests for jaxflow.convert.load."""

import dataclasses
import importlib.util
import json
import pathlib
import warnings

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
import safetensors
import safetensors.numpy
from flax import nnx, serialization

import jaxflow
from jaxflow import checkpoint, convert, estimate, models
from jaxflow.convert import matching
from jaxflow.models.flow import flownet2, pwcnet, raft, spynet
from jaxflow.models.video import c3d, r3d, repflow, resnet3d
from tests import golden
from tests.convert import states


def tiny(seed=0):
    return spynet.Model(spynet.TINY, rngs=nnx.Rngs(seed))


def test_fills_in_place_and_moves_the_axes(rng):
    model, state = tiny(), states.spynet_state(rng)
    assert jaxflow.convert_state_dict(model, state) is model
    kernel = state["moduleBasic.1.moduleBasic.2.weight"]
    np.testing.assert_array_equal(
        model.levels[1].convs[1].kernel[...], kernel.transpose(2, 3, 1, 0)
    )
    np.testing.assert_array_equal(
        model.levels[0].convs[4].bias[...], state["moduleBasic.0.moduleBasic.8.bias"]
    )


def test_unwraps_and_drops_the_prefix_of_data_parallel(rng):
    expected = convert.convert_state_dict(tiny(), states.spynet_state(rng))
    state = states.spynet_state(np.random.default_rng(0), prefix="module.")
    state["module.norm.num_batches_tracked"] = np.int64(3)
    actual = convert.convert_state_dict(tiny(1), {"epoch": 1, "state_dict": state})
    states.assert_same(actual, expected)


def test_one_error_counts_everything_and_leaves_the_model_alone(rng):
    model, state = tiny(), states.spynet_state(rng)
    before = states.weights(model)
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
    for path, value in states.weights(model).items():
        np.testing.assert_array_equal(value, before[path])


def test_an_unknown_dialect_is_an_error(rng):
    with pytest.raises(ValueError, match=r"`dialect` must be one of .*'sniklaus'"):
        convert.convert_state_dict(tiny(), states.spynet_state(rng), dialect="caffe")


def test_a_second_value_for_one_weight_is_an_error_but_an_alias_is_not(rng):
    state = states.spynet_state(rng)
    own = {"levels.0.convs.0.bias": state["moduleBasic.0.moduleBasic.0.bias"]}
    table = {"both": ((r"alias", r"levels.0.convs.0.bias"), *spynet.KEYS["sniklaus"])}
    with pytest.MonkeyPatch.context() as patch:
        record = dataclasses.replace(spynet.RECORD, keys=table)
        patch.setattr(spynet.Model, "record", record)
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
    states.assert_same(jaxflow.load_weights(tiny(1), path), model)
    with safetensors.safe_open(path, "np") as file:
        metadata = file.metadata()
    assert metadata["model"] == "jaxflow.models.flow.spynet"
    assert json.loads(metadata["config"])["networks"] == 2


@pytest.mark.parametrize("name", ["w.npz", "w", "w.pth", "w.msgpack"])
def test_weights_are_not_saved_under_the_name_of_another_format(tmp_path, name):
    with pytest.raises(ValueError, match=r"must end in \.safetensors; got '"):
        jaxflow.save_weights(tiny(), tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["w.npz", "weights", "w.bin", "w.pth"])
def test_own_files_are_read_whatever_they_are_called(tmp_path, name):
    model = tiny()
    jaxflow.save_weights(model, tmp_path / "w.safetensors")
    (tmp_path / "w.safetensors").rename(tmp_path / name)
    states.assert_same(jaxflow.load_weights(tiny(1), tmp_path / name), model)


def test_a_flipped_bit_in_our_own_file_is_named(tmp_path):
    path = tmp_path / "w.safetensors"
    jaxflow.save_weights(tiny(), path)
    whole = path.read_bytes()
    for place in (-1, -1000, len(whole) // 2):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"w\.safetensors: is damaged.*levels"):
            jaxflow.load_weights(tiny(), path)


def test_a_weight_too_large_for_the_model_is_an_error():
    model = tiny()
    state = {k: s.variable[...] for k, s in convert.weight_slots(model).items()}
    key = next(iter(state))
    for value in (1e300, -1e39):
        wide = np.asarray(state[key], np.float64).copy()
        wide.flat[0] = value
        with pytest.raises(ValueError, match=rf"{key} holds 1e\+.* largest float32"):
            convert.convert_state_dict(model, {**state, key: wide})
    wide.flat[0] = 3e38
    convert.convert_state_dict(model, {**state, key: wide})


def test_reads_checkpoints_of_flax_and_orbax(tmp_path):
    model = tiny()
    pure = nnx.to_pure_dict(nnx.state(model))
    pure = json_keys(pure)
    (tmp_path / "w.msgpack").write_bytes(serialization.msgpack_serialize(pure))
    states.assert_same(jaxflow.load_weights(tiny(1), tmp_path / "w.msgpack"), model)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "orbax", pure)
    states.assert_same(jaxflow.load_weights(tiny(1), tmp_path / "orbax"), model)


def test_reads_what_checkpoint_saves(tmp_path):
    model = tiny()
    checkpoint.save(tmp_path / "model", model)
    states.assert_same(jaxflow.load_weights(tiny(1), tmp_path / "model"), model)
    state = {**checkpoint.weights_of(model), "moments": {"levels": jnp.zeros(3)}}
    with checkpoint.Checkpoints(tmp_path / "run") as run:
        for step in (9, 10):
            run.save(step, state, metrics={"loss": 1.0 / step})
    states.assert_same(jaxflow.load_weights(tiny(1), tmp_path / "run"), model)


def json_keys(tree):
    if isinstance(tree, dict):
        return {str(key): json_keys(value) for key, value in tree.items()}
    return tree


@pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.bfloat16])
def test_weights_of_other_precision_are_cast(rng, dtype):
    state = {
        key: value.astype(dtype) for key, value in states.spynet_state(rng).items()
    }
    model = convert.convert_state_dict(tiny(), state)
    assert model.levels[0].convs[0].bias[...].dtype == jnp.float32
    np.testing.assert_array_equal(
        model.levels[0].convs[0].bias[...],
        state["moduleBasic.0.moduleBasic.0.bias"].astype(np.float32),
    )


def test_the_error_of_load_weights_names_the_file(tmp_path):
    path = tmp_path / "other.safetensors"
    convert.save_weights(states.blank(pwcnet), path)
    with pytest.raises(ValueError, match=r"other\.safetensors: .* saved from pwcnet"):
        convert.load_weights(tiny(), path)
    safetensors.numpy.save_file(states.weights(states.blank(pwcnet)), path)
    with pytest.raises(ValueError, match=r"other\.safetensors: the state dict does"):
        convert.load_weights(tiny(), path)


@pytest.mark.parametrize(
    ("theirs", "ours", "tolerance"),
    [
        pytest.param("flownets", "flownets_mmflow", 1e-4, marks=pytest.mark.slow),
        pytest.param("flownetc", "flownetc_mmflow", 2e-3, marks=pytest.mark.slow),
        pytest.param("pwcnet", "pwcnet_mmflow", 1e-3, marks=pytest.mark.slow),
        ("raft", "raft_large", 1e-3),
    ],
)
def test_weights_of_mmflow_give_its_flow(theirs, ours, tolerance):
    folder = pathlib.Path(__file__).parent.parent / "fixtures"
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
    path = pathlib.Path(__file__).parent.parent / "fixtures" / "mmflow.npz"
    shapes = json.loads(str(np.load(path)["flownets/keys"]))
    state = {key: np.zeros(shape, np.float32) for key, shape in shapes.items()}
    model = models.create_model("flownets")
    with pytest.raises(ValueError, match="create one of flownets_mmflow"):
        convert.convert_state_dict(model, state)
    assert np.any(convert.weight_slots(model)["conv1.conv.kernel"].variable[...])


HEADED = [c3d, resnet3d, r3d, repflow]


@pytest.mark.parametrize("module", HEADED, ids=lambda m: m.__name__.rpartition(".")[2])
def test_a_fresh_head_keeps_the_models_own_and_loads_the_rest(module):
    old, new = states.blank(module, 1), states.blank(module, 2, num_classes=7)
    saved, fresh = states.weights(old), states.weights(new)
    head = matching.head_paths(new)
    assert head
    with pytest.raises(ValueError, match=r"Only the classifier differs: head='fresh'"):
        convert.convert_state_dict(new, saved)
    for choice in ("fresh", "match"):
        convert.convert_state_dict(new, saved, head=choice)
        for path, value in states.weights(new).items():
            expected = fresh[path] if path in head else saved[path]
            np.testing.assert_array_equal(value, expected, err_msg=path)
    same = states.blank(module, 3)
    own = states.weights(same)
    convert.convert_state_dict(same, saved, head="fresh")
    for path in head:
        np.testing.assert_array_equal(states.weights(same)[path], own[path])
    states.assert_same(convert.convert_state_dict(same, saved, head="match"), old)


def test_a_network_for_clips_begins_one_for_boxes(tmp_path, recwarn):
    boxes = {"num_classes": 7, "regions": "aligned", "head_mode": "sigmoid_mean"}
    boxes |= {"temporal_pool": False}
    old = states.blank(resnet3d, 1, temporal_pool=False)
    new = states.blank(resnet3d, 2, **boxes)
    path = tmp_path / "clips.safetensors"
    convert.save_weights(old, path)
    with pytest.raises(ValueError, match="Only the classifier differs: head='fresh'"):
        convert.load_weights(new, path)
    same = states.blank(resnet3d, 2, **(boxes | {"num_classes": 5}))
    with pytest.raises(ValueError, match="regions='none'"):
        convert.load_weights(same, path)
    fresh, head = states.weights(new), matching.head_paths(new)
    convert.load_weights(new, path, head="match")
    for name, value in states.weights(new).items():
        expected = fresh[name] if name in head else states.weights(old)[name]
        np.testing.assert_array_equal(value, expected, err_msg=name)
    assert not recwarn


def test_a_flow_network_has_no_head_to_keep(rng):
    with pytest.raises(ValueError, match="head='fresh': the model has no classes"):
        convert.convert_state_dict(tiny(), states.spynet_state(rng), head="fresh")
    with pytest.raises(ValueError, match="`head` must be one of 'load', 'fresh'"):
        convert.convert_state_dict(tiny(), states.spynet_state(rng), head="no")


def test_the_recorded_config_is_compared(tmp_path):
    other = tmp_path / "w"
    pooled = states.blank(resnet3d, 1, temporal_pool=True)
    plain = states.blank(resnet3d, 1, temporal_pool=False)
    for save in (convert.save_weights, lambda m, p: checkpoint.save(p, m)):
        path = (
            other.with_suffix(".safetensors") if save is convert.save_weights else other
        )
        save(pooled, path)
        fresh = states.blank(resnet3d, 5, temporal_pool=True)
        states.assert_same(convert.load_weights(fresh, path), pooled)
        before = states.weights(plain)
        message = r"temporal_pool=True \(temporal_pool=False here\)"
        with pytest.raises(ValueError, match=message):
            convert.load_weights(plain, path)
        np.testing.assert_equal(states.weights(plain), before)
    with pytest.raises(ValueError, match=message):
        checkpoint.restore(other, plain)


def test_a_change_of_clips_is_a_warning(tmp_path):
    path = tmp_path / "w.safetensors"
    convert.save_weights(states.blank(resnet3d, 1), path)
    other = states.blank(resnet3d, 2, dropout_rate=0.25, frame_stride=99)
    message = r"frame_stride=\d+ \(frame_stride=99 here\), dropout_rate="
    with pytest.warns(UserWarning, match=message):
        convert.load_weights(other, path)
    states.assert_same(other, states.blank(resnet3d, 1))


@pytest.mark.parametrize(
    ("module", "saved", "here"),
    [
        (raft, {"correlation": "all_pairs"}, {"correlation": "on_demand"}),
        (flownet2, {"frozen": ("flownetc",)}, {"frozen": ()}),
    ],
)
def test_how_the_same_is_computed_may_differ(tmp_path, module, saved, here):
    path = tmp_path / "w.safetensors"
    expected = states.blank(module, 1, **saved)
    convert.save_weights(expected, path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = convert.load_weights(states.blank(module, 2, **here), path)
    states.assert_same(model, expected)


def test_another_number_of_classes_is_no_obstacle_for_a_fresh_head(tmp_path):
    path = tmp_path / "w.safetensors"
    convert.save_weights(states.blank(c3d, 1), path)
    model = states.blank(c3d, 2, num_classes=9)
    with pytest.raises(ValueError, match=r"Only the classifier .* num_classes=5 makes"):
        convert.load_weights(model, path)
    convert.load_weights(model, path, head="fresh")


def test_metadata_names_the_variant(tmp_path):
    path = tmp_path / "w.safetensors"
    convert.save_weights(models.create_model("spynet_chairs"), path)
    with safetensors.safe_open(path, "np") as file:
        assert file.metadata()["variant"] == "spynet_chairs"
    with pytest.raises(ValueError, match=r"saved from spynet_chairs with networks=5 "):
        convert.load_weights(models.describe("spynet"), path)


def test_a_model_that_is_loaded_is_not_drawn(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    expected = models.create_model("spynet_chairs", seed=3)
    convert.save_weights(expected, path)
    monkeypatch.setattr(models, "create_model", None)
    model = jaxflow.load_model("spynet_chairs", path)
    states.assert_same(model, expected)
    frame = jnp.zeros((1, 32, 32, 3))
    assert model(frame, frame).flow.shape == (1, 32, 32, 2)


def test_what_the_weights_leave_open_is_drawn(tmp_path, monkeypatch):
    record = dataclasses.replace(c3d.RECORD, variants={"c3d": c3d.TINY})
    monkeypatch.setattr(c3d, "RECORD", record)
    path = tmp_path / "w.safetensors"
    convert.save_weights(states.blank(c3d, 1), path)
    model = jaxflow.load_model("c3d", path, head="fresh", num_classes=3, seed=4)
    drawn = states.weights(models.create_model("c3d", num_classes=3, seed=4))
    saved = states.weights(states.blank(c3d, 1))
    head = matching.head_paths(model)
    for name, value in states.weights(model).items():
        np.testing.assert_array_equal(
            value, drawn[name] if name in head else saved[name]
        )


@dataclasses.dataclass(frozen=True)
class Settings:
    radius: int = 2
    sizes: tuple[int, ...] = (3,)


class Own(nnx.Module):
    """A model of one's own, which no name makes."""

    def __init__(self, config):
        self.config = config
        self.layer = nnx.Linear(config.radius, 1, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (
            {"radius": 3},
            r"does not fit Own .* saved from Own with radius=2 \(radius=3 ",
        ),
        ({"sizes": (4,)}, r"from another config: sizes=\[3\] \(sizes=\[4\] here\); "),
    ],
    ids=["weights", "config"],
)
@pytest.mark.parametrize("suffix", [".safetensors", ""])
def test_the_way_out_for_a_model_of_ones_own(
    tmp_path, monkeypatch, changed, told, suffix
):
    path = tmp_path / f"w{suffix}"
    save = convert.save_weights if suffix else (lambda m, p: checkpoint.save(p, m))
    monkeypatch.setattr(Own, "__module__", "__main__")
    save(Own(Settings()), path)
    (field,) = changed
    model = Own(Settings(**changed))
    with pytest.raises(ValueError, match=told) as error:
        convert.load_weights(model, path)
    value = {"radius": "2", "sizes": r"(3,)"}[field]
    assert str(error.value).endswith(f"build Own with {field}={value}")
    with pytest.raises(
        ValueError, match="no model of this library: build it, and fill"
    ):
        convert.load_model(None, path)
    monkeypatch.setattr(Own, "__module__", "training")
    with pytest.raises(ValueError, match="of a class of __main__, not of Own; if it"):
        convert.load_weights(Own(Settings()), path)
