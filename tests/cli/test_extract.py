"""Tests for jaxflow.cli.extract."""

import json
import logging
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from jaxflow import classify, cli, extract, io, viz
from jaxflow.cli import extract as command

pytest.importorskip("av")
pytest.importorskip("array_record")


def make_videos(folder, count, frames=3, size=(24, 32)):
    """Writes short clips that differ."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        first = rng.integers(0, 256, (*size, 3), np.uint8)
        shifted = [np.roll(first, t, axis=1) for t in range(frames)]
        io.write_video(folder / f"{number:03d}.mp4", shifted, fps=10)
    return folder


@pytest.fixture
def loop(monkeypatch):
    """Computes shards one by one, without Beam."""
    monkeypatch.setattr(command, "_import_beam", lambda: None)
    seen = []

    def run(beam, plan, shards, flags):
        seen.append((shards, flags, os.environ.get("NPROC")))
        for shard in shards:
            command.work(shard, plan.folder)

    monkeypatch.setattr(command, "_run_pipeline", run)
    return seen


def test_the_flow_of_every_video_is_written_and_damage_is_said(tmp_path, loop, capsys):
    videos = make_videos(tmp_path / "videos", 5)
    (videos / "002.mp4").write_bytes(b"no video")
    io.write_video(videos / "003.mp4", [np.zeros((24, 32, 3), np.uint8)], fps=10)
    words = ["extract", "flow", "--input", "videos/*.mp4", "--output", "out"]
    words += ["--model", "brightness", "--shard-size", "2"]
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    assert "3 of 5 videos are in out" in out
    assert "damaged: " in out and "002.mp4" in out and "fewer than two frames" in out
    records = extract.Records("out")
    assert [pathlib.Path(r["path"]).name for r in records] == [
        "000.mp4",
        "001.mp4",
        "004.mp4",
    ]
    frames = list(io.read_video(videos / "001.mp4"))
    flow = records[1]["flow"]
    assert flow.shape == (2, 24, 32, 2) and flow.dtype == np.float32
    np.testing.assert_allclose(flow[1, 5, 5, 0], frames[1][0, 0, 0] / 255, atol=1e-6)
    # Nothing is left; another question is refused.
    assert cli.main(words) == 0
    assert len(loop) == 1
    assert cli.main([*words, "--bound", "2"]) == 2
    assert "holds results of bound None, and 2.0" in capsys.readouterr().err


def test_flow_may_be_stored_in_8_bits(tmp_path, loop):
    videos = make_videos(tmp_path / "videos", 1)
    words = ["extract", "flow", "--input", "videos/*", "-o", "out", "-q"]
    assert cli.main([*words, "--model", "brightness", "--bound", "0.5"]) == 0
    (record,) = extract.Records("out")
    assert record["flow"].dtype == np.uint8 and record["bound"] == 0.5
    frames = [f[0, 0, 0] / 255 for f in io.read_video(videos / "000.mp4")]
    found = viz.dequantize_flow(record["flow"], bound=float(record["bound"]))
    expected = np.clip([frames[:2], frames[1:]], None, 0.5).T
    np.testing.assert_allclose(found[:, 0, 0], expected, atol=0.5 / 127)


def test_features_are_those_of_the_library(tmp_path, loop, recogniser):
    videos = make_videos(tmp_path / "videos", 2, size=(64, 72))
    layer = recogniser.cam_layer
    words = ["extract", "features", "--input", "videos/*", "-o", "out", "-q"]
    words += ["--model", "tiny_network", "--weights", "net.safetensors"]
    assert cli.main([*words, "--layer", layer, "--views", "2x1"]) == 0
    records = extract.Records("out")
    for record, path in zip(records, sorted(videos.iterdir()), strict=True):
        views = classify.sample_views(recogniser, path, clips=2)
        expected = classify.view_features(recogniser, views, layer)
        # The network was loaded from its file.
        np.testing.assert_allclose(record["features"], expected, atol=1e-5)


def test_options_of_the_other_task_are_refused(tmp_path, loop, fails):
    make_videos(tmp_path / "videos", 1)
    words = ["--input", "videos/*", "-o", "out"]
    assert "--layer: is not an option of flow" in fails(
        "extract", "flow", *words, "--layer", "x"
    )
    assert "--bound: is not an option of features" in fails(
        "extract", "features", *words, "--bound", "3"
    )
    assert "--model and --layer" in fails("extract", "features", *words)
    assert "names no videos" in fails("extract", "flow", "--input", "x/*", "-o", "out")
    assert "'nothing'" in fails("extract", "flow", *words, "--model", "nothing")
    assert not (tmp_path / "out").exists()


def test_the_local_runner_is_beams_unless_another_is_named(tmp_path, loop, fails):
    make_videos(tmp_path / "videos", 1)
    words = ["extract", "flow", "--input", "videos/*", "--model", "brightness"]
    assert cli.main([*words, "-o", "a", "--workers", "2", "-q"]) == 0
    assert loop[-1][1] == [
        "--runner=FnApiRunner",
        "--direct_num_workers=2",
        "--direct_running_mode=multi_processing",
    ]
    flags = ["--runner", "FlinkRunner", "--flink_master=host:8081"]
    assert cli.main([*words, "-o", "b", "-q", "--beam", *flags]) == 0
    assert loop[-1][1] == flags
    assert "--workers" in fails(*words, "-o", "c", "--workers", "2", "--beam", *flags)


def test_workers_share_the_cores(tmp_path, loop, monkeypatch):
    make_videos(tmp_path / "videos", 1)
    words = ["extract", "flow", "--input", "videos/*", "--model", "brightness", "-q"]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.delenv("NPROC", raising=False)
    for number, (workers, threads) in enumerate([(1, None), (3, "2"), (16, "1")]):
        assert cli.main([*words, "-o", f"{number}", "--workers", str(workers)]) == 0
        assert loop[-1][2] == threads
        assert "NPROC" not in os.environ
    monkeypatch.setenv("NPROC", "5")
    assert cli.main([*words, "-o", "own", "--workers", "2"]) == 0
    assert loop[-1][2] == os.environ["NPROC"] == "5"


def test_without_beam_the_extra_is_named(tmp_path, monkeypatch, fails):
    make_videos(tmp_path / "videos", 1)
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    line = fails(
        "extract", "flow", "--input", "videos/*", "-o", "out", "--model", "brightness"
    )
    assert "this needs Apache Beam" in line and "jaxflow-motion[beam]" in line


def test_beam_is_imported_silently(tmp_path, monkeypatch, capfd):
    options = tmp_path / "apache_beam/options"
    options.mkdir(parents=True)
    (options / "__init__.py").write_text("")
    (options / "pipeline_options.py").write_text("")
    text = "import logging\nlogging.warning('no client libraries of a cloud')\n"
    (tmp_path / "apache_beam/__init__.py").write_text(text)
    for name in [name for name in sys.modules if name.startswith("apache_beam")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    before = logging.root.manager.disable
    module, _ = command._import_beam()
    assert pathlib.Path(module.__file__).is_relative_to(tmp_path)
    assert capfd.readouterr().err == ""
    assert logging.root.manager.disable == before
    for name in [name for name in sys.modules if name.startswith("apache_beam")]:
        monkeypatch.delitem(sys.modules, name)


def start(words, folder):
    """Starts the command as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "jaxflow.cli", "extract", "flow", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    )


