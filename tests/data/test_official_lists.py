"""Tests for jaxflow.data.official_lists."""

import json

import pytest

from jaxflow.data import lists


def tree(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def found(root, *args, **options):
    videos, names = lists.list_videos(*args, **options)
    return [(str(v.path.relative_to(root)), names[v.label]) for v in videos], names


KINETICS = """label,youtube_id,time_start,time_end,split
"riding a bike, fast",-abc_123456,10,20,train
clapping,zzzzzzzzzzz,0,10,train
clapping,gonegonegon,3,13,train
"""


def test_kinetics_names_its_files_by_time(tmp_path):
    tree(
        tmp_path, "train/-abc_123456_000010_000020.mp4",
        "clapping/zzzzzzzzzzz_000000_000010.mkv", ".x/gonegonegon_000003_000013.mp4",
    )  # fmt: skip
    (tmp_path / "train.csv").write_text(KINETICS)
    with pytest.warns(UserWarning, match=r"1 of 3 videos are not in .*gonegonegon"):
        videos, names = found(tmp_path, tmp_path / "train.csv")
    assert names == ("clapping", "riding a bike, fast")
    assert videos == [
        ("train/-abc_123456_000010_000020.mp4", "riding a bike, fast"),
        ("clapping/zzzzzzzzzzz_000000_000010.mkv", "clapping"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (KINETICS, r"train\.csv: 3 of 3 videos are not in"),
        (KINETICS.replace("10,20", "x,20"), r"train\.csv:2: has no start and end"),
        (KINETICS.replace(",3,13", ""), r"train\.csv:4: has not 5 columns"),
        (KINETICS.replace("label,", "class,"), r"train\.csv:1: has no column 'label'"),
        (KINETICS.replace("13,train", "13,test"), "`part` must say"),
    ],
)
def test_a_list_of_kinetics_that_is_none_is_refused(tmp_path, text, message):
    (tmp_path / "train.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        lists.list_videos(tmp_path / "train.csv")


@pytest.fixture
def ucf101(tmp_path):
    tree(tmp_path, "UCF-101/Bowling/v_Bowling_g01_c01.avi", "UCF-101/Archery/v_x.avi")
    lists_folder = tmp_path / "ucfTrainTestlist"
    lists_folder.mkdir()
    (lists_folder / "classInd.txt").write_text("1 Archery\r\n2 Bowling\r\n3 Diving\r\n")
    (lists_folder / "trainlist01.txt").write_text(
        "Bowling/v_Bowling_g01_c01.avi 2\r\nArchery/v_x.avi 1\r\n"
    )
    (lists_folder / "testlist01.txt").write_text("Bowling/v_Bowling_g01_c01.avi\r\n")
    return lists_folder


def test_ucf101_counts_from_1_and_tests_without_labels(tmp_path, ucf101):
    names = ("Archery", "Bowling", "Diving")
    assert found(tmp_path, ucf101 / "trainlist01.txt") == (
        [
            ("UCF-101/Bowling/v_Bowling_g01_c01.avi", "Bowling"),
            ("UCF-101/Archery/v_x.avi", "Archery"),
        ],
        names,
    )
    assert found(tmp_path, ucf101 / "testlist01.txt", names=names) == (
        [("UCF-101/Bowling/v_Bowling_g01_c01.avi", "Bowling")], names,
    )  # fmt: skip
    videos, _ = lists.list_videos(ucf101 / "testlist01.txt", videos=tmp_path / "other")
    assert videos[0].path == tmp_path / "other/Bowling/v_Bowling_g01_c01.avi"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Bowling/v.avi 1", r"trainlist01\.txt:1: has the label 1; Bowling has 2"),
        ("Golf/v.avi 2", r"trainlist01\.txt:1: names 'Golf'"),
        ("v.avi 2", r"trainlist01\.txt:1: is not"),
    ],
)
def test_a_list_of_ucf101_that_is_none_is_refused(ucf101, line, message):
    (ucf101 / "trainlist01.txt").write_text(line)
    with pytest.raises(ValueError, match=message):
        lists.list_videos(ucf101 / "trainlist01.txt")
    (ucf101 / "classInd.txt").write_text("1 Archery\n3 Bowling\n")
    with pytest.raises(ValueError, match=r"classInd\.txt:2"):
        lists.list_videos(ucf101 / "trainlist01.txt")


