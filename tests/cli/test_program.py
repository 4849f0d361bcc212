"""Tests for jaxflow.cli.program."""

import re
import warnings

import numpy as np
import pytest

import jaxflow
from jaxflow import cli, estimate


@pytest.mark.parametrize(
    "command",
    [
        *("models", "flow", "view", "classify", "detect", "generate", "evaluate"),
        *("submit", "extract", "convert", "demo"),
    ],
)
def test_help_has_an_example(command, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0
    assert f"example: jaxflow {command}" in capsys.readouterr().out


def test_version_and_commands_are_named(capsys):
    for words in (["--version"], ["--help"]):
        with pytest.raises(SystemExit) as stop:
            cli.main(words)
        assert stop.value.code == 0
    out = capsys.readouterr().out
    assert jaxflow.__version__ in out
    assert all(re.search(rf"^ +{name} ", out, re.M) for name in ("flow", "demo"))


@pytest.mark.parametrize(
    ("words", "message"),
    [("", "required: COMMAND"), ("fly", "invalid choice: 'fly'")],
)
def test_words_that_make_no_command_are_refused(fails, words, message):
    assert message in fails(*words.split())


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("RESOURCE_EXHAUSTED: Out of memory")]
)
def test_out_of_memory_names_the_ways_out(clip, fails, monkeypatch, error):
    def exhausted(*_, **__):
        raise error
        yield

    monkeypatch.setattr(estimate, "stream_flow", exhausted)
    line = fails("flow", clip, "-o", "out.mp4")
    assert "--tile" in line and "correlation=on_demand" in line


def test_an_interrupt_leaves_no_half_file(clip, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        yield np.zeros((24, 33, 2), np.float32)
        raise KeyboardInterrupt

    monkeypatch.setattr(estimate, "stream_flow", interrupted)
    words = ["flow", clip, "--max-flow", "1"]
    before = sorted(tmp_path.rglob("*"))
    assert cli.main([*words, "-o", "out.mp4"]) == 130
    assert sorted(tmp_path.rglob("*")) == before
    assert cli.main([*words, "-o", "flows"]) == 130
    assert [path.name for path in (tmp_path / "flows").iterdir()] == ["f0.flo"]


def test_a_fault_of_ours_is_not_blamed_on_the_input(clip, monkeypatch):
    def broken(*_, **__):
        raise TypeError("a bug")

    monkeypatch.setattr(estimate, "stream_flow", broken)
    with pytest.raises(TypeError, match="a bug"):
        cli.main(["flow", clip, "-o", "out.mp4"])


def test_options_that_a_model_cannot_run_with_are_one_line(clip, fails, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(estimate, "stream_flow", broken)
    line = fails("flow", clip, "-o", "out.mp4", "--option", "gain=0")
    assert "--option gain=0: brightness cannot run so: division by zero" in line


def test_a_warning_is_one_line_without_code(monkeypatch):
    told, usual = [], warnings.formatwarning

    def run(args):
        told.append(
            warnings.formatwarning("step 2\n is damaged", UserWarning, "a.py", 3)
        )

    monkeypatch.setattr(cli.program.models, "run", run)
    assert cli.main(["models"]) == 0
    assert told == ["jaxflow models: warning: step 2 is damaged\n"]
    assert warnings.formatwarning is usual
