"""Tests for jaxflow.cli.paths."""

import os
import pathlib

import pytest

from jaxflow.cli import paths


@pytest.fixture
def source(tmp_path):
    (path := tmp_path / "a.png").write_bytes(b"a")
    return path


def test_a_path_must_end_as_it_should():
    paths.check_suffix("-o", None, (".png",))
    paths.check_suffix("-o", "a.PNG", (".png",))
    with pytest.raises(ValueError, match=r"-o: must be a file in .png; got 'a.txt'"):
        paths.check_suffix("-o", "a.txt", (".png",))


@pytest.mark.parametrize("way", ["itself", "dots", "symbolic", "hard", "folder"])
def test_a_target_is_never_a_source(tmp_path, source, way):
    target = tmp_path / "b.png"
    if way == "itself":
        target = source
    elif way == "dots":
        target = tmp_path / "x/../a.png"
        (tmp_path / "x").mkdir()
    elif way == "symbolic":
        target.symlink_to(source)
    elif way == "hard":
        os.link(source, target)
    else:
        target = tmp_path / "link/a.png"
        (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="is an input"):
        paths.check_targets([("-o", str(target))], [source])
    paths.check_targets([("-o", str(tmp_path / "new.png"))], [source])


def test_what_is_in_a_folder_of_inputs_is_not_overwritten(tmp_path, source):
    with pytest.raises(ValueError, match="is an input"):
        paths.check_targets([("-o", str(source))], [tmp_path])
    paths.check_targets([("-o", str(tmp_path / "new.json"))], [tmp_path])


def test_two_results_are_two_files(tmp_path):
    targets = [("-o", "x.png"), ("--image", "./x.png")]
    with pytest.raises(ValueError, match=r"--image: \./x.png would be written twice"):
        paths.check_targets(targets, [])


def test_results_do_not_go_among_the_frames(tmp_path, source):
    (tmp_path / "link").symlink_to(tmp_path)
    for folder in (tmp_path, tmp_path / "link"):
        with pytest.raises(ValueError, match="holds the frames"):
            paths.check_folders([("--image", str(folder))], [source])
    paths.check_folders([("--image", str(tmp_path / "flow"))], [source])


def test_a_folder_may_have_dots_in_its_name(tmp_path):
    (tmp_path / "x.mp4").mkdir()
    for name in ("flows", "flows.v2", "2024.05.01", "x.flo/", str(tmp_path / "x.mp4")):
        assert paths.is_folder("-o", name, allowed=(".mp4",)), name
    assert not paths.is_folder("-o", "y.mp4", allowed=(".mp4",))
    for name in ("x.flo", "x.avi", "x.png", "x.tif"):
        with pytest.raises(ValueError, match=f"or a folder; got '{name}'"):
            paths.is_folder("-o", name, allowed=(".mp4",))


def test_a_file_needs_a_place(tmp_path, source):
    paths.check_file("-o", str(tmp_path / "new.png"))
    paths.check_file("-o", str(source))
    with pytest.raises(ValueError, match="there is no folder"):
        paths.check_file("-o", str(tmp_path / "b/a.png"))
    with pytest.raises(ValueError, match="is a folder"):
        paths.check_file("-o", str(tmp_path))
    with pytest.raises(ValueError, match="no regular file"):
        paths.check_file("-o", "/dev/null")
    with pytest.raises(OSError, match=r"-o: .* must be a folder, but .* is a file"):
        paths.make_folder("-o", str(source / "b"))
    with pytest.raises(OSError, match=r"-o: .* must be a folder, but .* is a file"):
        paths.check_file("-o", str(source / "b.png"))
    with pytest.raises(ValueError, match="too long"):
        paths.check_file("-o", str(tmp_path / f"{'x' * 300}.png"))
    paths.make_folder("-o", str(tmp_path / "c/d"))
    assert (tmp_path / "c/d").is_dir()


@pytest.mark.parametrize(
    ("pictures", "names"),
    [
        (["c/1.png", "c/2.png"], ["1", "2"]),
        (["s/cam1/f.png", "s/cam2/f.png"], ["cam1_f", "cam2_f"]),
        (["c/1.jpg", "c/1.png", "c/2.png"], ["1_jpg", "1_png", "2_png"]),
    ],
)
def test_every_picture_has_a_name_of_its_own(pictures, names):
    assert paths.distinct_names(list(map(pathlib.Path, pictures))) == names


def test_names_that_cannot_be_told_apart_are_refused():
    pictures = [
        pathlib.Path(name) for name in ("s/a/b_c.png", "s/a_b/c.png", "s/x/c.png")
    ]
    with pytest.raises(ValueError, match="would both be named a_b_c_png"):
        paths.distinct_names(pictures)


def test_a_folder_of_results_is_new_or_empty(tmp_path):
    (tmp_path / ".hidden").write_text("")
    paths.check_new("-o", str(tmp_path))
    (tmp_path / "a.flo").write_text("")
    with pytest.raises(ValueError, match=r"-o: .* is not empty \(it holds a\.flo\)"):
        paths.check_new("-o", str(tmp_path))
