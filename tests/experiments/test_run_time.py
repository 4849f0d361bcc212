"""Tests of `python -m experiments.evidence.run_time`."""

import os

import pytest

from experiments.evidence import run_time
from jaxflow import models


def test_every_case_is_a_network():
    known = models.list_models()
    assert all(case.partition("/")[2] in known for case in run_time.STATED)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["clip/two_stream_r34", "pair/flownets"])
def test_a_case_is_timed_on_one_core(case, monkeypatch, capsys):
    taken = []
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cores: taken.extend(cores))
    monkeypatch.setitem(run_time.STATED, case, 1)
    (row,) = run_time.main(run_time.Args(only=case, rounds=1))
    assert row["ms"] > 0 and row["parameters"] > 1_000_000 and len(taken) == 1
    assert row["case"] in capsys.readouterr().out
