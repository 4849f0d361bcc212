"""Training that is killed, and disks that are full: nothing that was saved is lost."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.parametrize(
    "kills", [3, pytest.param(30, marks=pytest.mark.slow)], ids="{} kills".format
)
def test_a_run_that_is_killed_again_and_again_is_the_same_run_bit_for_bit(
    tmp_path, kills
):
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
