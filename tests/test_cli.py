"""Tests for jaxflow.cli."""

import dataclasses
import importlib.metadata
import json
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow import (
    checkpoint,
    classical,
    classify,
    cli,
    convert,
    estimate,
    io,
    models,
    viz,
)
from jaxflow.models.video import resnet3d

SIZE = (24, 33)


def brightness(frame1, frame2, *, gain=1.0):
    """A method whose flow can be told from its frames."""
    corner = jnp.stack([frame1[0, 0, 0], frame2[0, 0, 0]]) * gain
    return jnp.broadcast_to(corner, (*frame1.shape[:2], 2))


@pytest.fixture(autouse=True)
def method(monkeypatch, tmp_path):
    """Adds a method, and works in an empty folder."""
    known = {**getattr(classical, "METHODS", {}), "brightness": brightness}
    monkeypatch.setattr(classical, "METHODS", known, raising=False)
    monkeypatch.setattr(cli, "DEFAULT_METHOD", "brightness")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path.with_name("cache")))
    monkeypatch.chdir(tmp_path)


def picture(level, size=SIZE):
    return np.full((*size, 3), level, np.uint8)


@pytest.fixture
def pair(tmp_path):
    """Names of two pictures, of gray 51 and 102 (0.2 and 0.4)."""
    for name, level in (("eins.png", 51), ("zwei ü.jpg", 102)):
        io.write_image(tmp_path / name, picture(level))
    return ["eins.png", "zwei ü.jpg"]


@pytest.fixture
def clip(tmp_path):
    """Name of a folder of four pictures, ever brighter."""
    (tmp_path / "clip").mkdir()
    for index in range(4):
        io.write_image(tmp_path / f"clip/f{index}.png", picture(51 * index))
    return "clip"


def fails(capfd, *words):
    """Runs a command that must fail; returns its one line."""
    try:
        code = cli.main(words)
    except SystemExit as stop:
        code = stop.code
    error = capfd.readouterr().err
    assert code == 2
    assert error.count("\n") == 1, error
    return error


def test_a_pair_is_written_as_flow_and_as_a_picture(pair, capsys):
    assert cli.main(["flow", *pair, "-o", "out.flo", "--image", "out.png"]) == 0
    flow, valid = io.read_flow("out.flo")
    assert flow.shape == (*SIZE, 2) and valid.all()
    np.testing.assert_allclose(flow[3, 5], [0.2, 0.4], atol=1e-6)
    np.testing.assert_array_equal(io.read_image("out.png"), viz.flow_to_image(flow))
    assert capsys.readouterr().out == "wrote out.flo\nwrote out.png\n"


@pytest.mark.parametrize("name", ["out.png", "out.pfm"])
def test_the_kind_of_flow_file_follows_the_extension(pair, name):
    assert cli.main(["flow", *pair, "-o", name]) == 0
    # KITTI's format has steps of 1/64 pixel.
    np.testing.assert_allclose(io.read_flow(name)[0][0, 0], [0.2, 0.4], atol=1 / 128)


def test_without_an_output_the_names_follow_the_first_frame(pair, tmp_path):
    assert cli.main(["flow", *pair]) == 0
    assert {path.name for path in tmp_path.glob("eins_*")} == {
        "eins_flow.flo",
        "eins_flow_color.png",
    }


def test_options_reach_the_estimator_and_the_picture(pair):
    words = ["--option", "gain=10", "--max-flow", "100", "-o", "o.flo"]
    assert cli.main(["flow", *pair, *words, "--image", "o.png", "--tile", "16"]) == 0
    flow, _ = io.read_flow("o.flo")
    np.testing.assert_allclose(flow[0, 0], [2, 4], atol=1e-5)
    expected = viz.flow_to_image(flow, max_flow=100)
    np.testing.assert_array_equal(io.read_image("o.png"), expected)


