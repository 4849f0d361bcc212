"""Tests for jaxflow.cli.flow."""

import numpy as np
import pytest

from jaxflow import cli, convert, estimate, io, models, viz
from jaxflow.cli import common

SIZE = (24, 33)


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
    monkeypatch.setattr(common, "PROGRESS_AFTER", 0)
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


@pytest.mark.parametrize(
    ("words", "message"),
    [
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
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(odd, tmp_path, fails, words, message):
    before = sorted(tmp_path.rglob("*"))
    assert message in fails(*words.split())
    left = [path for path in sorted(tmp_path.rglob("*")) if path not in before]
    assert all(path.is_dir() for path in left)
