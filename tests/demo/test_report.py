"""Tests for jaxflow.demo.report."""

import re

import numpy as np

from jaxflow.demo import methods, report


def row(epe):
    return {"epe": epe, "visible": epe, "1px": 0.5, "seconds": 0.01}


def test_own_frames_are_moved_back_by_both_networks(rng):
    first = rng.integers(0, 256, (20, 30, 3), np.uint8)
    # Frame 2 is frame 1 moved to the right by 2 pixels.
    second = np.roll(first, 2, axis=1)
    flow = np.full((20, 30, 2), (2, 0), np.float32)
    compared = {
        methods.SHIPPED[-1]: lambda a, b: flow,
        methods.OURS: lambda a, b: 0 * flow,
    }
    text = report.show_own(compared, first, second)
    before, exact, still = map(float, re.findall(r"(0\.\d{4}) (?:before|after)", text))
    assert still == before
    assert exact < before / 5
    assert text.count("<figure>") == 9


def test_the_page_says_what_was_measured(tmp_path):
    scenes = {methods.ZERO: row(4.0), "DIS": row(1.0), methods.OURS: row(2.0)}
    result = report.Result(
        scenes=scenes,
        photograph={},
        curve=[(1.0, 5, 1.0), (60.0, 10, 0.5)],
        restored=True,
        seconds=90.0,
        path=tmp_path / "report.html",
    )
    report.write(result, ["A fact."], [])
    page = result.path.read_text()
    for words in ("A fact.", "<b>0.50</b>; DIS 0.25", "1.5 minutes"):
        assert words in page
    assert result.ratio == 0.5
