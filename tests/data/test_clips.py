"""Tests for jaxflow.data.clips."""

import fractions

import numpy as np
import pytest

from jaxflow import io
from jaxflow.data import clips

pytest.importorskip("av")


def numbered(length, size=(32, 48)):
    """A clip whose frame t is grey t * 8."""
    return [np.full((*size, 3), 8 * t, np.uint8) for t in range(length)]


@pytest.fixture
def folder(tmp_path):
    for name, count in (("wave", 2), ("clap", 3)):
        (tmp_path / name).mkdir()
        for index in range(count):
            io.write_video(tmp_path / name / f"{index}.mp4", numbered(20), fps=30)
    (tmp_path / "wave" / "notes.txt").write_text("no video")
    return tmp_path


@pytest.mark.parametrize(("fps", "step"), [(30, 2), (15, 1), (60, 4)])
def test_the_step_between_frames_counts_at_30_frames_a_second(tmp_path, fps, step):
    path = tmp_path / "a.mp4"
    io.write_video(path, numbered(30), fps=fractions.Fraction(fps))
    clip = clips.read_clip(path, 4, 2.0)
    times = clip[:, 0, 0, 0].astype(float) / 8
    # Four steps wide, spread from its first frame to its last; coding loses a little.
    start = (30 - 4 * step) / 2
    expected = np.floor(start + np.linspace(0, 4 * step - 1, 4) + 1e-6)
    np.testing.assert_allclose(times, expected, atol=0.3)


def test_the_step_may_count_the_videos_own_frames(tmp_path):
    path = tmp_path / "a.mp4"
    io.write_video(path, numbered(20), fps=15)
    for rate, step in ((None, 1), (15, 1), (7.5, 2), (30, 0.5)):
        clip = clips.read_clip(path, 8, 1, rate=rate)
        times = np.rint(clip[:, 0, 0, 0] / 8)
        assert abs((times[-1] - times[0]) - 7 * step) <= 1


def test_random_clips_start_anywhere(tmp_path):
    path = tmp_path / "a.mp4"
    io.write_video(path, numbered(30), fps=30)
    generator = np.random.default_rng(0)
    starts = {
        round(clips.read_clip(path, 2, 1, generator=generator)[0, 0, 0, 0] / 8)
        for _ in range(40)
    }
    assert min(starts) < 4 and max(starts) > 24
    assert len(starts) > 10


def test_a_short_video_repeats_its_last_frame(tmp_path):
    path = tmp_path / "a.mp4"
    io.write_video(path, numbered(3), fps=30)
    clip = clips.read_clip(path, 8, 1)
    times = np.rint(clip[:, 0, 0, 0] / 8)
    np.testing.assert_array_equal(times, [0, 1, 2, 2, 2, 2, 2, 2])


