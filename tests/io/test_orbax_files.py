"""Tests for jaxflow.io.orbax_files; whole runs are in tests/test_weights.py."""

import hashlib
import json

import numpy as np
import orbax.checkpoint as ocp
import pytest

from jaxflow.io import checksums, orbax_files


def test_trees_are_flattened_and_nested():
    tree = {"a": {"b": 1, "c": [2, {"d": 3}]}, "e": 4}
    flat = {"a/b": 1, "a/c/0": 2, "a/c/1/d": 3, "e": 4}
    assert orbax_files.flatten(tree) == flat
    nested = {"a": {"b": 1, "c": {"0": 2, "1": {"d": 3}}}, "e": 4}
    assert orbax_files.nest(flat) == nested


def test_arrays_are_identified_by_shape_type_and_checksum():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    found = orbax_files.identity({"x": array})
    assert found["checksums"] == {"x": checksums.on_host(array)}
    assert found["leaves"] == {"x": [[2, 3], "float32"]}
    orbax_files.verify({"x": array}, found)
    with pytest.raises(orbax_files.Damage, match="do not match their checksum: x"):
        orbax_files.verify({"x": array + 1}, found)


def test_the_first_checkpoints_carry_one_checksum_of_everything():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    text = b"x float32 (2, 3)" + array.tobytes()
    meta = {"sha256": hashlib.sha256(text).hexdigest()}
    orbax_files.verify({"x": array}, meta)
    with pytest.raises(orbax_files.Damage, match="do not match their checksum"):
        orbax_files.verify({"x": array + 1}, meta)


def test_reads_what_others_wrote_without_a_record(tmp_path):
    with ocp.StandardCheckpointer() as writer:
        writer.save(tmp_path / "theirs", {"a": {"b": np.ones(3)}})
    assert orbax_files.is_checkpoint(tmp_path / "theirs")
    arrays, meta = orbax_files.read(tmp_path / "theirs")
    np.testing.assert_array_equal(arrays["a/b"], np.ones(3))
    assert meta == {}


def write_step(folder, step, metrics, **meta):
    meta = {"best": "epe"} | meta
    for part, content in (("meta", meta), ("metrics", metrics)):
        place = folder / str(step) / part
        place.mkdir(parents=True)
        name = {"meta": "metadata", "metrics": "metrics"}[part]
        (place / name).write_text(json.dumps(content))


def test_the_best_step_comes_first_and_then_the_newest(tmp_path):
    for step, epe in ((1, 3.0), (5, 1.0), (20, 2.0), (100, float("nan"))):
        write_step(tmp_path, step, {"epe": epe, "loss": -epe})
    (tmp_path / "7.orbax-checkpoint-tmp").mkdir()
    (tmp_path / "damaged").mkdir()
    assert orbax_files.steps_in(tmp_path) == [1, 5, 20, 100]
    found = orbax_files.preferred(tmp_path)
    assert found[0] == (5, "the best by epe, 1")
    assert [step for step, _ in found] == [5, 100, 20, 1]


def test_of_equally_good_steps_the_newest_counts_and_torn_files_do_not(tmp_path):
    for step in (1, 2, 3):
        write_step(tmp_path, step, {"epe": 1.0})
    (tmp_path / "3" / "metrics" / "metrics").write_text('{"ep')
    assert [step for step, _ in orbax_files.preferred(tmp_path)] == [2, 3, 1]


def test_the_best_may_be_the_highest(tmp_path):
    for step, epe in ((1, 3.0), (2, 1.0), (3, 2.0)):
        write_step(tmp_path, step, {"epe": epe}, best_mode="max")
    assert [step for step, _ in orbax_files.preferred(tmp_path)] == [1, 3, 2]


def test_steps_are_found_in_a_run(tmp_path):
    assert orbax_files.steps_folder(tmp_path) is None
    (tmp_path / "checkpoints" / "3").mkdir(parents=True)
    assert orbax_files.steps_folder(tmp_path) == tmp_path / "checkpoints"
    assert not orbax_files.is_checkpoint(tmp_path)
    with pytest.raises(ValueError, match="_CHECKPOINT_METADATA is missing"):
        orbax_files.read(tmp_path)
