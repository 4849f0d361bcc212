"""Tests of experiments/bench/accelerator.py: what it counts, measures and lays out."""

import argparse
import importlib.util
import json
import pathlib
import sys
import time

import jax.numpy as jnp
import pytest

PATH = pathlib.Path(__file__).parents[2] / "experiments" / "bench" / "accelerator.py"
spec = importlib.util.spec_from_file_location("accelerator", PATH)
assert spec is not None and spec.loader is not None
accelerator = importlib.util.module_from_spec(spec)
spec.loader.exec_module(accelerator)

# What every line says of its run.
ABOUT = {"device": "Device 9", "small": False, "date": "2020-01-02", "jax": "0.1"}


@pytest.fixture
def quick(monkeypatch):
    """Calls once what is timed."""

    def once(call):
        began = time.perf_counter()
        call()
        return time.perf_counter() - began

    monkeypatch.setattr(accelerator, "seconds", once)


def test_shares_are_those_of_the_operations_and_the_arrays(monkeypatch):
    monkeypatch.setattr(accelerator, "seconds", lambda call: call() is None or 2.0)
    a, b = jnp.ones((100, 200)), jnp.ones((200, 50))
    line = accelerator.timed(lambda a, b: a @ b, (a, b), matrix=4e6, copy=1e6)
    assert line["ms"] == 2000
    # 2 x 100 x 200 x 50 operations, and 4 bytes of each number in and out.
    assert line["gflop"] == 0.002
    assert line["matrix"] == 2e6 / 2 / 4e6
    moved = 4 * (100 * 200 + 200 * 50 + 100 * 50)
    assert line["bandwidth"] == pytest.approx(moved / 2 / 1e6, rel=5e-3)


@pytest.mark.parametrize(
    "pattern",
    [
        "warp*",
        "correlation*",
        pytest.param("repflow*", marks=pytest.mark.slow),
        pytest.param("training step*", marks=pytest.mark.slow),
    ],
)
def test_a_case_is_measured(quick, pattern, monkeypatch):
    monkeypatch.setattr(accelerator, "parities", dict)
    arguments = argparse.Namespace(small=True, only=pattern)
    *rates, line = accelerator.measure(arguments, time.monotonic() + 60)
    assert [rate["case"].split(",")[0] for rate in rates] == [
        "matrix product",
        "matrix product",
        "copy",
    ]
    assert line["ms"] > 0 and line["bandwidth"] > 0, line
    assert (line["matrix"] > 0) == (pattern != "warp*")


def test_the_cases_of_the_bench_are_there_at_their_own_size(quick, monkeypatch):
    found = accelerator.cases(small=False)
    assert "warp/448x1024x3 gradient" in found
    assert not any("TV-L1" in name for name in found)
    line = accelerator.timed(*found["warp/4x64x64x64 forward"](), 1e9, 1e9)
    # An image and a flow in, an image out.
    moved = 4 * 4 * 64 * 64 * (64 + 2 + 64)
    assert line["bandwidth"] == pytest.approx(moved / line["ms"] * 1e3 / 1e9, rel=0.02)


def test_what_fails_or_comes_too_late_is_a_line_too(quick, monkeypatch):
    def fail():
        raise ValueError("two\nlines")

    found = {
        "a": fail,
        "b": lambda: (lambda x: x @ x, (jnp.ones((2, 3)),)),
        "c": lambda: {"px_mean": 1.0},
    }
    monkeypatch.setattr(accelerator, "cases", lambda small: found)
    monkeypatch.setattr(accelerator, "parities", dict)
    arguments = argparse.Namespace(small=True, only="?")
    lines = list(accelerator.measure(arguments, time.monotonic() + 60))[3:]
    assert lines[0] == {"case": "a", "failed": "ValueError: two lines"}
    assert lines[1]["failed"].startswith("TypeError: ")
    assert lines[2] == {"case": "c", "px_mean": 1.0}
    (*_, late) = accelerator.measure(arguments, time.monotonic() - 1)
    assert late == {"case": "c", "skipped": "no time was left"}


@pytest.mark.parametrize(
    ("output", "found"),
    [
        ("....F\n1 failed, 4 passed, 2 skipped in 1.2s", (4, 1)),
        ("..\n2 passed, 30 deselected in 60.12s (0:01:00)", (2, None)),
        ("no last line", (None, None)),
        ("", (None, None)),
    ],
)
def test_the_end_of_a_test_run_is_read(output, found):
    counts = accelerator.counts(output)
    assert (counts.get("passed"), counts.get("failed")) == found
    assert counts.get("error") == (1 if found == (None, None) else None)


def test_the_table_holds_the_newest_line_of_each_case(tmp_path):
    lines = [
        {**ABOUT, "case": "warp", "ms": 5.0, "matrix": 0.0, "load": 1.0},
        {**ABOUT, "case": "contract", "passed": 3, "s": 2.5},
        {**ABOUT, "case": "warp", "ms": 4.0, "matrix": 0.5, "load": 1.0},
        {**ABOUT, "case": "warp", "ms": 1.0, "small": True},
    ]
    path = tmp_path / f"{accelerator.slug('Device 9')}.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert path.name == "device-9.jsonl"
    rows = accelerator.table(accelerator.read(tmp_path)).splitlines()
    assert len(rows) == 5
    assert rows[2] == (
        "| Device 9 | warp | 4.0 | - | 0.5 | - | 1.0 | 2020-01-02 | 0.1 |"
    )
    assert rows[3].startswith("| Device 9 | contract: passed 3, s 2.5 | - |")
    assert rows[4].startswith("| Device 9, small | warp | 1.0 |")


def test_the_command_prints_the_table_of_the_results_there_are(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(accelerator, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["accelerator.py", "--table"])
    accelerator.main()
    assert capsys.readouterr().out.startswith("| device | case | ms |")
