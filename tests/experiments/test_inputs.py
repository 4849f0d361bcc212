"""Tests of experiments/bench/inputs.py: that it measures what it says."""

import importlib.util
import pathlib

import pytest

pytest.importorskip("av")
PATH = pathlib.Path(__file__).parents[2] / "experiments" / "bench" / "inputs.py"


@pytest.fixture(scope="module")
def inputs():
    spec = importlib.util.spec_from_file_location("inputs", PATH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_ratios_are_of_what_the_step_and_the_input_take(inputs):
    found = {
        "read": {"cpu_s": 0.1, "wall_s": 0.2},
        "augment": {"cpu_s": 0.1, "wall_s": 0.05},
        "step": {"cpu_s": 2.0, "wall_s": 1.0},
    }
    line = inputs.summary(found, model="x")
    assert line["read_faster_cpu"] == 10 and line["read_faster_wall"] == 4
    assert line["model"] == "x"


@pytest.mark.slow
@pytest.mark.parametrize("task", ["flow", "video"])
def test_the_bench_runs_at_small_size(inputs, task):
    line = inputs.main([task, "--small", "--batches", "1"])
    assert line["bench"] == f"inputs_{task}"
    parts = [line[name]["cpu_s"] for name in ("read", "augment", "step")]
    assert all(part > 0 for part in parts)
    assert line["read_faster_cpu"] == pytest.approx(
        parts[2] / (parts[0] + parts[1]), rel=0.05
    )
