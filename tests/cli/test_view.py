import base64
import io as buffers
import json
import re

import numpy as np
import pytest
from PIL import Image

from jaxflow import cli, io


def run(*words):
    return cli.main(["view", *map(str, words)])


@pytest.fixture
def clip(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("flow", "truth", "frames"):
        (tmp_path / name).mkdir()
    # Natural order: 2 before 10.
    for t in (2, 10):
        flow = rng.normal(size=(9, 14, 2)).astype(np.float32)
        io.write_flow(tmp_path / "flow" / f"{t}.flo", flow)
        io.write_flow(tmp_path / "truth" / f"{t}.flo", flow + 1)
    (tmp_path / "other").mkdir()
    io.write_flow(tmp_path / "other/3.flo", np.zeros((14, 9, 2), np.float32))
    for t in (2, 10, 11):
        frame = rng.integers(0, 256, (9, 14, 3), dtype=np.uint8)
        io.write_image(tmp_path / "frames" / f"{t}.png", frame)
        io.write_image(tmp_path / "flow" / f"{t}.png", frame)
    return tmp_path


def data_of(path):
    text = re.search(r'type="application/json">(.*?)</script>', path.read_text())
    return json.loads(text[1])


def picture_of(address):
    coded = address.removeprefix("data:image/png;base64,")
    return np.asarray(Image.open(buffers.BytesIO(base64.b64decode(coded))))


def test_views_a_pair(clip, monkeypatch, capsys):
    monkeypatch.chdir(clip)
    frames = ["frames/2.png", "frames/10.png"]
    assert run("flow/2.flo", "--frame", *frames, "--truth", "truth/2.flo") == 0
    assert capsys.readouterr().out == "wrote 2_view.html\n"
    data = data_of(clip / "2_view.html")
    assert data["views"] == [
        "flow", "frame1", "frame2", "warped", "blink", "truth", "error",
    ]  # fmt: skip


def test_views_a_clip(clip):
    page = clip / "page.html"
    assert run(clip / "flow", "--frame", clip / "frames", "-o", page, "-q") == 0
    names = [pair["name"] for pair in data_of(page)["frames"]]
    assert names == ["2.flo: 2.png to 10.png", "10.flo: 10.png to 11.png"]
    assert (
        run(f"{clip}/flow/*.flo", "--frame", f"{clip}/frames/*0.png", "-o", page) == 2
    )
    assert run(f"{clip}/flow/*.flo", "-o", page, "-q") == 0
    assert data_of(page)["views"] == ["flow"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["flow/2.flo", "-o", "page.png"], "--output: must be a file in .html"),
        (["flow/2.flo", "-o", "none/page.html"], "there is no folder"),
        (["flow/1.flo"], "flow/1.flo: No such file"),
        (["frames/2.png"], "frames/2.png: "),
        (["flow/2.flo", "--truth", "truth"], "--truth: must hold as many files"),
        (["flow/2.flo", "--frame", "a", "b", "c"], "--frame: give one picture or two"),
        (["flow", "--frame", "frames/2.png", "frames/10.png"], "2 pairs take a folder"),
        (["flow", "--frame", "frames/2.png"], "2 pairs take a folder"),
        (["flow", "--frame", "frames/*0.png"], "has no picture 2, and one 10"),
        (
            ["flow", "--truth", "truth/10.flo"],
            "2 files of 14 x 9 pixels; got 1 file of",
        ),
        (["flow/2.flo", "--truth", "other/3.flo"], "got 1 file of 9 x 14 pixels"),
        (["flow", "--stride", "2"], "--stride: is of a clip"),
        (["flow", "--backward"], "--backward: is of two pictures or a clip"),
        (["flow/2.flo", "--frame", "frames/2.png", "--start", "1"], "--start: is of a"),
        (["flow/2.flo", "--frame", "frames/2.png", "--backward"], "--backward: is of"),
    ],
)
def test_bad_input_is_one_line(clip, monkeypatch, capsys, words, message):
    monkeypatch.chdir(clip)
    assert run(*words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(clip.glob("*.html"))


def test_truth_of_other_names_is_refused(clip, capsys):
    (clip / "truth/2.flo").rename(clip / "truth/11.flo")
    assert run(clip / "flow", "--truth", clip / "truth") == 2
    assert "10.flo would be the truth of 2.flo" in capsys.readouterr().err


def test_two_pictures_may_be_of_flow_backward(clip):
    pair = [clip / "frames/2.png", clip / "frames/10.png"]
    page = clip / "page.html"
    assert run(clip / "flow/10.flo", "--frame", *pair, "--backward", "-o", page) == 0
    found = picture_of(data_of(page)["frames"][0]["pictures"]["frame1"])
    np.testing.assert_array_equal(found, io.read_image(pair[1]))
