"""Tests for jaxflow.data.list_parts."""

import math

import pytest

from jaxflow.data import list_parts

INF = math.inf


def read(tmp_path, text, **options):
    (tmp_path / "list.csv").write_bytes(text.encode())
    found, names = list_parts.list_parts(tmp_path / "list.csv", **options)
    return [(str(p.relative_to(tmp_path)), *rest) for p, *rest in found], names


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "\ufeffpath,label,start,end\r\na.mp4,3|0,0.5,9\r\n"
            '"my videos/b, c.mp4","1, 2",12,20.5\r\n',
            [("a.mp4", (0, 3), 0.5, 9.0), ("my videos/b, c.mp4", (1, 2), 12.0, 20.5)],
        ),
        (
            "time_start;time_end;video;action\n1;2;a.mp4;0\n3;4;a.mp4;1\n",
            [("a.mp4", (0,), 1.0, 2.0), ("a.mp4", (1,), 3.0, 4.0)],
        ),
        (
            "a b.mp4 0,2\nc.mp4 1\n",
            [("a b.mp4", (0, 2), 0.0, INF), ("c.mp4", (1,), 0.0, INF)],
        ),
        ("path,label\na.mp4,[0;1]\n", [("a.mp4", (0, 1), 0.0, INF)]),
        ("path,label,start,end\na.mp4,0,,\n", [("a.mp4", (0,), 0.0, INF)]),
    ],
    ids=["header", "semicolons", "blanks", "brackets", "no times"],
)
def test_lists_are_read_as_people_have_them(tmp_path, text, expected):
    assert read(tmp_path, text)[0] == expected


def test_classes_are_those_of_one_vocabulary(tmp_path):
    text = "path,label,start,end\na.mp4,wave|Throw, then run,0,1\n"
    found, names = read(
        tmp_path, text.replace("wave|Throw, then run", '"wave|Throw, then run"')
    )
    assert names == ("Throw, then run", "wave") and found[0][1] == (0, 1)
    known = ("run", "wave", "Throw, then run")
    found, names = read(tmp_path, "path,label\na.mp4,wave;run\n", names=known)
    assert names == known and found[0][1] == (0, 1)
    with pytest.raises(ValueError, match=r"list\.csv:2: .*'fly'"):
        read(tmp_path, "path,label\na.mp4,wave|fly\n", names=known)
    # Numbers from 1 are said, as of one label.
    with pytest.raises(ValueError, match="first_label=1"):
        read(tmp_path, "a.mp4 1,3\nb.mp4 2\n")
    found, _ = read(tmp_path, "a.mp4 1,3\nb.mp4 2\n", first_label=1)
    assert [labels for _, labels, *_ in found] == [(0, 2), (1,)]


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("path,label,start,end\na.mp4,0,1,2\nb.mp4,1,5,5\n", 3, "no start and end"),
        ("path,label,start,end\na.mp4,0,-1,2\n", 2, "no start and end"),
        ("path,label,start,end\na.mp4,0,1,\n", 2, "no start and end"),
        ("path,label,start,end\na.mp4,0,x,2\n", 2, "no start and end"),
        ("path,label,start,end\na.mp4,0,1,nan\n", 2, "no start and end"),
        ("path,label,start\na.mp4,0,1\n", 1, "both of them, in "),
        ("path,label,start_frame,end_frame\na.mp4,0,1,9\n", 1, "in seconds"),
        ("path,label\na.mp4,1|1\nb.mp4,0\n", 2, "names a class twice"),
        ("a.mp4 0 1 5\n", 1, "3 entries behind the path"),
        ("path,label\na.mp4,0|\nb.mp4,1\n", 2, "has no label"),
    ],
)
def test_what_can_be_understood_in_two_ways_is_refused(tmp_path, text, line, said):
    with pytest.raises(ValueError, match=rf"list\.csv:{line}: .*{said}"):
        read(tmp_path, text)


def test_an_empty_list_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"lists no videos: .* only names of columns"):
        read(tmp_path, "path,label\n")


def test_a_folder_is_no_list(tmp_path):
    with pytest.raises(ValueError, match="is a folder; parts of videos are read from"):
        list_parts.list_parts(tmp_path)
