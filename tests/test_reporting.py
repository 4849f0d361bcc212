"""Tests for jaxflow.reporting."""

import io
import os
import pty
import select
import sys
import termios

import pytest

from jaxflow import reporting

ROW = {"loss": 0.25, "steps_per_second": 2.0}


def run(stream, monkeypatch, steps=200, **options):
    monkeypatch.setattr(sys, "stderr", stream)
    with reporting.Progress(0, steps, **options) as shown:
        for number in range(1, steps + 1):
            shown.step()
            shown.show(number, ROW)


def test_a_log_file_gets_a_line_at_the_end_and_no_bar(monkeypatch):
    run(log := io.StringIO(), monkeypatch)
    assert log.getvalue() == "step 200 of 200, loss 0.25, 2 steps a second\n"
    run(log := io.StringIO(), monkeypatch, seconds=0)
    assert log.getvalue().count("\n") == 200
    run(log := io.StringIO(), monkeypatch, shown=False)
    assert log.getvalue() == ""


@pytest.mark.parametrize("shown", [True, False])
def test_a_terminal_gets_a_bar_and_no_lines(monkeypatch, shown):
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(ours, (24, 80))
    with os.fdopen(theirs, "w") as terminal:
        # Nobody reads along: more steps would fill the terminal's buffer.
        run(terminal, monkeypatch, steps=9, shown=shown, seconds=0)
        terminal.flush()
        found = ""
        # What was written arrives in pieces.
        while "9/9" not in found and select.select([ours], [], [], 5 * shown)[0]:
            found += os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert ("9/9" in found) == shown
    assert "steps a second" not in found


def test_a_notebook_gets_a_bar(monkeypatch):
    iostream = pytest.importorskip("ipykernel.iostream")

    class Cell(iostream.OutStream):
        def __init__(self):
            self.text = io.StringIO()
            self.write, self.flush = self.text.write, lambda: None

        def isatty(self):
            return False

        def __del__(self):
            pass

    Cell.__module__ = "ipykernel.iostream"
    run(cell := Cell(), monkeypatch)
    assert "200/200" in cell.text.getvalue()