@pytest.mark.parametrize(("height", "width"), [(30, 47), (50, 20), (16, 16)])
def test_resizing_and_cropping_is_resizing_then_cropping(height, width):
    from jaxflow import ops

    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, height, width, 3), np.uint8)
    shorter = min(height, width)
    whole = (height * 24 // shorter, width * 24 // shorter)
    resized = ops.resize(frames.astype(np.float32) / 255, whole, antialias=False)
    top, left = (-(-(side - 20) // 2) for side in whole)
    expected = np.asarray(resized)[:, top : top + 20, left : left + 20]
    actual = clips.resized_crop(frames, 24, 20)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_crops_reach_every_corner():
    y, x = np.indices((12, 16))
    frames = np.stack([y, x, 0 * x], axis=-1)[None].astype(np.uint8)
    rng = np.random.default_rng(0)
    crops = [clips.resized_crop(frames, 12, 10, rng=rng) for _ in range(100)]
    corners = {tuple(np.rint(255 * crop[0, 0, 0, :2]).astype(int)) for crop in crops}
    assert corners == {(i, j) for i in range(3) for j in range(7)}
    with pytest.raises(ValueError, match="short_side"):
        clips.resized_crop(frames, 8, 10)


def loader(source, **options):
    settings = {"batch_size": 2, "num_frames": 4, "stride": 2, "size": 16}
    return clips.clip_loader(source, short_side=(20, 24), **(settings | options))


def test_batches_are_clips_and_their_labels(folder):
    pytest.importorskip("grain")
    seen = list(loader(clips.Videos(folder), epochs=1, shuffle=False))
    assert len(seen) == 2
    assert seen[0]["clip"].shape == (2, 4, 16, 16, 3)
    assert seen[0]["clip"].dtype == np.float32
    assert 0 <= seen[0]["clip"].min() < seen[0]["clip"].max() <= 1
    assert [label for batch in seen for label in batch["label"]] == [0, 0, 0, 1]


def test_the_batches_follow_from_the_seed_and_can_be_resumed(folder):
    pytest.importorskip("grain")
    source = clips.Videos(folder)
    iterator = iter(loader(source, seed=3))
    first = next(iterator)
    position = iterator.get_state()
    second = next(iterator)
    again = iter(loader(source, seed=3))
    np.testing.assert_array_equal(next(again)["clip"], first["clip"])
    again = iter(loader(source, seed=3))
    again.set_state(position)
    np.testing.assert_array_equal(next(again)["clip"], second["clip"])
    other = next(iter(loader(source, seed=4)))
    assert not np.array_equal(other["clip"], first["clip"])


def test_clips_are_mirrored_half_of_the_time(tmp_path):
    pytest.importorskip("grain")
    frame = np.zeros((24, 24, 3), np.uint8)
    frame[:, 12:] = 255
    io.write_video(tmp_path / "a.mp4", [frame] * 4, fps=30)
    (tmp_path / "list.txt").write_text("a.mp4 0\n")
    source = clips.Videos(tmp_path / "list.txt")
    data = iter(loader(source, batch_size=1))
    lit = [next(data)["clip"][0, 0, 8, 0, 0] > 0.5 for _ in range(40)]
    assert 8 < sum(lit) < 32
    data = iter(loader(source, batch_size=1, flip=False))
    assert not any(next(data)["clip"][0, 0, 8, 0, 0] > 0.5 for _ in range(10))


def test_another_video_takes_the_place_of_a_damaged_one(folder):
    pytest.importorskip("grain")
    (folder / "clap" / "1.mp4").write_bytes(b"no video")
    data = loader(clips.Videos(folder), shuffle=False, epochs=1)
    with pytest.warns(UserWarning, match=r"1\.mp4.*another video"):
        batch = next(iter(data))
    assert batch["clip"].shape[0] == 2


def test_videos_that_a_list_names_and_that_are_not_there_are_left_out(tmp_path):
    (tmp_path / "a.mp4").touch()
    (tmp_path / "list.txt").write_text("a.mp4 0\nb.mp4 1\n")
    with pytest.warns(UserWarning, match=r"1 of 2 videos are not there, .*b\.mp4$"):
        source = clips.Videos(tmp_path / "list.txt")
    assert len(source) == 1 and source.names == ("0", "1")
    (tmp_path / "parts.csv").write_text("path,label,start,end\nc.mp4,0|2,1.0,1.5\n")
    with pytest.raises(FileNotFoundError, match=r"parts\.csv: 1 of 1 videos"):
        clips.Parts(tmp_path / "parts.csv")


def test_a_damaged_video_stops_a_loader_that_shall_not_replace_it(folder):
    pytest.importorskip("grain")
    (folder / "clap" / "1.mp4").write_bytes(b"no video")
    data = loader(clips.Videos(folder), shuffle=False, epochs=1, damaged="raise")
    with pytest.raises(ValueError, match=r"1\.mp4"):
        next(iter(data))


def test_a_loader_of_nothing_but_damage_stops(tmp_path):
    pytest.importorskip("grain")
    (tmp_path / "list.txt").write_text("a.mp4 0\nb.mp4 1\n")
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(b"no video")
    # One epoch is one batch: no thread reads on and warns when the test has ended.
    data = loader(clips.Videos(tmp_path / "list.txt"), epochs=1)
    with (
        pytest.warns(UserWarning, match="another video"),
        pytest.raises(ValueError, match="videos in a row"),
    ):
        next(iter(data))


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 9}, "batch_size"),
        ({"num_frames": 0}, "num_frames"),
        ({"stride": 0}, "stride"),
        ({"rate": 0}, "rate"),
        ({"damaged": "skip"}, "damaged"),
        ({"size": 21}, "short_side"),
        ({"shard": (1, 1)}, "shard"),
    ],
)
def test_options_out_of_range_are_named(folder, options, name):
    with pytest.raises(ValueError, match=name):
        loader(clips.Videos(folder), **options)


@pytest.mark.parametrize(
    ("numbers", "options", "name"),
    [((0, 1), {}, "num_frames"), ((4, 0), {}, "stride"), ((4, 1), {"rate": 0}, "rate")],
)
def test_a_clip_of_nothing_is_refused(folder, numbers, options, name):
    with pytest.raises(ValueError, match=name):
        clips.read_clip(folder / "clap" / "0.mp4", *numbers, **options)
    if not options:
        with pytest.raises(ValueError, match=name):
            clips.clip_indices(20, *numbers)


def test_frames_are_scaled_by_their_own_type():
    frames = np.full((1, 8, 8, 3), 51, np.uint8)
    expected = np.full((1, 6, 6, 3), 0.2, np.float32)
    for same in (frames, frames.astype(np.uint16) * 257, frames / np.float32(255)):
        actual = clips.resized_crop(same, 6, 6)
        np.testing.assert_allclose(actual, expected, atol=1e-6)
    with pytest.raises(ValueError, match="`frames` must be"):
        clips.resized_crop(frames.astype(int), 6, 6)


