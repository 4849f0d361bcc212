"""Tests for jaxflow.cli.program."""

import re

import pytest

import jaxflow
from jaxflow import cli


@pytest.mark.parametrize(
    "command", ["models", "flow", "classify", "evaluate", "convert", "demo"]
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
