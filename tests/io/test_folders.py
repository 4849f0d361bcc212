"""Tests for jaxflow.io.folders."""

import pathlib

import pytest

from jaxflow.io import folders


def test_local_folders_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(folders.folder("a/b")) == str(tmp_path / "a" / "b")
    assert folders.folder(tmp_path).is_dir()
    assert str(folders.folder(f"file://{tmp_path}")) == str(tmp_path)


def test_a_folder_for_results_is_looked_at_and_not_made(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "broken").symlink_to("nothing")
    folders.check_target("`workdir`", tmp_path)
    folders.check_target("`workdir`", tmp_path / "a/b")
    folders.check_target("`workdir`", "gs://bucket/run")
    assert not (tmp_path / "a").exists()
    for place, what in (
        ("file", "file is a file"),
        ("file/a/b", "file is a file"),
        ("broken", "broken is no folder"),
        ("x" * 300, "too long"),
    ):
        with pytest.raises(OSError, match=what):
            folders.check_target("`workdir`", tmp_path / place)


def test_a_folder_that_may_not_be_written_to_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(PermissionError, match="may not be written to"):
        folders.check_target("`workdir`", tmp_path / "a")


@pytest.mark.parametrize(
    ("path", "remote"),
    [
        ("gs://bucket/run", True),
        (pathlib.Path("gs://bucket/run"), True),
        ("s3://bucket", True),
        ("run", False),
        ("/a/b", False),
        ("C:/runs", False),
    ],
)
def test_cloud_storage_is_told_from_folders(path, remote):
    assert folders.is_remote(path) == remote


def test_storage_that_nobody_knows_is_refused():
    with pytest.raises(ValueError, match=r"ftp:// is not known; .*'gs'"):
        folders.folder("ftp://host/run")


class Storage:
    """What a package for cloud storage does when there is no network."""

    def __init__(self, path, error):
        self.path, self.error = path, error

    def exists(self):
        if self.error is not None:
            raise self.error
        return False

    def __str__(self):
        return self.path


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ImportError("gcsfs"), r"^gs:/.*gs:// needs a package: pip install gcsfs$"),
        (RuntimeError("denied\nat x"), r"^gs:/.*cannot be reached: denied; check"),
    ],
)
@pytest.mark.parametrize("path", ["gs://b/run", pathlib.Path("gs://b/run")])
def test_one_line_says_what_is_missing(monkeypatch, path, error, message):
    monkeypatch.setattr(folders.epath, "Path", lambda p: Storage(p, error))
    with pytest.raises(OSError, match=message) as raised:
        folders.folder(path)
    assert "\n" not in str(raised.value)
    monkeypatch.setattr(folders.epath, "Path", lambda p: Storage(p, None))
    assert str(folders.folder(path)) == "gs://b/run"