@pytest.fixture
def hmdb51(tmp_path):
    folder = tmp_path / "splits"
    tree(tmp_path, "hmdb51_org/wave/b.avi", "hmdb51_org/brush_hair/a (1).avi")
    folder.mkdir()
    (folder / "brush_hair_test_split1.txt").write_text("a (1).avi 1 \nc.avi 2 \n")
    (folder / "wave_test_split1.txt").write_text("b.avi 2 \nd.avi 0 \ne.avi 1 \n")
    (folder / "wave_test_split2.txt").write_text("b.avi 1 \n")
    return folder


def test_hmdb51_marks_training_by_1_and_testing_by_2(tmp_path, hmdb51):
    path = hmdb51 / "wave_test_split1.txt"
    names = ("brush_hair", "wave")
    assert found(tmp_path, path, part="train") == (
        [("hmdb51_org/brush_hair/a (1).avi", "brush_hair"),
         ("hmdb51_org/wave/e.avi", "wave")], names,
    )  # fmt: skip
    assert found(tmp_path, path, part="test", names=names)[0] == [
        ("hmdb51_org/brush_hair/c.avi", "brush_hair"), ("hmdb51_org/wave/b.avi", "wave")
    ]  # fmt: skip


def test_hmdb51_without_a_part_is_refused(hmdb51):
    with pytest.raises(ValueError, match="`part` must be 'train' or 'test'"):
        lists.list_videos(hmdb51 / "wave_test_split1.txt")
    with pytest.raises(ValueError, match="holds the lists of HMDB51; name one"):
        lists.list_videos(hmdb51)
    (hmdb51 / "wave_test_split1.txt").write_text("b.avi 3\n")
    with pytest.raises(ValueError, match=r"wave_test_split1\.txt:1: is not"):
        lists.list_videos(hmdb51 / "wave_test_split1.txt", part="train")


def test_something_something_numbers_its_templates(tmp_path):
    tree(tmp_path, "20bn-something-something-v2/7.webm")
    entry = {"id": "7", "label": "holding a cup", "template": "Holding [something]"}
    (tmp_path / "train.json").write_text(json.dumps([entry]))
    (tmp_path / "labels.json").write_text('{"Turning": "1", "Holding something": "0"}')
    assert found(tmp_path, tmp_path / "train.json") == (
        [("20bn-something-something-v2/7.webm", "Holding something")],
        ("Holding something", "Turning"),
    )
    (tmp_path / "train.json").write_text('[{"id": "7"}]')
    with pytest.raises(ValueError, match=r'train\.json: an entry has no "id" and'):
        lists.list_videos(tmp_path / "train.json")


def test_a_table_in_json_is_a_list(tmp_path):
    (tmp_path / "a.json").write_text('{"x.mp4": 1, "y z.mp4": 0}')
    assert found(tmp_path, tmp_path / "a.json")[0] == [("x.mp4", "1"), ("y z.mp4", "0")]
    for text in ("{", '{"x.mp4": [1, 2]}', '{"x.mp4": true}', "3"):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(ValueError, match=r"a\.json: "):
            lists.list_videos(tmp_path / "a.json")


def test_jesters_classes_are_in_the_order_of_their_file(tmp_path):
    path = tmp_path / "jester-v1-train.csv"
    path.write_text("34870;Drumming Fingers\n56557;Sliding Left\n")
    found, names = lists.list_videos(path)
    assert names == ("Drumming Fingers", "Sliding Left")
    assert found[0] == (tmp_path / "34870", 0)
    (tmp_path / "jester-v1-labels.csv").write_text("Sliding Left\nDrumming Fingers\n")
    inner = tmp_path / "20bn-jester-v1"
    inner.mkdir()
    found, names = lists.list_videos(path)
    assert names == ("Sliding Left", "Drumming Fingers")
    assert found == [(inner / "34870", 1), (inner / "56557", 0)]
    path.write_text("34870;Drumming Fingers\n56557\n")
    with pytest.raises(ValueError, match=r"train\.csv:2: is not '1;Swiping Left'"):
        lists.list_videos(path)
