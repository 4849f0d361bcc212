"""Tests for jaxflow.cli.flow."""

import numpy as np
import pytest

from jaxflow import cli, convert, estimate, io, models, viz
from jaxflow.cli import common, flow

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
    field, _ = io.read_flow("o.flo")
    np.testing.assert_allclose(field[0, 0], [2, 4], atol=1e-5)
    expected = viz.flow_to_image(field, max_flow=100)
    np.testing.assert_array_equal(io.read_image("o.png"), expected)


def test_pictures_of_16_bits_are_taken(tmp_path):
    for name, level in (("a.png", 0.25), ("b.png", 0.5)):
        gray = np.full((*SIZE, 3), round(level * 65535), np.uint16)
        io.write_image(tmp_path / name, gray)
    assert cli.main(["flow", "a.png", "b.png", "-o", "o.flo"]) == 0
    np.testing.assert_allclose(io.read_flow("o.flo")[0][0, 0], [0.25, 0.5], atol=1e-4)


def test_a_folder_becomes_a_folder_of_flow_and_of_pictures(clip, capfd, monkeypatch):
    monkeypatch.setattr(common, "SECONDS_A_LINE", 0)
    words = ["-o", "flows", "--image", "pictures", "--format", "pfm"]
    assert cli.main(["flow", clip, *words, "--batch-size", "2"]) == 0
    for index in range(3):
        field, _ = io.read_flow(f"flows/f{index}.pfm")
        np.testing.assert_allclose(field[0, 0], [0.2 * index, 0.2 * index + 0.2], 1e-5)
        # One scale for the clip, without its fastest pair.
        image = io.read_image(f"pictures/f{index}.png")
        scale = viz.max_speed(io.read_flow("flows/f1.pfm")[0])
        expected = viz.flow_to_image(field, max_flow=scale)
        np.testing.assert_allclose(image.astype(int), expected, atol=1)
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


def test_the_times_of_a_video_of_variable_rate_are_kept(clip, tmp_path):
    times = np.array([0, 0.04, 0.08, 1.08, 1.12])
    pictures = list(io.read_frames("clip"))
    pictures = (pictures * 5)[:5]
    io.write_video("clip.mkv", pictures, times=times, lossless=True)
    assert cli.main(["flow", "clip.mkv", "-o", "out.mp4"]) == 0
    np.testing.assert_allclose(io.video_info("out.mp4").times, times[:4], atol=1e-3)
    assert cli.main(["flow", "clip.mkv", "-o", "even.mp4", "--fps", "10"]) == 0
    info = io.video_info("even.mp4")
    assert info.uniform and info.fps == 10


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
        ("clip --image clip", "--image: clip holds the frames"),
        ("clip -o clip/", "--output: clip/ holds the frames"),
        ("clip/*.png --image ./clip", "holds the frames"),
        ("clip.mkv -o clip.mkv", "clip.mkv is an input"),
        ("clip.mkv -o link.mkv", "link.mkv is an input"),
        ("clip -o out --image out --format png", "written twice"),
        ("eins.png zwei.png -o eins.png", "eins.png is an input"),
        ("eins.png zwei.png -o x.png --image x.png", "written twice"),
        ("eins.png zwei.png --image hard.png", "hard.png is an input"),
        ("clip -o eins.png/x", "eins.png/x must be a folder, but "),
        ("clip -o eins.png/", "eins.png/ must be a folder, but "),
        ("clip -o eins.png/x.mp4", "eins.png must be a folder, but "),
        ("clip --image eins.png/", "eins.png/ must be a folder, but "),
        ("eins.png zwei.png -o eins.png/x.flo", "must be a folder, but "),
        ("eins.png zwei.png --image clip/x/y.png", "there is no folder "),
        (f"clip -o {'x' * 300}.mp4", "File name too long"),
        (f"clip -o {'x' * 300}", "File name too long"),
        ("clip --fps 0.0001", "must be from 0.001 to 1000"),
        ("clip --option gain=abc", "--option gain: must be"),
        ("clip --option iters=3", "has no option 'iters'; there are gain"),
        ("eins.png zwei.png --warm-start", "is for clips"),
        ("eins.png zwei.png --fps 30", "--fps: is for videos"),
        ("eins.png zwei.png --start 1", "--start: is for clips"),
        ("eins.png zwei.png --stride 2", "--stride: is for clips"),
        ("clip --start -1", "must be a whole number, from 0; got -1"),
        ("clip --stride 0", "must be a whole number above 0"),
        ("clip --start 3", "--start 3 and --stride 1 leave fewer than two"),
        ("clip.mkv --stride 4", "--start 0 and --stride 4 leave fewer than two"),
        ("clip --backward --warm-start", "leave --backward out"),
        ("eins.png zwei.png --format png", "name the file of a pair: -o flow.png"),
        ("clip -o x.mp4 --format flo", "--format: is of flow files"),
        ("clip -o flows --fps 30", "--fps: is of a video"),
        ("clip --warm-start", "needs an estimator that takes `initial_flow`"),
    ],
)
def test_nothing_is_computed_where_a_result_has_no_place(
    clip, pair, tmp_path, fails, monkeypatch, picture, words, message
):
    def never(*_, **__):
        raise AssertionError("computed")

    io.write_video("clip.mkv", list(io.read_frames(clip)), lossless=True)
    io.write_image("zwei.png", picture(3))
    (tmp_path / "link.mkv").symlink_to("clip.mkv")
    (tmp_path / "hard.png").hardlink_to("eins.png")
    monkeypatch.setattr(estimate, "estimate_flow", never)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert message in fails("flow", *words.split())
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_equal_stems_become_distinct_results(tmp_path, picture):
    for index in (1, 2, 3):
        (tmp_path / f"scenes/cam{index}").mkdir(parents=True)
        io.write_image(f"scenes/cam{index}/frame.png", picture(50 * index))
    assert cli.main(["flow", "scenes/*/frame.png", "-o", "flows.v2", "-q"]) == 0
    found = sorted(path.name for path in (tmp_path / "flows.v2").iterdir())
    assert found == ["cam1_frame.flo", "cam2_frame.flo"]
    assert cli.main(["flow", "scenes/*/frame.png"]) == 0
    assert io.video_info("scenes_flow.mp4").length == 2


