"""Tests for jaxflow.data.list_rows."""

import pytest

from jaxflow.data import list_rows


def read(tmp_path, text, **options):
    path = tmp_path / "list.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return [(row.path, row.label) for row in list_rows.read_rows(path, **options)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b.mp4 2\nc,d.mp4 0\n\n", [("a b.mp4", "2"), ("c,d.mp4", "0")]),
        ("a b.mp4,1\nc.mp4, 0\n", [("a b.mp4", "1"), ("c.mp4", "0")]),
        ("a.mp4,swing a bat\nb.mp4,go", [("a.mp4", "swing a bat"), ("b.mp4", "go")]),
        ("a.mp4\tone two\n", [("a.mp4", "one two")]),
        ("a.mp4 one\n", [("a.mp4", "one")]),
        ("a.mp4 swing a bat\n", [("a.mp4", "swing a bat")]),
        ("my.avi files/a 1.MP4 3\n", [("my.avi files/a 1.MP4", "3")]),
        ('"a b.mp4" 3\n\'c d.mp4\' 4\n', [("a b.mp4", "3"), ("c d.mp4", "4")]),
        ('"a, b.mp4",3\n', [("a, b.mp4", "3")]),
        ('a.mp4,"throw, then catch"\n', [("a.mp4", "throw, then catch")]),
        ("a.mp4;2\n", [("a.mp4", "2")]),
        ("a.mp4   7  \r\nb.mp4\t8\r\n", [("a.mp4", "7"), ("b.mp4", "8")]),
        ("path,label\na.mp4,3\n", [("a.mp4", "3")]),
        ("label,video,fps\n3,a.mp4,25\n", [("a.mp4", "3")]),
        ("Path Label\na.mp4 3\n", [("a.mp4", "3")]),
        (b"\xef\xbb\xbfa.mp4 3\r\n", [("a.mp4", "3")]),
        (b"\xef\xbb\xbf" + "path,label\nä.mp4,3".encode(), [("ä.mp4", "3")]),
        ("a.mp4 3\n".encode("utf-16"), [("a.mp4", "3")]),
    ],
)  # fmt: skip
def test_lists_in_the_forms_in_use(tmp_path, text, expected):
    assert read(tmp_path, text) == expected


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("alone\n", 1, "no path of a video and a label"),
        ("a.mp4\n", 1, "no path of a video and a label"),
        ("a.mp4 0\nb.mp4 1 5 7\n", 2, "3 entries behind the path"),
        ("a.mp4 120 3\n", 1, "2 entries behind the path"),
        ("a.mp4,1,5,7\n", 1, "3 entries behind the path"),
        ("34870;Drumming Fingers\n", 1, "no path of a video"),
        ("name,y\na.mp4,3\n", 1, "no path of a video"),
        ("path,label,start,end\na.mp4,3,0,9\n", 1, "parts of videos are not read"),
        ("path,label,class\na.mp4,3,x\n", 1, "'label' and 'class'"),
        ("path,label\na.mp4,3,4\n", 2, "has 3 columns"),
        ("path,label\nabc,3\n", 2, "names no video"),
    ],
)
def test_what_can_be_understood_in_two_ways_is_refused(tmp_path, text, line, message):
    with pytest.raises(ValueError, match=rf"list\.txt:{line}: .*{message}") as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"\xff\xd8\xff\xe0\x00\x10", b"a\0b.mp4 3"])
def test_what_is_no_text_is_refused(tmp_path, data):
    with pytest.raises(ValueError, match=r"list\.txt: is no text"):
        read(tmp_path, data)


def test_a_column_names_the_part(tmp_path):
    text = "path,label,split\na.mp4,0,train\nb.mp4,1,validate\n"
    assert read(tmp_path, text, part="val") == [("b.mp4", "1")]
    with pytest.raises(ValueError, match="holds the parts train, val; `part` must"):
        read(tmp_path, text)
    assert len(read(tmp_path, text.replace("validate", "train"), part="test")) == 2
