"""Small videos in the layouts of the authors."""

import functools
import pathlib
import tempfile

import numpy as np

from jaxflow import io


@functools.cache
def video_bytes(frames=4, fps=10):
    """Returns a tiny video."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "a.mp4")
        pictures = np.random.default_rng(0).integers(0, 255, (frames, 16, 24, 3))
        io.write_video(path, list(pictures.astype(np.uint8)), fps=fps)
        return path.read_bytes()


def make(root, *names, frames=4, fps=10):
    """Writes videos, whose containers are told by their content."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(video_bytes(frames, fps))
    return root


def write(root, texts):
    """Writes lists."""
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def shown(source):
    """Returns path -> name of the class."""
    return {
        element["path"].rpartition("/")[2]: source.names[element["label"]]
        for element in source
    }
