"""Tests for jaxflow.io.files."""

import ast
import json
import os
import pathlib
import stat
import subprocess
import sys

import numpy as np
import pytest

from jaxflow.io import files


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "out.bin"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), files.atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out.bin"]


def test_a_write_replaces_the_file_and_keeps_no_temporary(tmp_path):
    path = tmp_path / "Füße 光流.bin"
    path.write_bytes(b"old")
    files.write_bytes(path, b"ne", b"w")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == [path.name]


def test_a_new_file_has_the_permissions_that_open_gives(tmp_path):
    files.write_bytes(tmp_path / "ours", b"")
    open(tmp_path / "theirs", "wb").close()
    modes = {stat.S_IMODE((tmp_path / n).stat().st_mode) for n in ("ours", "theirs")}
    assert len(modes) == 1


def test_a_write_goes_through_a_symbolic_link(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    files.write_bytes(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"


def test_refuses_to_replace_a_folder_or_a_device(tmp_path):
    for path in (tmp_path, os.devnull):
        with pytest.raises(ValueError, match="no regular file"):
            files.write_bytes(path, b"")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        files.write_bytes(tmp_path / "nowhere" / "out.bin", b"")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_an_os_error(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        files.write_bytes(tmp_path / "out.bin", b"")


def test_a_refused_rename_leaves_nothing_behind(tmp_path, monkeypatch):
    def refuse(source, target):
        raise PermissionError(13, "Permission denied", str(target))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PermissionError, match=r"out\.bin"):
        files.write_bytes(tmp_path / "out.bin", b"new")
    assert not os.listdir(tmp_path)


# They read what Orbax and Flax wrote, whose own readers import JAX.
WITH_JAX = {
    "staging.py",
    *("checksums.py", "descriptions.py", "orbax_files.py", "state_files.py"),
}


def test_pictures_flow_and_video_are_read_without_jax():
    code = "import sys, jaxflow.io; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    for path in pathlib.Path(files.__file__).parent.glob("*.py"):
        if path.name in WITH_JAX:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert all(name.name.split(".")[0] != "jax" for name in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.module.split(".")[0] not in ("jax", "flax")


def test_json_holds_no_nan_and_no_infinity():
    value = {
        "a": float("nan"),
        3: [np.float32("inf"), -np.inf, np.float64(0.5), np.array(2)],
        "b": {"c": (1, "x", None, True, np.bool_(False))},
    }

    def refuse(name):
        raise AssertionError(name)

    found = json.loads(files.json_text(value), parse_constant=refuse)
    assert found == {
        "a": None,
        "3": [None, None, 0.5, 2],
        "b": {"c": [1, "x", None, True, False]},
    }
    assert "\n" in files.json_text(value, indent=2)
    with pytest.raises(TypeError):
        files.json_text({"a": object()})
