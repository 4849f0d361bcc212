"""Tests for jaxflow.cli.evaluate."""

import csv
import dataclasses
import json

import jax
import numpy as np
import pytest
from flax import nnx

from jaxflow import classical, cli, convert, io, models, weights

SIZE = (24, 33)


def test_evaluate_prints_and_writes_a_table(tmp_path, picture, capsys):
    folder = tmp_path / "middlebury/Scene"
    folder.mkdir(parents=True)
    for name, level in (("frame10.png", 51), ("frame11.png", 102)):
        io.write_image(folder / name, picture(level))
    io.write_flow(folder / "flow10.flo", np.full((*SIZE, 2), [0.2, 4.4]))
    words = ["--model", "zero", "--model", "brightness", "-o", "table.json"]
    data = ["--data", "middlebury=middlebury", "--limit", "1"]
    assert cli.main(["evaluate", "flow", *words, *data]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].split()[:3] == ["middlebury", "pairs", "epe"]
    assert [line.split()[0] for line in out[1:3]] == ["zero", "brightness"]
    table = json.loads((tmp_path / "table.json").read_text())["middlebury"]
    # Errors of float32.
    assert table["zero"]["epe"] == pytest.approx(np.hypot(0.2, 4.4), rel=1e-5)
    assert table["brightness"]["epe"] == pytest.approx(4.0, rel=1e-5)
    assert table["brightness"]["fl_all"] == 100


@pytest.mark.slow
def test_evaluate_all_compares_what_is_at_hand(tmp_path, capsys, monkeypatch):
    chosen = {name: classical.METHODS[name] for name in ("lucas_kanade", "affine")}
    monkeypatch.setattr(classical, "METHODS", chosen)
    monkeypatch.setenv("JAXFLOW_CACHE", str(tmp_path))
    model = models.create_model("spynet")
    here = tmp_path / "spynet.safetensors"
    convert.save_weights(model, here)
    toy = dataclasses.replace(
        weights.published()["spynet/sintel-final"],
        file=here.name,
        sha256="",
        dialect="jaxflow",
    )
    absent = weights.published()["pwcnet/chairs"]
    known = {"spynet/toy": toy, "pwcnet/chairs": absent}
    monkeypatch.setattr(weights, "published", lambda: known)
    out = tmp_path / "table.json"
    words = ["evaluate", "flow", "--all", "--limit", "1", "-o", str(out)]
    with pytest.warns(UserWarning, match="spynet/toy is not verified"):
        assert cli.main(words) == 0
    rows = json.loads(out.read_text())["scenes"]
    assert list(rows) == ["zero", "affine", "lucas_kanade", "spynet/toy"]
    count = sum(x.size for x in jax.tree.leaves(nnx.state(model, nnx.Param)))
    assert rows["spynet/toy"]["parameters"] == count
    assert rows["spynet/toy"]["MiB"] > rows["affine"]["MiB"] > 0
    assert rows["zero"]["epe"] > 0
    printed = capsys.readouterr().out
    for column in ("parameters", "MiB", "seconds", "epe"):
        assert column in printed


