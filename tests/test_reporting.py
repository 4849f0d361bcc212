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


def test_a_board_that_cannot_be_written_is_one_line_and_holds_nobody_up(
    tmp_path, monkeypatch, capfd
):
    pytest.importorskip("tensorboardX")

    def refuse(_):
        raise OSError(38, "Function not implemented")

    board = reporting.Board(tmp_path, step=0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        board.add(0, {"loss": 1.0})
        # As where it could not write, which it tries every two minutes.
        board._writer.file_writer.event_writer._worker.stop()
        for step in range(1, 100):  # its queue has room for ten
            board.add(step, {"loss": 1.0})
        board.close()
    said = capfd.readouterr().err
    assert said.count("no more is written") == 1


def test_a_board_has_the_rows(tmp_path):
    pytest.importorskip("tensorboardX")
    board = reporting.Board(tmp_path, step=0)
    board.add(1, {"loss": 0.5, "epe": 2.0})
    board.close()
    (path,) = tmp_path.iterdir()
    assert b"loss" in path.read_bytes() and b"epe" in path.read_bytes()