def test_pictures_of_16_bits_are_taken(tmp_path):
    for name, level in (("a.png", 0.25), ("b.png", 0.5)):
        gray = np.full((*SIZE, 3), round(level * 65535), np.uint16)
        io.write_image(tmp_path / name, gray)
    assert cli.main(["flow", "a.png", "b.png", "-o", "o.flo"]) == 0
    np.testing.assert_allclose(io.read_flow("o.flo")[0][0, 0], [0.25, 0.5], atol=1e-4)


def test_a_folder_becomes_a_folder_of_flow_and_of_pictures(clip, capfd, monkeypatch):
    monkeypatch.setattr(cli, "PROGRESS_AFTER", 0)
    words = ["-o", "flows", "--image", "pictures", "--format", "pfm"]
    assert cli.main(["flow", clip, *words, "--batch-size", "2"]) == 0
    for index in range(3):
        flow, _ = io.read_flow(f"flows/f{index}.pfm")
        np.testing.assert_allclose(flow[0, 0], [0.2 * index, 0.2 * index + 0.2], 1e-5)
        # The clip brightens, so that the scale of each frame is its own.
        image = io.read_image(f"pictures/f{index}.png")
        np.testing.assert_array_equal(image, viz.flow_to_image(flow))
    assert "3/3" in capfd.readouterr().err


@pytest.mark.parametrize("source", ["clip", "clip/*.png", "clip.mkv"])
def test_a_clip_becomes_a_colour_video(clip, tmp_path, source):
    frames = list(io.read_frames(clip))
    io.write_video("clip.mkv", frames, fps=10, lossless=True)
    assert cli.main(["flow", source, "-o", "out.mp4"]) == 0
    info = io.video_info("out.mp4")
    assert info.length == 3
    assert info.size == (24, 34)  # an odd side grows
    assert info.fps == (10 if source == "clip.mkv" else 25)
    assert cli.main(["flow", source, "-o", "out.mp4", "--fps", "5"]) == 0
    assert io.video_info("out.mp4").fps == 5


def test_without_an_output_a_clip_becomes_a_video_in_its_name(clip, tmp_path):
    assert cli.main(["flow", "clip/"]) == 0
    assert io.video_info("clip_flow.mp4").length == 3


def test_a_network_runs_with_its_weights(pair):
    model = models.create_model("spynet_chairs", seed=3)
    convert.save_weights(model, "net.safetensors")
    words = ["--model", "spynet_chairs", "--weights", "net.safetensors"]
    assert cli.main(["flow", *pair, *words, "-o", "out.flo"]) == 0
    frames = [io.read_image(name) for name in pair]
    expected = estimate.estimate_flow(model, *frames)
    np.testing.assert_array_equal(io.read_flow("out.flo")[0], expected)


def test_convert_keeps_every_weight(tmp_path):
    model = models.create_model("spynet_chairs", seed=3)
    convert.save_weights(model, "a.safetensors")
    words = ["convert", "a.safetensors", "--model", "spynet_chairs"]
    assert cli.main([*words, "-o", "b.safetensors"]) == 0
    before, after = (convert.read_checkpoint(f"{x}.safetensors") for x in "ab")
    assert before.keys() == after.keys()
    for name in before:
        np.testing.assert_array_equal(before[name], after[name])


def test_evaluate_prints_and_writes_a_table(tmp_path, capsys):
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


