"""Tests of `python -m experiments.bench`: who is asked, what is kept and laid out."""

import ast
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import jaxflow
from experiments.bench import __main__ as bench
from experiments.bench import cases, runner, tables


def test_the_exponent_is_that_of_a_power_law():
    sizes = [1.0, 3.0, 10.0]
    assert tables.exponent(sizes, [2 * x**1.5 for x in sizes]) == pytest.approx(1.5)


def test_every_bar_names_a_case():
    assert set(cases.BARS) <= set(cases.CASES)
    assert bench.chosen(["bars"], "cpu") == [n for n in cases.CASES if n in cases.BARS]
    assert all("/" in name for name in cases.CASES)


def test_patterns_choose_cases_and_devices_leave_some_out():
    assert {name.split("/")[0] for name in bench.chosen(["warp/*"], "cpu")} == {"warp"}
    assert not any("TV-L1" in name for name in bench.chosen(["*"], "gpu"))
    with pytest.raises(SystemExit, match="names no case"):
        bench.chosen(["no such thing"], "cpu")


@pytest.mark.parametrize("words", ["--list", "--table"])
def test_a_list_that_nobody_reads_ends_without_a_word(tmp_path, monkeypatch, words):
    (tmp_path / "ratios.jsonl").touch()
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as out, pytest.raises(SystemExit) as stop:
        monkeypatch.setattr(sys, "stdout", out)
        bench.main([words, "--results", str(tmp_path / "ratios.jsonl")])
    assert stop.value.code == 141


def test_the_table_holds_the_newest_ratio_and_says_whether_it_is_low_enough():
    name = "warp/112x256x32 gradient"
    line = {"case": name, "ours_cpu_ms": 3.0, "peer_cpu_ms": 2.0}
    lines = [{**line, "cpu_ratio": 1.5}, {**line, "cpu_ratio": 1.0}]
    lines += [{"case": "costs/jaxflow models", "cpu_s": 2.0, "load": 9.0, "ours": "x"}]
    rows = tables.markdown(lines).splitlines()
    assert rows[2] == f"| {name} | 3 | 2 | 1.00 | 1.2: met |"
    assert rows[-1] == "| costs/jaxflow models | cpu_s 2 | cpu_s 1.0: **missed** |"
    assert len(rows) == 7


def test_a_table_takes_the_place_of_the_one_before(tmp_path):
    begin, end = tables.MARKS
    page = f"# Title\n\n{begin}\nold\n{end}\n\nMore.\n"
    there = tables.put(page, "| new |")
    assert there == f"# Title\n\n{begin}\n| new |\n{end}\n\nMore.\n"
    assert tables.put(there, "| new |") == there
    for wrong in ("nothing", f"{end} {begin}", begin, page + page):
        with pytest.raises(ValueError, match="the page must have"):
            tables.put(wrong, "x")


def test_what_cases_call_is_part_of_jaxflow():
    for path in pathlib.Path(bench.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                if node.value.id == "jaxflow":
                    assert hasattr(jaxflow, node.attr), (path.name, node.attr)


def test_every_case_prepares_a_call_of_ours_that_exists():
    # What a case names must be there, also where it is measured once a month.
    for name in ("TV-L1 388x584 equal work", "Lucas-Kanade 388x584"):
        (case,) = (c for n, c in cases.CASES.items() if name in n)
        assert callable(case.ours())


def test_what_is_measured_is_not_measured_again(tmp_path, monkeypatch, capsys):
    asked = []

    def figures(referee, name, rounds):
        asked.append(name)
        taken = {"ours_cpu_ms": 1.0, "peer_cpu_ms": 2.0, "cpu_ratio": 0.5}
        return {"failed": "x"} if "forward" in name else taken

    monkeypatch.setattr(bench, "figures", figures)
    path = tmp_path / "results.jsonl"
    for _ in range(2):
        with pytest.raises(SystemExit, match="1 cases failed: warp/4x64x64x64 forward"):
            bench.main(["--only", "warp/4x*", "--results", str(path)])
        assert capsys.readouterr().out.endswith("| 1 | 2 | 0.50 | 1.2: met |\n")
    # What failed is tried again, and leaves no line.
    assert [name.split()[-1] for name in asked] == ["forward", "gradient", "forward"]
    (line,) = map(json.loads, path.read_text().splitlines())
    assert line["device"] == "cpu" and line["machine"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--peers", "/no/such"], "--peers /no/such: must be an interpreter"),
        (["--into", "/no/page.md"], "--into /no/page.md: .*No such file"),
        (["--rounds", "0"], "--rounds 0: must be 1 or more"),
        (["--cores", "999"], r"--cores 999: must be 1 to \d+, the cores there are"),
        (["--device", "tpu"], "--device tpu: JAX finds none here"),
        (["--table"], "--results .*results.jsonl: no such file"),
    ],
)
def test_what_would_be_found_at_the_end_is_found_first(
    tmp_path, monkeypatch, words, message
):
    monkeypatch.setattr(bench, "figures", lambda *_: pytest.fail("measured"))
    with pytest.raises(SystemExit, match=message):
        bench.main([*words, "--results", str(tmp_path / "results.jsonl")])


