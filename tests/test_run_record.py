"""Tests for jaxflow.run_record, beside those of tests/train."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxflow
from jaxflow import run_record


def test_a_config_becomes_what_json_has():
    config = {
        "rate": np.float32(0.5), "path": pathlib.Path("a/b"), "size": (3, 4),
        "deep": {1: None}, "name": "x", "flag": True, "worst": float("nan"),
    }  # fmt: skip
    found = run_record.plain(config)
    assert found == json.loads(json.dumps(found)) == {
        "rate": 0.5, "path": "a/b", "size": [3, 4], "deep": {"1": None}, "name": "x",
        "flag": True, "worst": "nan",
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"plain values; 'a.b' is a function"):
        run_record.plain({"a": {"b": lambda: 0}})
    with pytest.raises(ValueError, match=r"`defaults` must hold plain values; 'a' is"):
        run_record.plain({"a": [object()]}, argument="defaults")


def test_weights_are_told_apart_but_not_by_rounding():
    draw = jax.jit(lambda key: {"a": jax.random.normal(key, (40, 50)), "b": 1e3})
    one, other = (draw(jax.random.key(seed)) for seed in (0, 1))
    one["b"] = other["b"] = jnp.zeros(0)
    rounded = jax.tree.map(lambda x: x * (1 + 1e-6), one)
    tuned = {**one, "a": one["a"] + 0.02 * other["a"]}
    first = run_record.sketch(one)
    assert first == pytest.approx({"norm": float(jnp.linalg.norm(one["a"]))}
                                  | {"sum": first["sum"]})  # fmt: skip
    assert run_record.is_near(first, run_record.sketch(rounded))
    assert not run_record.is_near(first, run_record.sketch(other))
    assert not run_record.is_near(first, run_record.sketch(tuned))
    assert not run_record.is_near(first, None)


def test_what_changed_is_named_field_by_field():
    key = {"kind": "threefry2x32", "data": [0, 1]}
    before = {
        "config": {"rate": 1e-4, "seed": 0, "same": [1]},
        "model": {"model": "raft", "config": {"iters": 12}},
        "key": key,
    }
    now = json.loads(json.dumps(before))
    assert run_record.differences(before, now) == []
    now["config"] |= {"rate": 1e-5, "new": 3}
    now["model"]["config"]["iters"] = 6
    assert run_record.differences(before, now) == [
        "`rate` was 0.0001 and is 1e-05",
        "`new` was None and is 3",
        "`config.iters` was 12 and is 6",
    ]
    assert run_record.differences({"key": key}, {"key": {**key, "data": [0, 2]}}) == [
        "its random key, made of `seed`, was another"
    ]
    other_kind = {"kind": "rbg", "data": [0, 1, 0, 1]}
    assert run_record.differences({"key": key}, {"key": other_kind}) == []


def test_a_field_that_the_record_lacks_was_at_its_default():
    before = {"config": {"rate": 1}, "model": {"config": {"iters": 12}}}
    now = {
        "config": {"rate": 1, "frozen": False, "share": 0.0, "size": [2]},
        "model": {"config": {"iters": 12, "norm": "batch"}},
    }
    defaults = {
        "config": {"rate": 9, "frozen": False, "share": 0.0, "size": [2], "other": 1},
        "model": {"config": {"iters": 1, "norm": "batch"}},
    }
    assert len(run_record.differences(before, now)) == 4
    assert run_record.differences(before, now, defaults) == []
    assert before == {"config": {"rate": 1}, "model": {"config": {"iters": 12}}}
    now["config"]["share"], now["model"]["config"]["norm"] = 0.1, "none"
    assert run_record.differences(before, now, defaults) == [
        "`share` was 0.0 and is 0.1",
        "`config.norm` was batch and is none",
    ]
    # What is recorded counts, whatever the default is.
    now = {"config": {"rate": 9}}
    assert run_record.differences(before, now, defaults) == ["`rate` was 1 and is 9"]


def test_the_record_of_a_run_is_completed_by_the_defaults_that_it_goes_on_with(
    tmp_path,
):
    record = run_record.Record(tmp_path, {"config": {"rate": 1}})
    record.note_start(0)
    later = {"config": {"rate": 1, "share": 0.5}}
    record = run_record.Record(tmp_path, later, defaults={"config": {"share": 0.5}})
    record.compare()
    record.note_start(7)
    assert run_record.read(tmp_path)["run"] == later
    # The default is another by now.
    record = run_record.Record(tmp_path, later, defaults={"config": {"share": 0.1}})
    record.compare()


def test_an_option_that_took_one_value_and_takes_several_is_the_same():
    before = {"config": {"data": "a.txt", "test": None}}
    now = {"config": {"data": ["a.txt"], "test": []}}
    assert run_record.differences(before, now) == []
    now["config"] = {"data": ["a.txt", "b.txt"], "test": ["a.txt"]}
    assert run_record.differences(before, now) == [
        "`data` was a.txt and is ['a.txt', 'b.txt']",
        "`test` was None and is ['a.txt']",
    ]


def test_compiled_steps_are_compared_under_the_same_conditions_only():
    first = run_record.program_of("module a", devices="cpu 1")
    differ = [
        run_record.differences({"program": first}, {"program": other})
        for other in (
            run_record.program_of("module a", devices="cpu 1"),
            run_record.program_of("module b", devices="cpu 1"),
            run_record.program_of("module b", devices="cpu 8"),
        )
    ]
    assert [len(found) for found in differ] == [0, 1, 0]
    assert run_record.program_of("calls xla_python_cpu_callback") is None


def test_each_start_is_noted_and_a_torn_record_begun_anew(tmp_path):
    now = {"config": {"rate": 1}, "model": {}, "key": None}
    for step in (0, 7):
        record = run_record.Record(tmp_path, now)
        record.compare()
        record.note_start(step)
    found = json.loads((tmp_path / "run.json").read_text())
    assert found["run"] == {"config": {"rate": 1}}
    assert [start["step"] for start in found["starts"]] == [0, 7]
    start = found["starts"][0]
    assert start["versions"]["jax"] == jax.__version__
    assert start["devices"] == {"kind": "cpu", "count": 8}
    assert start["command"] and start["host"] and start["time"][:2] == "20"
    other = run_record.Record(tmp_path, {"config": {"rate": 2}})
    with pytest.raises(ValueError, match=r"`rate` was 1 and is 2\. Choose another"):
        other.compare()
    (tmp_path / "run.json").write_text('{"run": {"config"')
    with pytest.warns(UserWarning, match=r"run.json is damaged"):
        other.compare()
    other.note_start(0)
    assert json.loads((tmp_path / "run.json").read_text())["run"]["config"]["rate"] == 2


def test_our_version_needs_no_installed_distribution(monkeypatch):
    def version(name):
        # The distribution is jaxflow-motion, and a checkout has none at all.
        assert "jaxflow" not in name
        return "1"

    monkeypatch.setattr(run_record.importlib.metadata, "version", version)
    assert run_record.versions()["jaxflow"] == jaxflow.__version__
