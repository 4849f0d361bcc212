"""Tests for jaxflow.cli.demo."""

import pytest


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("demo --minutes 0", "must be a number above 0"),
        ("demo --steps 3", "`steps` must be 4 or more"),
        ("demo --frames none.png eins.png", "none.png: No such file"),
        ("demo eins.png", "jaxflow demo: error: unrecognized arguments: eins.png"),
        ("demo --output eins.png", "--output: eins.png must be a folder, but "),
        ("demo --output eins.png/in", "--output: eins.png/in must be a folder"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(odd, tmp_path, fails, words, message):
    before = sorted(tmp_path.rglob("*"))
    assert message in fails(*words.split())
    assert sorted(tmp_path.rglob("*")) == before
