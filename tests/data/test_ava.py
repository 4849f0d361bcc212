"""Tests for jaxflow.data.ava."""

import pytest

from jaxflow.data import ava

# Rows of the published tables, in their own form.
TRUTH = """\
-5KQ66BBWC4,0902,0.077,0.151,0.283,0.811,80,1
-5KQ66BBWC4,0902,0.226,0.032,0.366,0.497,12,0
"""
FOUND = """\
-5KQ66BBWC4,0904,0.0,0.1,0.5,1.0,12,0.983
-5KQ66BBWC4,0905,0.0,0.1,0.5,1.0,,0.9
"""
V22 = """\
label {
  name: "bend/bow (at the waist)"
  label_id: 1
  label_type: PERSON_MOVEMENT
}
label {
  name: "walk"
  label_id: 14
  label_type: PERSON_MOVEMENT
}
"""
V21 = """\
item {
  name: "walk"
  id: 14
}
item {
  name: "bend/bow (at the waist)"
  id: 1
}
"""


def test_reads_annotations_and_detections(tmp_path):
    (path := tmp_path / "a.csv").write_text(TRUTH + FOUND)
    rows = ava.read_boxes(path)
    assert rows[0] == ava.Box("-5KQ66BBWC4", 902, (0.077, 0.151, 0.283, 0.811), 80, 1)
    assert rows[2] == ava.Box("-5KQ66BBWC4", 904, (0.0, 0.1, 0.5, 1.0), 12, 0.983)
    assert rows[3].action is None and rows[3].score == 0.9


def test_reads_what_a_person_detector_may_write(tmp_path):
    (path := tmp_path / "a.csv").write_bytes(
        b"\xef\xbb\xbfa,1.5,-0.01,0,1.02,1\r\n\r\n a , 2, 0, 0, 1, 1, -1, 0.5\r\n"
    )
    assert ava.read_boxes(path) == [
        ava.Box("a", 1.5, (-0.01, 0, 1.02, 1)),
        ava.Box("a", 2, (0, 0, 1, 1), None, 0.5),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("film,902,0,0,1", "must be video,second,x1,y1,x2,y2"),
        ("film,902,0,0,1,1,12,0.5,7", "must be video,second"),
        (",902,0,0,1,1", "must be video,second"),
        ("video,second,x1,y1,x2,y2,action", "a cell that is no number"),
        ("film,902,0,zero,1,1,12", "a cell that is no number"),
        ("film,902,0,0,1,1,walk", "a cell that is no number"),
        ("film,902,0,0,nan,1,12", "NaN or infinite"),
        ("film,902,0,0,1,1,12,inf", "NaN or infinite"),
        ("film,-1,0,0,1,1,12", "before the start"),
        ("film,902,0,0,1,1,0", "not numbered from 1"),
        ("film,902,0.5,0,0.4,1,12", "second corner is not right of"),
        ("film,902,17,20,64,90,12", "not pixels"),
        ('film,902,"0,0,1,1,12', "no row of a table"),
    ],
)
def test_a_bad_row_is_one_line_with_its_number(tmp_path, row, message):
    (path := tmp_path / "a.csv").write_text(f"{TRUTH}{row}\n")
    with pytest.raises(ValueError, match=message) as caught:
        ava.read_boxes(path)
    assert str(caught.value).startswith(f"{path}:3: ")
    assert "\n" not in str(caught.value)


def test_what_is_written_reads_the_same(tmp_path):
    rows = [
        ava.Box("film", 902.0, (0.125, 0.25, 0.5, 1.0), 12, 0.875),
        ava.Box("film", 2.5, (0.0, 0.0, 1.0, 1.0), 1, 0.000001),
        ava.Box("film", 3.0, (0.0, 0.0, 1.0, 1.0)),
    ]
    ava.write_boxes(tmp_path / "a.csv", rows)
    text = (tmp_path / "a.csv").read_text()
    assert text.startswith("film,0902,0.1250,0.2500,0.5000,1.0000,12,0.875000\n")
    assert ava.read_boxes(tmp_path / "a.csv") == rows


def test_reads_what_is_excluded(tmp_path):
    (path := tmp_path / "e.csv").write_text("a,0902\nb-c,1798\n")
    assert ava.read_exclusions(path) == {("a", 902), ("b-c", 1798)}
    path.write_text("a,0902\na,soon\n")
    with pytest.raises(ValueError, match=rf"{path}:2: is not 'video,second'"):
        ava.read_exclusions(path)


@pytest.mark.parametrize("text", [V22, V21])
def test_reads_both_forms_of_label_maps(tmp_path, text):
    (path := tmp_path / "l.pbtxt").write_text(text)
    expected = {1: "bend/bow (at the waist)", 14: "walk"}
    assert ava.read_label_map(path) == expected
    assert list(ava.read_label_map(path)) == [1, 14]


@pytest.mark.parametrize("text", ["walk\nrun\n", V21 + V22])
def test_what_is_no_label_map_is_one_clear_error(tmp_path, text):
    (path := tmp_path / "l.pbtxt").write_text(text)
    with pytest.raises(ValueError, match="holds no list of actions"):
        ava.read_label_map(path)
