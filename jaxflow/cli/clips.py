"""Clips as the commands are given them, looked at before anything is computed."""

import os
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from jaxflow import io
from jaxflow.cli import paths
from jaxflow.io import files, frames, image


class Clip(NamedTuple):
    """What is known of a clip before its frames are read.

    Attributes:
        source: A folder, a pattern or a video.
        pictures: Its pictures; none of a video.
        names: A name for every frame, each another.
        fps: Frames a second.
        times: When each frame is shown, in seconds; None if they are even.
        start: Frame of the source that is its first.
        stride: Frames of the source from frame to frame.
    """

    source: str
    pictures: list[pathlib.Path]
    names: list[str]
    fps: float
    times: np.ndarray | None
    start: int = 0
    stride: int = 1

    @property
    def files(self) -> list[pathlib.Path]:
        """The files that it is read from."""
        return self.pictures or [pathlib.Path(self.source)]

    @property
    def stem(self) -> str:
        """A name for what is made of it: its own, or that of a pattern's folder."""
        place = pathlib.Path(os.path.abspath(self.source))
        if self.pictures and not os.path.isdir(self.source):
            place = self.pictures[0].absolute().parent
            while place.parent != place and not all(
                place in picture.absolute().parents for picture in self.pictures
            ):
                place = place.parent
            return place.name or "clip"
        return (place.name if self.pictures else place.stem) or "clip"

    def part(self, start: int, stride: int) -> "Clip":
        """Returns every `stride`-th frame of a whole clip, from one on.

        It lasts as long: it has fewer frames a second.
        """
        chosen = slice(start, None, stride)
        return self._replace(
            names=self.names[chosen],
            fps=self.fps / stride,
            times=None if self.times is None else self.times[chosen],
            start=start,
            stride=stride,
        )

    def read(self, first: int = 0, count: int | None = None) -> Iterator[np.ndarray]:
        """Reads its frames.

        Args:
            first: The first one to read, of this clip.
            count: How many; None reads to the end.
        """
        start = self.start + first * self.stride
        stop = None if count is None else start + count * self.stride
        return io.read_frames(self.source, start=start, stop=stop, stride=self.stride)


def look(source: str) -> Clip:
    """Looks at a clip: at the header of every picture, or at every frame of a video.

    Raises:
        ValueError: If a file is damaged or foreign, or a frame has another size.
        OSError: If a file cannot be opened.
    """
    if frames.is_sequence(source):
        pictures = io.list_frames(source)
        frames.check_headers(pictures)
        return Clip(source, pictures, paths.distinct_names(pictures), 25.0, None)
    if files.suffix(source) in image.READABLE:
        raise ValueError(
            f"{source}: is one picture; give two, or a folder, a pattern or a video"
        )
    info = io.video_info(source)
    names = [f"{index:06d}" for index in range(info.length)]
    return Clip(source, [], names, info.fps, None if info.uniform else info.times)