def test_a_source_takes_the_vocabulary_of_training(folder):
    source = clips.Videos(folder, names=("a", "clap", "wave"))
    assert source.names == ("a", "clap", "wave")
    assert [int(source[i]["label"]) for i in range(len(source))] == [1, 1, 1, 2, 2]


def test_clips_may_be_rounded_to_8_bits(folder):
    pytest.importorskip("grain")
    source = clips.Videos(folder)
    floats, bits = (next(iter(loader(source, uint8=kind))) for kind in (False, True))
    assert bits["clip"].dtype == np.uint8
    np.testing.assert_array_equal(bits["clip"], np.rint(255 * floats["clip"]))


def test_a_part_is_read_within_its_times_and_labels_are_all_told(tmp_path):
    pytest.importorskip("grain")
    io.write_video(tmp_path / "a.mp4", numbered(30), fps=10)
    text = "path,label,start,end\na.mp4,0|2,1.0,1.5\na.mp4,1,2,9\n"
    (tmp_path / "list.csv").write_text(text)
    source = clips.Parts(tmp_path / "list.csv")
    assert len(source) == 2 and source.names == ("0", "1", "2")
    seen = {0: set(), 1: set()}
    data = iter(loader(source, batch_size=1, rate=None, stride=1, num_frames=2))
    for _ in range(40):
        batch = next(data)
        which = int(batch["labels"][0, 1])
        expected = [[True, False, True], [False, True, False]][which]
        assert batch["labels"].tolist() == [expected]
        seen[which] |= set(np.rint(255 * batch["clip"][0, :, 8, 8, 0] / 8))
    # Frames 10 to 14; and 20 to the end of the video.
    assert min(seen[0]) == 10 and 13 <= max(seen[0]) < 15
    assert min(seen[1]) == 20 and 27 <= max(seen[1]) < 30


def test_a_part_behind_the_end_is_refused_and_a_short_one_has_a_frame(tmp_path):
    io.write_video(tmp_path / "a.mp4", numbered(20), fps=10)
    with pytest.raises(ValueError, match=r"has 2\.0 seconds; its part starts at 2"):
        clips.read_clip(tmp_path / "a.mp4", 2, 1, span=(2.0, 3.0))
    clip = clips.read_clip(tmp_path / "a.mp4", 2, 1, rate=None, span=(0.5, 0.51))
    np.testing.assert_array_equal(np.rint(clip[:, 0, 0, 0] / 8), [5, 5])


@pytest.mark.parametrize(
    ("length", "count", "placement", "firsts"),
    [
        (40, 1, "spread", [10]),
        (40, 3, "spread", [0, 10, 20]),
        (40, 2, "pyslowfast", [0, 10]),
        (40, 7, "dense", [0, 20]),
        (45, 7, "dense", [0, 20, 40]),
        (7, 2, "spread", [0, 0]),
        (40, 1, "segments", [5]),
        (40, 2, "segments", [2, 7]),
    ],
)
def test_clips_start_where_they_should(length, count, placement, firsts):
    indices = clips.clip_indices(length, 4, 5, clips=count, placement=placement)
    np.testing.assert_array_equal(indices[:, 0], firsts)
    assert indices.max() < length
    assert (np.diff(indices) >= 0).all()


def test_frames_of_a_clip_are_spread_as_in_pyslowfast():
    # floor(linspace(start, start + span - 1, T)) with T = 8, span = 64, start = 10.
    indices = clips.clip_indices(84, 8, 8)
    np.testing.assert_array_equal(indices[0], [10, 19, 28, 37, 46, 55, 64, 73])


def test_segments_cover_the_whole_video():
    indices = clips.clip_indices(35, 7, 8, placement="segments")
    np.testing.assert_array_equal(indices[0], [2, 7, 12, 17, 22, 27, 32])
    one = clips.clip_indices(1, 3, 8, placement="segments", clips=2)
    np.testing.assert_array_equal(one, 0)


def test_segments_give_consecutive_frames_in_their_middle():
    indices = clips.clip_indices(40, 6, 8, placement="segments", run=3)
    np.testing.assert_array_equal(indices, [[9, 10, 11, 29, 30, 31]])
    many = clips.clip_indices(40, 6, 8, placement="segments", run=3, clips=2)
    np.testing.assert_array_equal(many[0], [4, 5, 6, 24, 25, 26])
    short = clips.clip_indices(2, 6, 8, placement="segments", run=3)
    np.testing.assert_array_equal(short, [[0, 1, 1, 0, 1, 1]])
    with pytest.raises(ValueError, match="multiple of 4, the frames of a segment"):
        clips.clip_indices(40, 6, 8, placement="segments", run=4)


def test_random_clips_stay_inside_and_repeat_with_their_generator():
    draw = [
        clips.clip_indices(
            50, 4, 3.5, clips=9, placement="random", generator=np.random.default_rng(3)
        )
        for _ in range(2)
    ]
    np.testing.assert_array_equal(*draw)
    assert draw[0].max() < 50
    assert len(set(draw[0][:, 0])) > 3
