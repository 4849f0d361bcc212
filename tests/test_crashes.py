"""Training that is killed, and disks that are full: nothing that was saved is lost."""

import contextlib
import fcntl
import json
import os
import pathlib
import resource
import subprocess
import sys

import jax
import numpy as np
import pytest

from tests import crash_process

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_is_the_same_run_bit_for_bit(tmp_path):
    kills = 10
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash_process", tmp_path, str(kills), "0"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100 + 60 * kills,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["kills"] == kills
    assert found["saving"] >= kills // 3
    assert found["steps"] > kills and found["arrays"] > 10
    assert found["different"] == 0
    assert found["logs_equal"]


@contextlib.contextmanager
def files_up_to(size):
    """Lets no file grow beyond a size, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def assert_same_weights(one, other):
    for a, b in zip(*map(jax.tree.leaves, (one.params, other.params)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The state of a run of nine steps that nothing happened to."""
    return crash_process.run(tmp_path_factory.mktemp("whole"), 9)


@pytest.mark.parametrize(
    ("what", "size", "message"),
    [
        ("checkpoint", 3000, r"/checkpoints: a checkpoint could not be written: File"),
        ("record", 700, r"/run.json: cannot be written: File too large"),
        ("log", 100_050, r"File too large: '.*/metrics.jsonl'"),
    ],
)
def test_a_full_disk_is_one_line_and_the_last_checkpoint_stays(
    tmp_path, whole, capfd, what, size, message
):
    crash_process.run(tmp_path, 3)
    if what == "log":
        row = json.dumps({"step": 3, "note": ""})
        with (tmp_path / "metrics.jsonl").open("a") as file:
            at = file.tell()
            file.write(
                json.dumps({"step": 3, "note": "x" * (100_000 - at - len(row) - 1)})
                + "\n"
            )
    capfd.readouterr()
    with files_up_to(size), pytest.raises(OSError, match=message) as caught:
        crash_process.run(tmp_path, 9)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
    assert "Traceback" not in capfd.readouterr().err
    assert (tmp_path / "checkpoints" / "3").is_dir()
    assert_same_weights(crash_process.run(tmp_path, 9), whole)
    steps = [json.loads(row)["step"] for row in (tmp_path / "metrics.jsonl").open()]
    assert sorted(set(steps)) == list(range(1, 10))


def test_a_run_works_on_a_drive_without_renames_of_folders_locks_and_fsync(
    tmp_path, whole, monkeypatch, capsys
):
    rename, replace = os.rename, os.replace

    def refuse(*_, **__):
        raise OSError(38, "Function not implemented")

    def of_files(action):
        def act(source, *args, **told):
            return (refuse if os.path.isdir(source) else action)(source, *args, **told)

        return act

    monkeypatch.setattr(os, "rename", of_files(rename))
    monkeypatch.setattr(os, "replace", of_files(replace))
    monkeypatch.setattr(os, "fsync", refuse)
    monkeypatch.setattr(fcntl, "flock", refuse)
    crash_process.run(tmp_path, 6)
    assert "there are no locks on this storage" in capsys.readouterr().err
    checkpoints = tmp_path / "checkpoints"
    (checkpoints / "9" / "state").mkdir(parents=True)  # a save that was cut off
    damaged = next((checkpoints / "6" / "state").rglob("manifest.ocdbt"))
    damaged.write_bytes(damaged.read_bytes()[:-9])
    with pytest.warns(UserWarning, match=r"checkpoints/6 is damaged"):
        state = crash_process.run(tmp_path, 9)
    assert_same_weights(state, whole)
    assert sorted(path.name for path in checkpoints.iterdir()) == ["6", "9", "damaged"]
