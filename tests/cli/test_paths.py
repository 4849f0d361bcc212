"""Tests for jaxflow.cli.paths."""

import pytest

from jaxflow.cli import paths


def test_a_path_must_end_as_it_should():
    paths.check_suffix("-o", None, (".png",))
    paths.check_suffix("-o", "a.PNG", (".png",))
    with pytest.raises(ValueError, match=r"-o: must be a file in .png; got 'a.txt'"):
        paths.check_suffix("-o", "a.txt", (".png",))


def test_the_folder_of_a_file_must_be_there(tmp_path):
    paths.check_folder(tmp_path / "a.png")
    with pytest.raises(ValueError, match="there is no folder"):
        paths.check_folder(tmp_path / "b/a.png")
