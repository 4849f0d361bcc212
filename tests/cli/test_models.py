"""Tests for jaxflow.cli.models."""

from jaxflow import cli, models


def test_models_lists_task_size_and_licence(monkeypatch, capsys):
    kept = ["pwcnet", "spynet"]
    monkeypatch.setattr(models, "list_models", lambda task=None: kept)
    assert cli.main(["models", "--task", "flow"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["model", "task", "parameters", "multiple", "weights"]
    row = next(line.split() for line in lines if line.startswith("pwcnet"))
    # As published, an upsampling that nothing reads included.
    assert row[1:4] == ["flow", "9,374,340", "64"]
    row = next(line.split() for line in lines if line.startswith("brightness"))
    assert row[1:3] == ["flow", "0"]


def test_models_of_video_show_the_published_cost_beside_ours(monkeypatch, capsys):
    kept = ["slow_r50", "fast_r50", "r3d_34"]
    monkeypatch.setattr(models, "list_models", lambda task=None: kept)
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