def test_models_lists_task_size_and_licence(monkeypatch, capsys):
    kept = ["pwcnet", "spynet"]
    monkeypatch.setattr(models, "list_models", lambda task=None: kept)
    assert cli.main(["models", "--task", "flow"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["model", "task", "parameters", "multiple", "weights"]
    row = next(line.split() for line in lines if line.startswith("pwcnet"))
    # As published, an upsampling that nothing reads included.
    assert row[1:4] == ["flow", "9,374,340", "64"]
    row = next(line.split() for line in lines if line.startswith("brightness"))
    assert row[1:3] == ["flow", "0"]


def test_models_of_video_show_the_published_cost_beside_ours(monkeypatch, capsys):
    kept = ["slow_r50", "fast_r50", "r3d_34"]
    monkeypatch.setattr(models, "list_models", lambda task=None: kept)
    assert cli.main(["models", "--task", "video"]) == 0
    out = capsys.readouterr().out
    lines = {line.split()[0]: line.split() for line in out.splitlines() if line}
    # Ours, theirs; what differs is marked, and explained below.
    slow = ["video", "32,454,096", "32.45", "54.521", "54.52", "8", "x", "256^2"]
    assert lines["slow_r50"][1:9] == slow
    assert lines["fast_r50"][2:7] == ["616,952", "-", "5.283", "4.9", "!"]
    assert lines["r3d_34"][2:8] == ["63,681,104", "-", "75.378", "-", "16", "x"]
    assert "windows of 3 frames" in " ".join(lines["fast_r50:"])
    assert "slow_r50:" not in lines


@pytest.fixture
def recogniser(monkeypatch):
    """Adds a tiny recognition network, and its weights as a file."""
    name = "tiny_network"
    monkeypatch.setitem(resnet3d.VARIANTS, name, resnet3d.TINY)
    models._modules.cache_clear()
    model = models.create_model(name, seed=3)
    convert.save_weights(model, "net.safetensors")
    yield model
    models._modules.cache_clear()


CLASSIFY = ["classify", "--model", "tiny_network", "--weights", "net.safetensors"]


@pytest.mark.parametrize("source", ["clip", "clip/*.png", "clip.mkv"])
def test_classify_prints_the_best_classes(recogniser, clip, source, capsys):
    io.write_video("clip.mkv", list(io.read_frames(clip)), fps=30, lossless=True)
    (labels := pathlib.Path("names.txt")).write_text("a\nb b\nc\nd\ne\n")
    words = ["--labels", str(labels), "--top", "3", "--views", "2x3"]
    assert cli.main([*CLASSIFY, source, *words]) == 0
    scores = classify.classify_video(recogniser, source, clips=2, crops=3)
    names = ["a", "b b", "c", "d", "e"]
    expected = [f"{scores[i]:.4f}  {names[i]}" for i in np.argsort(-scores)[:3]]
    assert capsys.readouterr().out.splitlines() == expected


def test_classify_takes_one_picture_and_an_orbax_folder(recogniser, clip, capsys):
    checkpoint.save("folder", recogniser)
    words = ["classify", "clip/f2.png", "--model", "tiny_network", "--weights"]
    assert cli.main([*words, "folder", "--top", "1", "--random-views", "2"]) == 0
    frame = io.read_image("clip/f2.png")[None]
    scores = classify.classify_video(recogniser, frame, random_views=2)
    assert capsys.readouterr().out.startswith(f"{scores.max():.4f}  {scores.argmax()}")


def test_classify_writes_features_of_every_view(recogniser, clip, capsys):
    words = ["--views", "3x1", "--features", "slow.res5", "a.npy"]
    words += ["--features", "head.projection", "b.npy"]
    assert cli.main([*CLASSIFY, clip, *words]) == 0
    views = np.stack(list(classify.sample_views(recogniser, clip, clips=3)))
    expected = classify.extract_features(recogniser, jnp.asarray(views), "slow.res5")
    np.testing.assert_allclose(np.load("a.npy"), expected, atol=1e-5)
    assert np.load("b.npy").shape == (3, 1, 1, 1, 5)
    assert capsys.readouterr().out.endswith("wrote a.npy\nwrote b.npy\n")


@pytest.mark.parametrize("name", ["cam.png", "cam.mp4"])
def test_classify_shows_where_a_class_is_seen(recogniser, clip, name):
    words = ["--grad-cam", name, "--cam-layer", "slow.res3", "--class", "4"]
    assert cli.main([*CLASSIFY, clip, *words]) == 0
    (view,) = classify.sample_views(recogniser, clip)
    heat = classify.grad_cam(recogniser, view[None], layer="slow.res3", class_index=4)
    shown = classify.overlay(view, np.asarray(heat[0]))
    if name == "cam.png":
        # Four frames, and below each the frame with its heat.
        picture = io.read_image(name)
        assert picture.shape == (2 * 32 + 2, 4 * 32 + 3 * 2, 3)
        np.testing.assert_array_equal(picture[34:, 34:66], shown[1])
    else:
        assert io.video_info(name).length == 4


def test_classify_reads_labels_as_json(tmp_path):
    names = {"list": ['"x y"', "z"], "numbers": {"z": 1, '"x y"': 0}}
    names["names"] = {"1": "z", "0": "x y"}
    for stem, content in names.items():
        (tmp_path / f"{stem}.json").write_text(json.dumps(content))
        assert cli._read_labels(f"{stem}.json") == ["x y", "z"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("none.mp4", "none.mp4: No such file"),
        ("text.txt", "text.txt: no readable video"),
        ("empty", "empty: no pictures there"),
        ("broken.png", "broken.png"),
        ("clip --labels none.txt", "none.txt: No such file"),
        ("clip --labels text.txt", "names 1 classes; the network has 5"),
        ("clip --labels bad.json", "must be a JSON list"),
        ("clip --views 10", "must be CLIPSxCROPS"),
        ("clip --views 10x4", "must be CLIPSxCROPS"),
        ("clip --grad-cam x.txt", "--grad-cam: must be a file in .png"),
        ("clip --grad-cam no/x.png", "no/x.png: there is no folder"),
        ("clip --features slow.res5 x.txt", "--features: must be a file in .npy"),
        ("clip --features slow.res9 x.npy", "'slow.res9' is not in the model"),
        ("clip --cam-layer nose", "'nose' is not in the model"),
        ("clip --class jump", "--class: must be a name in --labels"),
        ("clip --class 5", "--class: must be a name in --labels"),
        ("clip --seconds 1", "needs the rate of the frames"),
        ("clip --seconds 1 --stride 2", "not both"),
        ("clip --option colour=1", "has no config field 'colour'"),
        ("clip --option num_classes=7", "net.safetensors: the state dict"),
        ("clip --model nosuch", "no recognition network is named 'nosuch'"),
        ("clip --model pwcnet", "no recognition network is named 'pwcnet'"),
        ("clip --model slow_r50", "net.safetensors: the state dict"),
    ],
)
def test_classify_refuses_bad_input(recogniser, clip, tmp_path, capfd, words, message):
    (tmp_path / "text.txt").write_text("neither picture nor video")
    (tmp_path / "bad.json").write_text('{"a": 3}')
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n")
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert message in fails(capfd, *CLASSIFY, *words.split())
    assert sorted(tmp_path.rglob("*")) == before


def test_classify_needs_weights(clip, capfd):
    error = fails(capfd, "classify", clip, "--model", "slowfast_4x16_r50")
    assert "--weights: slowfast_4x16_r50 needs a file of weights" in error
    assert "slowfast_4x16_r50/kinetics400" in error


def test_the_demo_gets_the_rest_of_the_words(monkeypatch):
    from jaxflow import demo

    monkeypatch.setattr(demo, "main", lambda words: list(words) == ["--help", "x"])
    assert cli.main(["demo", "--help", "x"]) is True


@pytest.mark.parametrize(
    "command", ["models", "flow", "classify", "evaluate", "convert"]
)
def test_help_has_an_example(command, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0
    assert f"example: jaxflow {command}" in capsys.readouterr().out


def test_version_and_commands_are_named(capsys):
    for words in (["--version"], ["--help"]):
        with pytest.raises(SystemExit) as stop:
            cli.main(words)
        assert stop.value.code == 0
    out = capsys.readouterr().out
    assert importlib.metadata.version("jaxflow") in out
    assert all(re.search(rf"^ +{name} ", out, re.M) for name in ("flow", "demo"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "required: COMMAND"),
        ("fly", "invalid choice: 'fly'"),
        ("flow", "required: FRAMES"),
        ("flow a b c", "give two pictures"),
        ("flow none.png eins.png", "none.png: No such file"),
        ("flow eins.png", "eins.png: is one picture"),
        ("flow none.mp4", "none.mp4: No such file"),
        ("flow text.txt", "text.txt: no readable video"),
        ("flow empty", "empty: no pictures there"),
        ("flow single", "single: holds fewer than two frames"),
        ("flow single -o out", "single: holds fewer than two frames"),
        ("flow eins.png text.txt", "text.txt: no PNG, JPEG, PPM or PGM"),
        ("flow eins.png small.png", "must have one size"),
        ("flow eins.png eins.png -o x.jpg", "--output: must be a file in .flo"),
        ("flow eins.png eins.png -o no/where.flo", "no/where.flo: there is no folder"),
        ("flow eins.png eins.png --image x", "--image: must be a file in .png"),
        ("flow single -o x.flo", "or a folder; got 'x.flo'"),
        ("flow single --image x.png", "--image: must be a folder"),
        ("flow eins.png eins.png --model nosuch", "no estimator of flow"),
        ("flow eins.png eins.png --model pwcnet", "--weights: pwcnet is a network"),
        ("flow eins.png eins.png --weights x", "has none"),
        (
            "flow eins.png eins.png --model spynet --weights none.pth",
            "none.pth: No such file",
        ),
        (
            "flow eins.png eins.png --model spynet --weights text.txt",
            "text.txt",
        ),
        ("flow eins.png eins.png --option gain", "--option: give NAME=VALUE"),
        ("flow eins.png eins.png --max-flow 0", "must be a number above 0"),
        ("flow single --batch-size x", "must be a whole number above 0"),
        ("evaluate flow --model zero", "--data: give NAME=DIR"),
        ("evaluate flow --data hd1k=x", "--model: name the estimators, or give --all"),
        ("evaluate flow --model zero --all", "--model: name the estimators"),
        ("evaluate flow --model zero --data x", "--data: give NAME=DIR"),
        ("evaluate flow --model zero --data hd1k=empty", "no pairs of layout"),
        ("evaluate flow --model a --model b --weights c --data hd1k=x", "several"),
        ("convert text.txt --model spynet -o x.bin", "--output: must be a file in"),
        ("convert text.txt --model nosuch -o x.safetensors", "no model is named"),
        ("convert text.txt --model spynet -o x.safetensors", "text.txt"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(pair, tmp_path, capfd, words, message):
    (tmp_path / "text.txt").write_text("neither picture nor video")
    (tmp_path / "empty").mkdir()
    (tmp_path / "single").mkdir()
    io.write_image("single/1.png", picture(0))
    io.write_image("small.png", picture(0, (8, 8)))
    before = sorted(tmp_path.rglob("*"))
    assert message in fails(capfd, *words.split())
    left = [path for path in sorted(tmp_path.rglob("*")) if path not in before]
    assert all(path.is_dir() for path in left)


def test_the_program_itself_ends_with_one_line_and_code_2(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "jaxflow.cli", "flow", "no.png", "no.png"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "jaxflow flow: error: no.png: No such file or directory\n"
    assert done.stdout == ""


def test_evaluate_all_compares_what_is_at_hand(tmp_path, capsys, monkeypatch):
    chosen = {name: classical.METHODS[name] for name in ("lucas_kanade", "affine")}
    monkeypatch.setattr(classical, "METHODS", chosen)
    monkeypatch.setenv("JAXFLOW_CACHE", str(tmp_path))
    model = models.create_model("spynet")
    here = tmp_path / "spynet.safetensors"
    convert.save_weights(model, here)
    weights = dataclasses.replace(
        checkpoint.published()["spynet/sintel-final"],
        file=here.name,
        sha256="",
        dialect="jaxflow",
    )
    absent = checkpoint.published()["pwcnet/chairs"]
    known = {"spynet/toy": weights, "pwcnet/chairs": absent}
    monkeypatch.setattr(checkpoint, "published", lambda: known)
    out = tmp_path / "table.json"
    words = ["evaluate", "flow", "--all", "--limit", "1", "-o", str(out)]
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