def test_one_bad_pair_does_not_bleach_the_clip(clip, tmp_path, picture):
    for index, level in enumerate((5, 5, 255, 5, 5, 5)):
        io.write_image(tmp_path / f"clip/f{index}.png", picture(level))
    words = ["--option", "gain=100", "--image", "pictures", "-q"]
    assert cli.main(["flow", "clip", *words]) == 0
    pictures = [io.read_image(f"pictures/f{index}.png") for index in (0, 3, 4)]
    for shown in pictures[1:]:
        np.testing.assert_array_equal(shown, pictures[0])
    # Of five pairs two are absurd here, and the longer one is left out.
    expected = viz.flow_to_image(
        np.full((*SIZE, 2), 100 * 5 / 255), max_flow=100 * np.hypot(1, 5 / 255)
    )
    np.testing.assert_allclose(pictures[0].astype(int), expected, atol=1)


def test_a_long_clip_has_one_scale_from_pairs_spread_over_it(clip, monkeypatch):
    monkeypatch.setattr(flow, "SCALE_PAIRS", 2)
    assert cli.main(["flow", clip, "--image", "pictures", "-q"]) == 0
    field = np.full((*SIZE, 2), [0.2, 0.4])
    # The first and the last pair were looked at; the last is the fastest.
    expected = viz.flow_to_image(field, max_flow=np.hypot(0.4, 0.6))
    shown = io.read_image("pictures/f1.png").astype(int)
    np.testing.assert_allclose(shown, expected, atol=1)


def test_a_video_of_uneven_times_keeps_them(clip):
    times = [0, 0.04, 1.04, 1.08]
    io.write_video("uneven.mp4", list(io.read_frames(clip)), times=times)
    assert cli.main(["flow", "uneven.mp4", "-o", "out.mp4", "-q"]) == 0
    found = io.video_info("out.mp4").times
    np.testing.assert_allclose(found, times[:3], atol=2e-3)


def test_an_initial_flow_comes_from_a_file(pair):
    words = ["flow", *pair, "--model", "horn_schunck", "--option"]
    start = np.full((*SIZE, 2), [3.0, -2.0])
    io.write_flow("start.flo", start)
    assert cli.main([*words, "initial_flow=start.flo", "-o", "warm.flo"]) == 0
    frames = [io.read_image(name) for name in pair]
    expected = estimate.estimate_flow(
        "horn_schunck", *frames, options={"initial_flow": start}
    )
    np.testing.assert_array_equal(io.read_flow("warm.flo")[0], expected)


