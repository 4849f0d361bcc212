"""Tests for jaxflow.cli.clips."""

import numpy as np
import pytest

from jaxflow import io
from jaxflow.cli import clips


def test_every_header_is_looked_at(clip, tmp_path, picture):
    assert clips.look(clip).names == ["f0", "f1", "f2", "f3"]
    assert clips.look(clip).stem == "clip"
    assert clips.look("clip/*.png").stem == "clip"
    (tmp_path / "clip/f9.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"f9\.png"):
        clips.look(clip)
    io.write_image("clip/f9.png", picture(0, (24, 32)))
    with pytest.raises(ValueError, match=r"f9.png: is 32 x 24"):
        clips.look(clip)
    (tmp_path / "clip/f9.png").unlink()
    (tmp_path / "clip/f9.png").symlink_to("nowhere.png")
    with pytest.raises(FileNotFoundError):
        clips.look(clip)


def test_uneven_times_of_a_video_are_known(clip):
    frames = list(io.read_frames(clip))
    times = np.array([0, 0.04, 1.04, 1.08])
    io.write_video("even.mp4", frames, fps=10)
    io.write_video("uneven.mp4", frames, times=times)
    assert clips.look("even.mp4").times is None
    np.testing.assert_allclose(clips.look("uneven.mp4").times, times, atol=1e-3)
