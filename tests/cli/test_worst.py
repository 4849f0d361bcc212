"""Tests for jaxflow.cli.worst."""

import pathlib

import numpy as np

from jaxflow import io
from jaxflow.cli import worst

SIZE = (20, 30)


def add(seen, error, *, known=True, more=()):
    target = np.full((*SIZE, 2), 3.0, np.float32)
    valid = np.full(SIZE, known)
    frame = np.full((*SIZE, 3), 128, np.uint8)
    flow = target + np.float32([error, 0])
    seen.add((frame, frame, target, valid, *more), flow, {"epe": float(error)})


def test_the_worst_pairs_are_drawn_worst_first(tmp_path):
    seen = worst.Worst(3)
    for error in (1, 5, np.nan, 2, 5, 0):
        add(seen, error)
    add(seen, 9, known=False)  # Nothing is known of this one.
    add(seen, 0.5, more=(np.zeros(SIZE, bool),))
    names = [pathlib.Path(p).name for p in seen.write(tmp_path, "sintel_a/b c")]
    assert names == [
        "sintel_a-b-c_01_pair00002.png",
        "sintel_a-b-c_02_pair00001.png",
        "sintel_a-b-c_03_pair00004.png",
    ]
    picture = io.read_image(tmp_path / names[1])
    assert picture.shape[0] > 2 * SIZE[0] and picture.shape[1] > 2 * SIZE[1]


def test_the_estimate_has_the_colours_of_the_truth():
    target = np.zeros((*SIZE, 2), np.float32)
    target[..., 0] = 4
    frame = np.zeros((*SIZE, 3), np.uint8)
    same = worst.draw((frame, frame, target, np.ones(SIZE, bool)), target, 0.0)
    other = worst.draw((frame, frame, target, np.ones(SIZE, bool)), 0 * target, 4.0)
    changed = np.argwhere((same != other).any(-1))
    # The upper half, the frame and its true flow, is the same.
    assert changed[:, 0].min() > same.shape[0] // 2


def test_none_are_kept_if_none_are_asked_for(tmp_path):
    seen = worst.Worst(0)
    add(seen, 3)
    assert seen.write(tmp_path, "x") == [] and not list(tmp_path.iterdir())
