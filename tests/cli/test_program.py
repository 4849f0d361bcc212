"""Tests for jaxflow.cli.program."""

import argparse
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest

import jaxflow
from jaxflow import classical, cli, estimate, io


@pytest.mark.parametrize(
    "command",
    [
        *("models", "flow", "view", "classify", "detect", "generate", "evaluate"),
        *("submit", "extract", "convert", "demo", "completion"),
    ],
)
def test_help_has_an_example(command, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0
    assert f"example: jaxflow {command}" in capsys.readouterr().out


def test_every_option_says_what_it_does():
    for name, parser in commands().items():
        for action in parser._actions:
            said = re.sub(r"\([^)]*\)", "", action.help or "")
            assert len(re.findall(r"[a-zA-Z]+", said)) >= 3, (name, action.dest)


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


def test_a_signal_ends_a_program_without_a_half_file(tmp_path, picture):
    (tmp_path / "clip").mkdir()
    for index in range(3):
        io.write_image(tmp_path / f"clip/{index}.png", picture(index))
    # Waits inside the video that it writes.
    code = (
        "import sys, time; from jaxflow import cli, estimate, viz\n"
        "def slow(*_, **__):\n"
        "    import numpy as np\n"
        "    yield np.zeros((24, 33, 2), np.float32)\n"
        "    print('half', flush=True); time.sleep(60)\n"
        "estimate.stream_flow = slow\n"
        "words = ['flow', 'clip', '-o', 'out.mp4', '--max-flow', '1']\n"
        "sys.exit(cli.main([*words, '--model', 'median']))\n"
    )
    code = code.replace("median", sorted(classical.METHODS)[0])
    before = sorted(tmp_path.rglob("*"))
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ) as program:
        assert program.stdout and program.stderr
        assert program.stdout.readline() == "half\n"
        program.send_signal(signal.SIGINT)
        assert program.wait(timeout=60) == 130
        assert program.stderr.read() == ""
    assert sorted(tmp_path.rglob("*")) == before


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


def commands():
    """Returns the parser of each command."""
    (found,) = (
        action
        for action in cli.program._parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    return found.choices


def test_one_option_is_one_thing_in_every_command():
    short, kinds = {"--output": "-o", "--quiet": "-q"}, {}
    for name, parser in commands().items():
        options = {w for action in parser._actions for w in action.option_strings}
        assert "--quiet" in options, name
        for action in parser._actions:
            assert action.help, (name, action.dest)
            for word in action.option_strings:
                if word in short:
                    assert short[word] in action.option_strings, name
                if word not in ("--scores", "--frame", "--frames", "--class"):
                    kinds.setdefault(word, {})[name] = action.nargs == 0
    # No option is a switch in one command and takes a value in another.
    assert all(len(set(where.values())) == 1 for where in kinds.values())


PRINTS_RESULTS = ("models", "classify", "detect", "evaluate", "extract", "demo")


def test_what_prints_results_prints_them_as_json_too():
    found = {
        name
        for name, parser in commands().items()
        if "--json" in parser._option_string_actions
    }
    assert found == set(PRINTS_RESULTS)


def test_json_is_the_whole_output(capsys, monkeypatch, tmp_path, picture):
    assert cli.main(["models", "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert table["slow_r50"]["parameters"] == 32_454_096
    assert table["slow_r50"]["published"]["multiply_adds"] == "54.52"
    assert table["tvl1"]["task"] == "flow"

    folder = tmp_path / "middlebury/Scene"
    folder.mkdir(parents=True)
    for name, level in (("frame10.png", 51), ("frame11.png", 102)):
        io.write_image(folder / name, picture(level))
    io.write_flow(folder / "flow10.flo", np.full((24, 33, 2), [3.0, 4.0]))
    words = ["--model", "zero", "--data", "middlebury=middlebury", "-o", "table.csv"]
    assert cli.main(["evaluate", "flow", *words, "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert table["middlebury"]["zero"]["epe"] == 5
    assert pathlib.Path("table.csv").exists()


def test_a_pipe_gets_no_colours(capfd):
    for words in (["--help"], ["flow", "--help"], ["fly"]):
        with pytest.raises(SystemExit):
            cli.main(words)
    told = capfd.readouterr()
    assert told.out and told.err and "\x1b" not in told.out + told.err


def test_help_needs_no_jax():
    code = (
        "import sys; from jaxflow import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'jax', 'flax', 'av'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("module", "words", "line"),
    [
        ("av", "flow clip -o out.mp4", 'pip install "jaxflow-motion[video]"'),
        (
            "apache_beam",
            "extract flow --input clip --model brightness -o out",
            'pip install "jaxflow-motion[beam]"',
        ),
    ],
)
def test_a_missing_extra_says_how_to_install_it(
    clip, fails, monkeypatch, module, words, line
):
    monkeypatch.setitem(sys.modules, module, None)
    assert line in fails(*words.split())
