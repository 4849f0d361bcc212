"""Tests for jaxflow.runs, beside those of tests/train."""

import json
import types

import numpy as np
import pytest

from jaxflow import reporting, runs

STATE = types.SimpleNamespace(step=0)


def test_a_run_without_a_folder_keeps_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with runs.Run(None) as run:
        assert run.start(STATE, steps=3) is STATE
        run.open(0, steps=3)
        run.check_best({})
        run.log(1, {"loss": 1.0})
        run.save(1, STATE)
        run.settle(1, STATE, reporting.Window())
    assert not list(tmp_path.iterdir())


def test_steps_that_were_taken_are_named():
    state = types.SimpleNamespace(step=5)
    with (
        runs.Run(None) as run,
        pytest.raises(ValueError, match="`steps` is 3, but the state has taken 5"),
    ):
        run.start(state, steps=3, resume=True)


def test_rows_of_steps_that_are_taken_again_are_forgotten(tmp_path):
    path = tmp_path / "metrics.jsonl"
    rows = [json.dumps({"step": step, "loss": 1.0}) for step in (1, 2, 3)]
    path.write_text("\n".join([*rows, '{"step": 4, "lo']))
    with runs.Run(tmp_path) as run:
        run.open(2, steps=9)
        run.log(3, {"loss": float(np.float32(0.5)), "bad": float("nan")})
    found = [json.loads(row) for row in path.read_text().splitlines()]
    assert [row["step"] for row in found] == [1, 2, 3]
    assert found[2] == {"step": 3, "loss": 0.5, "bad": None}


@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_best_that_is_no_metric_is_refused(tmp_path, mode):
    with runs.Run(tmp_path, best="epe", best_mode=mode) as run:
        run.check_best({"epe": 1.0})
        with pytest.raises(ValueError, match="`best` is 'epe', which is not among"):
            run.check_best({"loss": 1.0})


def test_a_run_is_overdue_after_some_minutes(tmp_path):
    with runs.Run(tmp_path) as run:
        assert run.overdue(0)
        assert not run.overdue(10)


@pytest.mark.parametrize("place", ["file", "file/run"])
def test_a_folder_that_is_a_file_is_refused_and_left(tmp_path, place):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match=r"`workdir`: .* must be a folder, but .* file"):
        runs.Run(tmp_path / place)
    assert (tmp_path / "file").read_text() == "mine"
