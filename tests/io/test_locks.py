"""Tests for jaxflow.io.locks."""

import fcntl
import os
import pathlib
import signal
import subprocess
import sys

import pytest
from etils import epath

from jaxflow.io import locks

DIES = """
import os, pathlib, signal, sys, time
from jaxflow.io import locks
with locks.held(pathlib.Path(sys.argv[1])) as has_lock:
    assert has_lock
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(tell, b"!")
        time.sleep(60)
        os._exit(0)
    os.read(ready, 1)  # the child has let go of the lock
    print(child, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_second_holder_is_told_who_is_the_first(tmp_path):
    path = tmp_path / "lock"
    with locks.held(path) as has_lock:
        assert has_lock
        with (
            pytest.raises(OSError, match=rf"in use by process {os.getpid()} on "),
            locks.held(path),
        ):
            raise AssertionError("held twice")
    with locks.held(path) as has_lock:  # the file is there, and no lock
        assert has_lock and path.exists()


def test_the_lock_ends_with_its_holder_even_if_killed_and_forked(tmp_path):
    path = tmp_path / "lock"
    told = start_and_wait(path)
    try:
        assert told[0] == -signal.SIGKILL
        with locks.held(path) as has_lock:
            assert has_lock
    finally:
        os.kill(told[1], signal.SIGKILL)


def start_and_wait(path):
    """Returns the exit code of the process above, and the number of its child."""
    process = subprocess.Popen(
        [sys.executable, "-c", DIES, path], stdout=subprocess.PIPE, text=True
    )
    child = int(process.stdout.readline())
    process.stdout.close()
    return process.wait(60), child


def test_storage_without_locks_has_none(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with locks.held(tmp_path / "lock") as has_lock:
        assert not has_lock
    with locks.held(epath.Path("gs://nobody/has/this")) as has_lock:
        assert not has_lock


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), locks.held(tmp_path / "no" / "lock"):
        pass


def test_a_lock_needs_no_room_on_the_disk():
    with locks.held(pathlib.Path("/dev/full")) as has_lock:
        assert has_lock
