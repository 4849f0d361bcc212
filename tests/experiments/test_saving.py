"""Tests of experiments/bench/saving.py: that it measures what it says."""

import importlib.util
import pathlib

import pytest

PATH = pathlib.Path(__file__).parents[2] / "experiments" / "bench" / "saving.py"


@pytest.fixture(scope="module")
def saving():
    spec = importlib.util.spec_from_file_location("saving", PATH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_stall_is_what_a_save_adds_to_its_step_and_the_next(saving):
    # Steps of a second; saves after the third, sixth and ninth, the last not measured:
    # they take half a second, the first one more, and the steps after them another half
    # and a quarter.
    took = [1, 1, 2.5, 1.5, 1.25, 1.5, 1.5, 1.25, 1.0]
    began = [sum(took[:n]) for n in range(len(took) + 1)]
    found = saving.summary(began, [10.0, 8.0, 30.0], every=3)
    assert found["blocking"] == 10
    assert found["step"] == pytest.approx(1.125)
    assert found["stall"] == pytest.approx(0.75)
    assert found["stalled"] == pytest.approx(0.075)
    assert found["first"] == pytest.approx(1.75)
    assert found["slowed"] == pytest.approx(1.375)


@pytest.mark.slow
def test_the_bench_runs_at_small_size(saving):
    line = saving.main(["--width", "0.0625", "--every", "4", "--saves", "2"])
    assert line["blocking"] > 0 and line["step"] > 0
    assert line["gigabytes"] == pytest.approx(0.009, abs=0.003)
