"""Tests for jaxflow.cli.models."""

import json

import pytest

from jaxflow import cli, cost, listing, models


def test_models_lists_task_size_and_licence(capsys):
    assert cli.main(["models", "--task", "flow"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["model", "task", "parameters", "multiple", "weights"]
    row = next(line.split() for line in lines if line.startswith("pwcnet"))
    # As published, an upsampling that nothing reads included.
    assert row[1:4] == ["flow", "9,374,340", "64"]
    row = next(line.split() for line in lines if line.startswith("tvl1 "))
    assert row[1:3] == ["flow", "0"]


def test_models_of_video_show_the_published_cost_beside_ours(capsys):
    assert cli.main(["models", "--task", "video"]) == 0
    out = capsys.readouterr().out
    lines = {line.split()[0]: line.split() for line in out.splitlines() if line}
    # Ours, theirs; what differs is marked, and explained below.
    slow = ["video", "32,454,096", "32.45", "54.521", "54.52", "8", "x", "256^2"]
    assert lines["slow_r50"][1:9] == slow
    assert lines["fast_r50"][2:7] == ["616,952", "-", "5.283", "4.9", "!"]
    assert lines["r3d_34"][2:8] == ["63,681,104", "-", "75.378", "-", "16", "x"]
    assert "windows of 3 frames" in " ".join(lines["fast_r50:"])
    assert "slow_r50:" not in lines


@pytest.fixture
def table(monkeypatch, tmp_path):
    """Keeps the package's own tables as they are; returns the path of other costs."""
    for module, name, file in (
        (cost, "TABLE", "costs.json"),
        (listing, "COSTS", "costs.json"),
        (listing, "TABLE", "listing.json"),
    ):
        monkeypatch.setattr(module, name, tmp_path / file)
    cost.read_table.cache_clear()
    yield cost.TABLE
    cost.read_table.cache_clear()


def test_models_measure_writes_what_the_list_is_read_from(monkeypatch, capsys, table):
    monkeypatch.setattr(models, "list_models", lambda task=None: ["spynet"])
    wrong = {"parameters": 1, "multiple": 2}
    table.write_text(json.dumps({"spynet": wrong, "flownets": wrong, "gone": wrong}))
    assert cli.main(["models", "--task", "flow", "-q"]) == 0
    row = next(
        line.split()
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("spynet ")
    )
    assert row[1:4] == ["flow", "1", "2"]

    assert cli.main(["models", "--task", "flow", "--measure"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [f"wrote {table}", f"wrote {listing.TABLE}"]
    assert next(line.split() for line in lines if line.startswith("spynet "))[1:4] == [
        "flow",
        "1,440,300",
        "32",
    ]
    assert list(json.loads(table.read_text())) == ["spynet"]
    assert list(json.loads(listing.TABLE.read_text())["networks"]) == ["spynet"]


def test_models_list_a_network_that_nobody_measured_yet(
    monkeypatch, capsys, recogniser, table
):
    names = ["tiny_network"]
    monkeypatch.setattr(models, "list_models", lambda task=None: names)
    assert cli.main(["models", "--task", "video"]) == 0
    lines = {
        line.split()[0]: line.split()
        for line in capsys.readouterr().out.split("\n")
        if line
    }
    assert lines["tiny_network"][1] == "video"
    assert int(lines["tiny_network"][2].replace(",", "")) == cost.count_parameters(
        recogniser
    )