def test_an_initial_flow_is_never_written_over(pair, clip, tmp_path, fails):
    io.write_flow("start.flo", np.full((*SIZE, 2), [3.0, -2.0]))
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows/f1.flo").symlink_to(tmp_path / "start.flo")
    before = (tmp_path / "start.flo").read_bytes()
    option = ["--model", "horn_schunck", "--option", "initial_flow=start.flo"]
    assert "start.flo is an input" in fails("flow", *pair, *option, "-o", "start.flo")
    assert "f1.flo is an input" in fails("flow", clip, *option, "-o", "flows")
    assert (tmp_path / "start.flo").read_bytes() == before


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
        ("flow eins.png text.txt", "text.txt: no PNG, JPEG, PPM, PGM"),
        ("flow eins.png small.png", "must have one size"),
        ("flow eins.png eins.png -o x.jpg", "--output: must be a file in .flo"),
        ("flow eins.png eins.png -o no/where.flo", "no/where.flo: there is no folder"),
        ("flow eins.png eins.png --image x", "--image: must be a file in .png"),
        ("flow single -o x.flo", "or a folder; got 'x.flo'"),
        ("flow single --image x.png", "--image: must be a folder"),
        ("flow eins.png eins.png --model nosuch", "no estimator of flow"),
        ("flow eins.png eins.png --model pwcnet", "--weights: pwcnet needs a file"),
        ("flow eins.png eins.png --weights x", "x: there is no such file"),
        (
            "flow eins.png eins.png --model spynet --weights none.pth",
            "none.pth: there is no such file",
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


@pytest.mark.parametrize("source", ["clip", "clip.mkv"])
@pytest.mark.parametrize(("start", "stride"), [(1, 1), (0, 2), (1, 2)])
def test_a_clip_is_taken_from_a_frame_on_and_in_steps(
    tmp_path, clip, picture, source, start, stride
):
    io.write_image(tmp_path / "clip/f4.png", picture(204))
    io.write_video("clip.mkv", list(io.read_frames(clip)), fps=12, lossless=True)
    words = ["--start", str(start), "--stride", str(stride), "-q"]
    assert cli.main(["flow", source, "-o", "flows", *words]) == 0
    firsts = range(start, 5 - stride, stride)
    name = "f{}.flo" if source == "clip" else "{:06d}.flo"
    files = sorted(path.name for path in (tmp_path / "flows").iterdir())
    assert files == [name.format(first) for first in firsts]
    for first in firsts:
        field, _ = io.read_flow(f"flows/{name.format(first)}")
        expected = [0.2 * first, 0.2 * (first + stride)]
        np.testing.assert_allclose(field[0, 0], expected, atol=1e-6)
    assert cli.main(["flow", source, "-o", "out.mp4", *words]) == 0
    info = io.video_info("out.mp4")
    # It lasts as long as what it is of.
    assert info.length == len(firsts)
    assert info.fps == pytest.approx((25 if source == "clip" else 12) / stride)


def test_backward_flow_has_the_name_of_the_later_frame(clip, pair, tmp_path):
    assert cli.main(["flow", *pair, "--backward"]) == 0
    field, _ = io.read_flow("zwei ü_flow.flo")
    np.testing.assert_allclose(field[0, 0], [0.4, 0.2], atol=1e-2)
    words = ["--backward", "--image", "pictures", "--batch-size", "2"]
    assert cli.main(["flow", clip, "-o", "flows", *words]) == 0
    assert len(list((tmp_path / "flows").iterdir())) == 3
    for index in (1, 2, 3):
        field, _ = io.read_flow(f"flows/f{index}.flo")
        expected = [0.2 * index, 0.2 * index - 0.2]
        np.testing.assert_allclose(field[0, 0], expected, atol=1e-6)
        assert (tmp_path / f"pictures/f{index}.png").exists()


def test_the_scale_of_a_long_clip_is_taken_from_the_pairs_that_are_shown(
    clip, tmp_path, picture, monkeypatch
):
    monkeypatch.setattr(flow, "SCALE_PAIRS", 2)
    for index, level in enumerate((255, 10, 10, 10, 10, 10, 10, 10, 10)):
        io.write_image(tmp_path / f"clip/f{index}.png", picture(level))
    words = ["--start", "2", "--stride", "2", "--backward", "--image", "pictures"]
    assert cli.main(["flow", clip, *words, "--option", "gain=100", "-q"]) == 0
    field = np.full((*SIZE, 2), np.float32(1000 / 255))
    shown = io.read_image("pictures/f4.png").astype(int)
    np.testing.assert_allclose(shown, viz.flow_to_image(field), atol=1)
