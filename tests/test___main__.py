"""Tests for jaxflow.__main__."""

import subprocess
import sys

import jaxflow


def test_the_package_runs_as_a_module():
    words = [sys.executable, "-m", "jaxflow", "--version"]
    found = subprocess.run(words, capture_output=True, text=True, check=True)
    assert found.stdout == f"jaxflow {jaxflow.__version__}\n"
