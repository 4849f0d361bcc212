"""Tests for jaxflow.data.lists."""

import re

import pytest

from jaxflow.data import lists


def tree(root, *names):
    """Writes files that are only looked for."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def labels(videos):
    return [(video.path.name, video.label) for video in videos]


def test_folders_are_classes_in_alphabetical_order(tmp_path):
    tree(tmp_path, "wave/b.mp4", "wave/sub/a.AVI", "clap/0.mkv", "wave/notes.txt")
    videos, names = lists.list_videos(tmp_path)
    assert names == ("clap", "wave")
    assert labels(videos) == [("0.mkv", 0), ("b.mp4", 1), ("a.AVI", 1)]


def test_hidden_and_empty_folders_are_no_classes(tmp_path):
    tree(
        tmp_path, "clap/0.mp4", "clap/._0.mp4", "clap/.DS_Store", "wave/0.mp4",
        ".ipynb_checkpoints/0.mp4", "wave/.cache/0.mp4", "__MACOSX/wave/._0.mp4",
        "docs/readme.txt", "__MACOSX/1.mp4", "wave/__MACOSX/2.mp4",
    )  # fmt: skip
    (tmp_path / "empty").mkdir()
    videos, names = lists.list_videos(tmp_path)
    assert names == ("clap", "wave")
    assert labels(videos) == [("0.mp4", 0), ("0.mp4", 1)]


def test_folders_named_by_numbers_are_in_their_order(tmp_path):
    tree(tmp_path, *(f"{number}/0.mp4" for number in (10, 9, 2, 1)))
    assert lists.list_videos(tmp_path)[1] == ("1", "2", "9", "10")


def test_a_test_without_a_class_keeps_the_labels_of_training(tmp_path):
    tree(tmp_path, "train/a/0.mp4", "train/b/0.mp4", "train/c/0.mp4", "test/c/1.mp4")
    _, names = lists.list_videos(tmp_path / "train")
    videos, again = lists.list_videos(tmp_path / "test", names=names)
    assert again == names == ("a", "b", "c")
    assert labels(videos) == [("1.mp4", 2)]


def test_a_class_that_training_did_not_know_is_named(tmp_path):
    tree(tmp_path, "a/0.mp4", "new/0.mp4")
    with pytest.raises(ValueError, match=r"'new' is none of the 2 classes of training"):
        lists.list_videos(tmp_path, names=("a", "b"))
    (tmp_path / "list.txt").write_text("a/0.mp4 a\nnew/0.mp4 new\n")
    with pytest.raises(ValueError, match=r"list\.txt:2: .*'new' is none of"):
        lists.list_videos(tmp_path / "list.txt", names=("a", "b"))


def test_a_run_keeps_its_vocabulary(tmp_path):
    run = tmp_path / "run"
    assert lists.load_classes(run) is None
    lists.save_classes(run, ("hüpfen", "go"))
    lists.save_classes(run, ("hüpfen", "go"))
    assert lists.load_classes(run) == ("hüpfen", "go")
    with pytest.raises(ValueError, match=r"trained on other classes \('go' where"):
        lists.save_classes(run, ("hüpfen", "run"))
    with pytest.raises(ValueError, match=r"other classes \('2 classes'"):
        lists.save_classes(run, ("hüpfen", "go", "run"))
    (run / lists.CLASSES_FILE).write_text('["a", "a"]')
    with pytest.raises(ValueError, match=r"classes\.json: "):
        lists.load_classes(run)


@pytest.mark.parametrize("names", [(), ("a", "a"), ("a", 1)])
def test_a_vocabulary_must_be_one(names):
    with pytest.raises(ValueError, match="`names`"):
        lists.check_names(names)


def read(tmp_path, text, **options):
    path = tmp_path / "list.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    videos, names = lists.list_videos(path, **options)
    assert all(video.path.parent == tmp_path for video in videos)
    return labels(videos), names


@pytest.mark.parametrize(
    ("text", "expected", "names"),
    [
        ("a.mp4 1.0\nb.mp4 10.0\nc.mp4 0.0\n", [1, 10, 0], map(str, range(11))),
        ("a.mp4 10\nb.mp4 9\nc.mp4 0\n", [10, 9, 0], map(str, range(11))),
        ("a.mp4 run\nb.mp4 go\nc.mp4 run\n", [1, 0, 1], ("go", "run")),
        ("a.mp4 02\nb.mp4 0\nc.mp4 1\n", [2, 0, 1], "012"),
    ],
)
def test_numbers_are_sorted_as_numbers(tmp_path, text, expected, names):
    found, vocabulary = read(tmp_path, text)
    assert [label for _, label in found] == expected
    assert vocabulary == tuple(names)


def test_labels_from_1_must_be_said(tmp_path):
    text = "a.mp4 1\nb.mp4 2\nc.mp4 3\n"
    with pytest.raises(ValueError, match=r"list\.csv:1: .*first_label=1"):
        read(tmp_path, text)
    assert read(tmp_path, text, first_label=1) == (
        [("a.mp4", 0), ("b.mp4", 1), ("c.mp4", 2)],
        ("1", "2", "3"),
    )
    found, names = read(tmp_path, text, first_label=0)
    assert [label for _, label in found] == [1, 2, 3] and names == tuple("0123")
    with pytest.raises(ValueError, match=r"list\.csv:2: .*below `first_label`"):
        read(tmp_path, "a.mp4 1\nb.mp4 0\n", first_label=1)
    with pytest.raises(ValueError, match="`first_label` must be one of"):
        read(tmp_path, text, first_label=2)


def test_the_vocabulary_of_training_tells_what_numbers_mean(tmp_path):
    # Training counted from 1: so does the test, whatever classes it has.
    assert read(tmp_path, "a.mp4 2\n", names=("1", "2", "3"))[0] == [("a.mp4", 1)]
    assert read(tmp_path, "a.mp4 2\n", names=("0", "1", "2"))[0] == [("a.mp4", 2)]
    with pytest.raises(ValueError, match="'0' is none of the 3"):
        read(tmp_path, "a.mp4 0\n", names=("1", "2", "3"))
    names = ("go", "run", "sit")
    assert read(tmp_path, "a.mp4 0\nb.mp4 2\n", names=names)[0][1] == ("b.mp4", 2)
    assert read(tmp_path, "a.mp4 3\nb.mp4 2\n", names=names)[0][1] == ("b.mp4", 1)
    with pytest.raises(ValueError, match="first_label"):
        read(tmp_path, "a.mp4 1\nb.mp4 2\n", names=names)
    with pytest.raises(ValueError, match="number of none of the 3 classes"):
        read(tmp_path, "a.mp4 0\nb.mp4 3\n", names=names)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a.mp4 0\nb.mp4 -1\n", 2, "-1, which is no class"),
        ("a.mp4 0\nb.mp4 1.5\n", 2, "whole numbers or names"),
        ("a.mp4 0\nb.mp4 run\n", 2, "whole numbers or names"),
        ("a.mp4 1,5\nb.mp4 0\n", 1, "several labels"),
        ('a.mp4,"3,17"\nb.mp4,2\n', 1, "several labels"),
        ("a.mp4 0\na.mp4 1\n", 2, "another label than line 1"),
        ("a.mp4 99999999\nb.mp4 0", 1, "99999999"),
    ],
)
def test_labels_that_are_none_are_refused_with_their_line(
    tmp_path, text, line, message
):
    with pytest.raises(ValueError, match=rf"list\.csv:{line}: .*{message}") as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_paths_may_be_relative_to_another_folder(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("a/b.mp4 0\n/elsewhere/c.mp4 1\n")
    videos, _ = lists.list_videos(path, videos=tmp_path / "videos")
    assert [str(v.path) for v in videos] == [
        str(tmp_path / "videos" / "a" / "b.mp4"), "/elsewhere/c.mp4"
    ]  # fmt: skip


def test_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"FOLDER/CLASS/VIDEO, .*; there is nothing$"):
        lists.list_videos(tmp_path)
    (tmp_path / "list.txt").write_text("\n\n")
    with pytest.raises(ValueError, match=r"list\.txt: lists no videos: .* is nothing"):
        lists.list_videos(tmp_path / "list.txt")
    (tmp_path / "list.txt").write_text("path,label\n")
    with pytest.raises(ValueError, match=r"'path label' .* only names of columns"):
        lists.list_videos(tmp_path / "list.txt")
    with pytest.raises(OSError, match=r"gone\.txt"):
        lists.list_videos(tmp_path / "gone.txt")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a.mp4", "notes.txt"], "there is a.mp4, in no folder of a class"),
        (
            [f"{number}.avi" for number in range(9)],
            "0.avi, 1.avi, 2.avi (and 6 more), in no folder",
        ),
        (["wave/0001.png", "x.txt"], "there is wave/, x.txt, without a video"),
        (["__MACOSX/wave/a.mp4", ".DS_Store"], "there is nothing"),
    ],
)
def test_a_folder_without_videos_is_told_its_form_and_what_is_there(
    tmp_path, names, said
):
    tree(tmp_path, *names)
    with pytest.raises(ValueError, match="FOLDER/CLASS/VIDEO") as error:
        lists.list_videos(tmp_path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_listed_and_not_there_is_counted_and_left_out(tmp_path):
    names = [f"{number}.mp4" for number in range(6)]
    videos = [lists.Video(tmp_path / name, 0) for name in names]
    for name in names:
        (tmp_path / name).touch()
    assert lists.present("list.txt", videos) == videos
    for name in names[:4]:
        (tmp_path / name).unlink()
    first = f"{tmp_path / '0.mp4'}, {tmp_path / '1.mp4'}, {tmp_path / '2.mp4'}, ..."
    said = f"list.txt: 4 of 6 videos are not there, and are left out: {first}"
    with pytest.warns(UserWarning, match=f"^{re.escape(said)}$"):
        assert lists.present("list.txt", videos) == videos[4:]
    with pytest.raises(FileNotFoundError, match=r"1 of 1 videos .*0\.mp4; say by `vid"):
        lists.present("list.txt", videos[:1])