def test_a_file_that_was_cut_off_is_one_line(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text('{"case": "warp/4x64x64x64 forward"}\n{"case": "wa')
    with pytest.raises(SystemExit, match=r"results\.jsonl, line 2: is cut off"):
        bench.main(["--table", "--results", str(path)])


@pytest.mark.slow
def test_ctrl_c_ends_every_process_with_one_line(tmp_path):
    path = tmp_path / "results.jsonl"
    words = ["--only", "warp/4x64x64x64 forward", "--rounds", "1000000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.bench", *words, "--results", str(path)],
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    while not path.exists():
        time.sleep(0.1)
    time.sleep(2)  # The rival imports what it needs, or is at work.
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == f"stopped; the same command goes on from {path}\n"


def test_a_line_without_a_peer_is_measured_with_one(tmp_path, monkeypatch, capsys):
    name, path = "warp/4x64x64x64 gradient", tmp_path / "results.jsonl"
    path.write_text(json.dumps({"case": name, "ours_cpu_ms": 1.0}) + "\n")
    both = {"ours_cpu_ms": 1.0, "peer_cpu_ms": 2.0, "cpu_ratio": 0.5}
    monkeypatch.setattr(bench, "check", lambda _: None)
    monkeypatch.setattr(bench, "figures", lambda *_: both)
    for _ in range(2):
        bench.main(["--only", name, "--results", str(path), "--peers", sys.executable])
    assert len(path.read_text().splitlines()) == 2
    assert "1 of 1 cases have their line" in capsys.readouterr().err


def test_rivals_answer_with_times_or_with_what_went_wrong(monkeypatch, capsys):
    def fail():
        raise ValueError("two\nlines")

    made = []

    def prepare():
        made.append(1)
        return lambda: np.ones(1000).sum()

    found = {"good": runner.Rivals(prepare, fail), "bad": runner.Rivals(fail, prepare)}
    monkeypatch.setattr(sys, "stdin", ["good\n", "good\n", "bad\n"])
    runner.answer(found, "ours", "cpu")
    good, again, bad = map(json.loads, capsys.readouterr().out.splitlines())
    assert good["wall"] > 0 and again["wall"] > 0 and len(made) == 1
    assert bad == {"failed": "ValueError: two lines"}


def test_sides_take_turns_and_medians_are_compared(monkeypatch):
    times = iter([4.0, 2.0, 6.0, 1.0, 5.0, 9.0])
    order = []

    def ask(self, side, needs, name):
        order.append(side)
        seconds = next(times) / 10
        return {"cpu": seconds, "wall": seconds, "version": side}

    monkeypatch.setattr(runner.Referee, "_ask", ask)
    referee = runner.Referee(runner.Place("cpu", "python", 1))
    case = runner.Rivals(lambda: int, lambda: int)
    line = referee.compare("x", case, 3)
    assert order == ["ours", "peer"] * 3
    assert line["ours_cpu_ms"] == 500 and line["peer_cpu_ms"] == 200
    assert line["cpu_ratio"] == 2.5 and line["rounds"] == 3


def test_without_an_interpreter_only_our_side_is_asked(monkeypatch):
    answer = {"cpu": 0.1, "wall": 0.1, "version": "x"}
    monkeypatch.setattr(runner.Referee, "_ask", lambda *given: answer)
    referee = runner.Referee(runner.Place("cpu", None, 1))
    line = referee.compare("x", runner.Rivals(lambda: int, lambda: int), 2)
    assert line["ours_cpu_ms"] == 100 and "cpu_ratio" not in line


@pytest.mark.slow
def test_a_case_is_measured_in_a_process_of_its_own(tmp_path):
    path = tmp_path / "results.jsonl"
    words = ["--only", "warp/4x64x64x64 forward", "--rounds", "1"]
    bench.main([*words, "--results", str(path)])
    (line,) = map(json.loads, path.read_text().splitlines())
    assert line["ours_cpu_ms"] > 0 and line["ours"].startswith("jax")
