"""Tests for jaxflow.data.box_clips."""

import numpy as np
import pytest

from jaxflow import io, views
from jaxflow.data import box_clips, clips

pytest.importorskip("av")


def numbered(length, size=(32, 48)):
    """A film whose frame t is grey t * 8."""
    return [np.full((*size, 3), 8 * t, np.uint8) for t in range(length)]


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    path = tmp_path_factory.mktemp("films") / "a.mp4"
    io.write_video(path, numbered(30), fps=15)
    return str(path)


def people(path, time=1.0):
    boxes = np.float32([[0, 0, 0.5, 1], [0.25, 0.5, 0.75, 1]])
    labels = np.array([[True, False, True], [False, True, False]])
    return {"path": path, "time": np.float32(time), "boxes": boxes, "labels": labels}


class Network:
    """What `views.clips_around` asks of a network."""

    class config:
        num_frames, frame_stride, crop_size = 4, 2, 28


@pytest.mark.parametrize("second", [0.0, 0.1, 1.0, 1.27, 1.93])
def test_the_clip_around_a_moment_is_the_one_that_networks_are_tested_on(film, second):
    clip = box_clips.read_around(film, second, 4, 2)
    (expected,) = views.clips_around(Network, film, [second], short_side=32)
    np.testing.assert_array_equal(clip, np.rint(255 * expected).astype(np.uint8))
    times = np.rint(clip[:, 0, 0, 0] / 8)
    # Two frames at 30 a second are one of this film; the third is the moment's.
    nearest = round(second * 15)
    np.testing.assert_array_equal(times, np.clip(nearest + np.arange(-2, 2), 0, 29))


def test_a_moment_behind_the_end_is_refused(film):
    with pytest.raises(ValueError, match=r"a\.mp4: lasts 2\.0 seconds; .* is 2\.5"):
        box_clips.read_around(film, 2.5, 4, 2)


def test_boxes_follow_the_window_and_the_mirror():
    # Frames of 30 x 60 become 60 x 120; the square of 40 begins at (10, 20).
    window = clips.Window(height=60, width=120, top=10, left=20, size=40)
    boxes = [[0.25, 0.25, 0.5, 0.5], [0, 0, 1, 1], [0.6, 0.9, 0.9, 1.0]]
    found = box_clips.in_window(np.array(boxes), window)
    expected = [[10, 5, 39, 20], [0, 0, 39, 39], [39, 39, 39, 39]]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    turned = box_clips.mirrored(found[:1], 40)
    np.testing.assert_allclose(turned, [[0, 5, 29, 20]], atol=1e-5)
    np.testing.assert_allclose(box_clips.mirrored(turned, 40), found[:1], atol=1e-5)


def test_a_window_cuts_what_the_whole_resized_frame_has_there():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, 20, 30, 3), np.uint8)
    window = clips.draw_window(20, 30, 26, 24, rng=rng)
    whole = clips.cut(frames, clips.Window(26, 39, 0, 0, 26))
    top, left = window.top, window.left
    size = min(24, 26 - left)
    np.testing.assert_allclose(
        clips.cut(frames, window)[:, : 26 - top, :size],
        whole[:, top : top + 24, left : left + size],
        atol=1e-6,
    )


def test_boxes_are_brought_to_one_number():
    corners = np.float32([[0, 0, 5, 5], [3, 3, 3, 9], [1, 1, 4, 4], [2, 2, 6, 6]])
    labels = np.eye(4, dtype=bool)
    found = box_clips.padded(corners, labels, 5)
    np.testing.assert_array_equal(found["there"], [True, True, True, False, False])
    np.testing.assert_array_equal(found["boxes"][:3], corners[[0, 2, 3]])
    np.testing.assert_array_equal(found["labels"][:3], labels[[0, 2, 3]])
    assert not found["boxes"][3:].any() and not found["labels"][3:].any()
    rng, seen = np.random.default_rng(0), set()
    for _ in range(50):
        found = box_clips.padded(corners, labels, 2, rng)
        assert found["there"].all()
        for box, row in zip(found["boxes"], found["labels"], strict=True):
            np.testing.assert_array_equal(corners[row], box[None])
        seen.add(tuple(np.flatnonzero(found["labels"].any(0)).tolist()))
    assert seen == {(0, 2), (0, 3), (2, 3)}


def test_batches_have_clips_boxes_and_labels_and_are_the_same_again(film):
    pytest.importorskip("grain")
    source = [people(film, time) for time in (0.5, 1.0, 1.5)]
    options = {"batch_size": 3, "people": 4, "num_frames": 4, "stride": 2, "size": 16}
    options |= {"short_side": (16, 20), "uint8": True}
    loader = iter(box_clips.box_loader(source, **options))
    batch, second = next(loader), next(loader)
    assert batch["clip"].shape == (3, 4, 16, 16, 3)
    assert batch["clip"].dtype == np.uint8
    assert batch["boxes"].shape == (3, 4, 4) and batch["boxes"].dtype == np.float32
    assert batch["labels"].shape == (3, 4, 3) and batch["labels"].dtype == bool
    # The middle frame tells the moment.
    middle = sorted(np.rint(batch["clip"][:, 2, 0, 0, 0] / 8).tolist())
    assert middle == [8, 15, 23]
    assert 1 <= batch["there"].sum(1).min() <= batch["there"].sum(1).max() <= 2
    assert (batch["boxes"].min() >= 0) and (batch["boxes"].max() <= 15)
    again = iter(box_clips.box_loader(source, **options))
    for one, two in ((batch, next(again)), (second, next(again))):
        for name in one:
            np.testing.assert_array_equal(one[name], two[name])


def test_a_film_that_cannot_be_decoded_is_replaced_by_another(film, tmp_path):
    pytest.importorskip("grain")
    broken = tmp_path / "b.mp4"
    broken.write_bytes(b"no video")
    source = [people(film), people(str(broken))]
    options = {"batch_size": 2, "num_frames": 2, "size": 16, "short_side": (16, 16)}
    with pytest.warns(UserWarning, match=r"b\.mp4.*another video takes its place"):
        batch = next(iter(box_clips.box_loader(source, shuffle=False, **options)))
    np.testing.assert_allclose(255 * batch["clip"][:, 1, 0, 0, 0] / 8, 15, atol=0.3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"people": 0}, "`people` must be positive"),
        ({"size": 300}, "`short_side` must be a range that starts at `size` 300"),
        ({"stride": -1}, "`stride` must be positive"),
    ],
)
def test_options_out_of_range_are_refused(film, options, message):
    with pytest.raises(ValueError, match=message):
        box_clips.box_loader([people(film)], **options)
