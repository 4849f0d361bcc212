"""Tests for jaxflow.tables."""

import csv
import math

from jaxflow import tables


def test_the_table_is_aligned_and_says_what_is_missing():
    rows = {
        "zero": {"pairs": 1041, "epe": 13.5, "licence": "MIT"},
        "raft": {"pairs": 7, "licence": "BSD"},
    }
    text = tables.format_table(rows, columns=("pairs", "epe", "licence"), title="x")
    assert text.splitlines() == [
        "x     pairs     epe  licence",
        "zero  1,041  13.500  MIT",
        "raft      7       -  BSD",
    ]


def test_tables_are_written_for_other_programs():
    rows = {
        "sintel, clean": {"raft|2": {"pairs": 3, "epe": 1.25, "s40+": math.nan}},
        "kitti": {"zero": {"pairs": 1041, "fl_all": 50.0}},
    }
    assert list(csv.reader(tables.format_csv(rows).splitlines())) == [
        ["data", "estimator", "pairs", "epe", "s40+", "fl_all"],
        ["sintel, clean", "raft|2", "3", "1.25", "", ""],
        ["kitti", "zero", "1041", "", "", "50.0"],
    ]
    assert tables.format_markdown(rows) == (
        "| sintel, clean | pairs | epe | s40+ | fl_all |\n"
        "|---|---:|---:|---:|---:|\n"
        "| raft\\|2 | 3 | 1.250 | - | - |\n"
        "\n"
        "| kitti | pairs | epe | s40+ | fl_all |\n"
        "|---|---:|---:|---:|---:|\n"
        "| zero | 1,041 | - | - | 50.000 |\n"
    )


def test_a_figure_agrees_up_to_its_last_digit():
    assert tables.agrees(36.102, "36.1")
    assert tables.agrees(106.51, "106")  # cut off
    assert not tables.agrees(5.28, "4.9")
    assert not tables.agrees(27.26, "27.55")