@pytest.mark.slow
def test_beam_killed_half_way_and_run_again_has_every_clip_once(tmp_path):
    pytest.importorskip("apache_beam")
    make_videos(tmp_path / "videos", 200)
    (tmp_path / "videos/017.mp4").write_bytes(b"no video")
    words = ["--input", "videos/*.mp4", "--model", "lucas_kanade", "--shard-size", "10"]
    whole = start([*words, "-o", "whole"], tmp_path)
    assert whole.wait(timeout=500) == 0, whole.stdout.read()
    half = start([*words, "-o", "half"], tmp_path)
    for _ in range(20000):
        if len(list((tmp_path / "half").glob("0*.json"))) >= 8:
            break
        assert half.poll() is None, half.stdout.read()
        time.sleep(0.02)
    os.killpg(half.pid, signal.SIGKILL)
    half.wait()
    done = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "half").glob("0*.json")}
    assert 8 <= len(done) < 20
    again = start([*words, "-o", "half", "--workers", "2"], tmp_path)
    assert again.wait(timeout=500) == 0, again.stdout.read()
    for name, written in done.items():  # What was there has not been done again.
        assert (tmp_path / "half" / name).stat().st_mtime_ns == written
    one, two = (extract.Records(tmp_path / name) for name in ("whole", "half"))
    paths = [record["path"] for record in two]
    assert len(set(paths)) == len(paths) == 199
    for a, b in zip(one, two, strict=True):
        assert a["path"] == b["path"]
        np.testing.assert_array_equal(a["flow"], b["flow"])
    report = json.loads((tmp_path / "half/report.json").read_text())
    assert list(report["damaged"]) == [str(tmp_path / "videos/017.mp4")]
    assert report["records"] == 199