def test_json_has_no_nan_and_no_input_is_overwritten(tmp_path, picture, fails):
    folder = tmp_path / "middlebury/Scene"
    folder.mkdir(parents=True)
    for name, level in (("frame10.png", 51), ("frame11.png", 102)):
        io.write_image(folder / name, picture(level))
    io.write_flow(folder / "flow10.flo", np.full((*SIZE, 2), [0.2, 4.4]))
    words = ["evaluate", "flow", "--model", "zero", "--data", "middlebury=middlebury"]
    assert cli.main([*words, "-o", "table.json", "-q"]) == 0
    text = (tmp_path / "table.json").read_text()
    # No motion is fast here.
    table = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert table["middlebury"]["zero"]["s40+"] is None
    line = fails(*words, "-o", "middlebury/Scene/flow10.flo")
    assert "flow10.flo is an input" in line
    io.write_flow("start.flo", np.zeros((*SIZE, 2)))
    option = ["--option", "initial_flow=start.flo", "-o", "start.flo"]
    assert "start.flo is an input" in fails(*words, *option)
    assert "there is no folder" in fails(*words, "-o", "none/table.json")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("evaluate flow --model zero", "--data: give NAME=DIR"),
        ("evaluate flow --data hd1k=x", "--model: name the estimators, or give --all"),
        ("evaluate flow --model zero --all", "--model: name the estimators"),
        ("evaluate flow --model zero --data x", "--data: give NAME=DIR"),
        ("evaluate flow --model zero --data hd1k=empty", "no pairs of layout"),
        ("evaluate flow --model a --model b --weights c --data hd1k=x", "several"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(odd, tmp_path, fails, words, message):
    before = sorted(tmp_path.rglob("*"))
    assert message in fails(*words.split())
    left = [path for path in sorted(tmp_path.rglob("*")) if path not in before]
    assert all(path.is_dir() for path in left)


def sintel(root, picture, *, occlusions=True):
    """Two pairs in the layout of Sintel, the right third of which is hidden."""
    for name in ("clean", "flow", "occlusions"):
        (root / "training" / name / "alley_1").mkdir(parents=True)
    training = root / "training"
    for number, level in ((1, 51), (2, 102), (3, 51)):
        io.write_image(
            training / f"clean/alley_1/frame_{number:04d}.png", picture(level)
        )
    for number in (1, 2):
        flow = np.zeros((*SIZE, 2), np.float32)
        flow[..., 0] = 3 * number
        flow[:, 22:, 0] = 30
        io.write_flow(training / f"flow/alley_1/frame_{number:04d}.flo", flow)
        hidden = np.zeros(SIZE, np.uint8)
        hidden[:, 22:] = 255
        if occlusions or number == 1:
            path = training / f"occlusions/alley_1/frame_{number:04d}.png"
            io.write_image(path, hidden)
    return root


def test_what_is_matched_is_told_apart_and_every_format_is_written(
    tmp_path, picture, capsys
):
    sintel(tmp_path / "sintel", picture)
    words = ["evaluate", "flow", "--model", "zero", "--data", "sintel_clean=sintel"]
    for name in ("t.json", "t.csv", "t.md"):
        assert cli.main([*words, "-o", name]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].split()[:5] == [
        "sintel_clean",
        "pairs",
        "epe",
        "matched",
        "unmatched",
    ]
    row = json.loads((tmp_path / "t.json").read_text())["sintel_clean"]["zero"]
    assert row["matched"] == pytest.approx(4.5) and row["unmatched"] == 30
    assert row["fl_noc"] == pytest.approx(50)
    (line,) = csv.DictReader((tmp_path / "t.csv").read_text().splitlines())
    assert line["data"] == "sintel_clean" and line["estimator"] == "zero"
    assert float(line["matched"]) == pytest.approx(4.5) and line["s40+"] == ""
    table = (tmp_path / "t.md").read_text().splitlines()
    assert table[0].startswith("| sintel_clean | pairs | epe |")
    assert table[1].startswith("|---|---:|") and "| zero | 2 |" in table[2]
    assert len({line.count("|") for line in table}) == 1
    assert "must be a file in .json, .md, .csv" in _fails(
        [*words, "-o", "t.txt"], capsys
    )


def _fails(words, capsys):
    assert cli.main(words) == 2
    return capsys.readouterr().err


def test_the_worst_pairs_are_pictures(tmp_path, picture, capsys):
    sintel(tmp_path / "sintel", picture)
    words = ["evaluate", "flow", "--model", "zero", "--data", "sintel_clean=sintel"]
    assert cli.main([*words, "--worst", "1", "--pictures", "out", "-q"]) == 0
    (path,) = (tmp_path / "out").iterdir()
    assert path.name == "sintel_clean_zero_01_pair00001.png"
    assert "give both, or neither" in _fails([*words, "--worst", "1"], capsys)


def test_a_pair_that_does_not_say_what_is_hidden_is_named(tmp_path, picture, capsys):
    sintel(tmp_path / "sintel", picture, occlusions=False)
    words = ["evaluate", "flow", "--model", "zero", "--data", "sintel_clean=sintel"]
    assert "frame_0002.flo: has no picture of what is hidden" in _fails(words, capsys)
