import json
import re

import numpy as np
import pytest

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
    for t in (2, 10, 11):
        frame = rng.integers(0, 256, (9, 14, 3), dtype=np.uint8)
        io.write_image(tmp_path / "frames" / f"{t}.png", frame)
        io.write_image(tmp_path / "flow" / f"{t}.png", frame)
    return tmp_path


def data_of(path):
    text = re.search(r'type="application/json">(.*?)</script>', path.read_text())
    return json.loads(text[1])


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
    assert names == ["2.flo", "10.flo"]
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
        (["flow", "--frame", "frames/2.png"], "must hold 2 or 3 pictures"),
    ],
)
def test_bad_input_is_one_line(clip, monkeypatch, capsys, words, message):
    monkeypatch.chdir(clip)
    assert run(*words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(clip.glob("*.html"))
