"""Tests for jaxflow.cli.classify."""

import json
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow import checkpoint, classify, cli, io
from jaxflow.cli import classify as command

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


@pytest.mark.slow
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
        assert command.read_labels(f"{stem}.json") == ["x y", "z"]


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
        (
            "clip --labels net.safetensors",
            "--labels: net.safetensors is no text in UTF-8",
        ),
        ("clip --seed -1", "--seed: must be a whole number from 0"),
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
        ("clip --option colour=1", "has no option 'colour'"),
        ("clip --option num_classes=7", "net.safetensors: the state dict"),
        ("clip --model nosuch", "no recognition network is named 'nosuch'"),
        ("clip --model pwcnet", "no recognition network is named 'pwcnet'"),
        ("clip --model slow_r50", "net.safetensors: the state dict"),
    ],
)
def test_classify_refuses_bad_input(recogniser, clip, tmp_path, fails, words, message):
    (tmp_path / "text.txt").write_text("neither picture nor video")
    (tmp_path / "bad.json").write_text('{"a": 3}')
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n")
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert message in fails(*CLASSIFY, *words.split())
    assert sorted(tmp_path.rglob("*")) == before


def test_classify_needs_weights(clip, fails):
    error = fails("classify", clip, "--model", "slowfast_4x16_r50")
    assert "--weights: slowfast_4x16_r50 needs a file of weights" in error
    assert "slowfast_4x16_r50/kinetics400" in error


def test_a_mark_of_the_byte_order_is_no_letter_of_a_class(tmp_path):
    (tmp_path / "names.txt").write_text("a\nb\n", encoding="utf-8-sig")
    assert command.read_labels(str(tmp_path / "names.txt")) == ["a", "b"]
