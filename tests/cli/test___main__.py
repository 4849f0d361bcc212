"""Tests for jaxflow.cli.__main__."""

import subprocess
import sys


def test_the_program_itself_ends_with_one_line_and_code_2(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "jaxflow.cli", "flow", "no.png", "no.png"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "jaxflow flow: error: no.png: No such file or directory\n"
    assert done.stdout == ""
