"""Tests for jaxflow.extract."""

import json
import pathlib
import pickle

import numpy as np
import pytest

from jaxflow import extract, io

pytest.importorskip("array_record")
VIDEOS = [f"/videos/{number:02d}.mp4" for number in range(10)]
SETTINGS = {"task": "flow", "model": "x", "bound": None}


def compute(path):
    """Numbers that tell the video; two of them are damaged."""
    number = int(pathlib.Path(path).stem)
    if number in (3, 7):
        raise ValueError(f"{path}: is cut\noff")
    return {"flow": np.full((2, 3, 2), number, np.float32), "bound": np.float32(2)}


def finish(plan):
    for shard in plan.left():
        extract.write_shard(plan, shard, compute)


def test_every_sound_video_is_there_once_and_damage_is_reported(tmp_path):
    plan = extract.make_plan(tmp_path / "out", VIDEOS, settings=SETTINGS, shard_size=4)
    assert plan.shards == ("00000-of-00003", "00001-of-00003", "00002-of-00003")
    finish(plan)
    report = extract.write_report(plan)
    assert (report["videos"], report["records"]) == (10, 8)
    assert report["damaged"] == {
        VIDEOS[3]: f"{VIDEOS[3]}: is cut off",
        VIDEOS[7]: f"{VIDEOS[7]}: is cut off",
    }
    assert json.loads((tmp_path / "out/report.json").read_text()) == report
    records = pickle.loads(pickle.dumps(extract.Records(tmp_path / "out")))
    assert [record["path"] for record in records] == [
        path for path in VIDEOS if path not in report["damaged"]
    ]
    assert records[-1]["flow"].dtype == np.float32 and records[-1]["bound"] == 2
    np.testing.assert_array_equal(records[-1]["flow"], compute(VIDEOS[9])["flow"])
    with pytest.raises(IndexError):
        records[8]


def test_a_stopped_run_computes_only_what_is_left(tmp_path):
    calls = []

    def stops(path):
        calls.append(path)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return compute(path)

    plan = extract.make_plan(tmp_path / "out", VIDEOS, settings=SETTINGS, shard_size=4)
    with pytest.raises(KeyboardInterrupt):
        for shard in plan.left():
            extract.write_shard(plan, shard, stops)
    assert plan.left() == ["00001-of-00003", "00002-of-00003"]
    with pytest.raises(ValueError, match="2 shards are not finished"):
        extract.write_report(plan)
    with pytest.raises(ValueError, match="2 shards are not finished"):
        extract.Records(tmp_path / "out")
    calls.clear()
    again = extract.make_plan(tmp_path / "out", VIDEOS, settings=SETTINGS, shard_size=4)
    for shard in again.left():
        extract.write_shard(
            again, shard, lambda path: calls.append(path) or compute(path)
        )
    assert calls == VIDEOS[4:]
    whole = extract.make_plan(tmp_path / "one", VIDEOS, settings=SETTINGS, shard_size=4)
    finish(whole)
    for path in sorted((tmp_path / "one").glob("0*")):
        assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes()


def test_what_a_killed_worker_left_is_not_taken_for_a_shard(tmp_path):
    plan = extract.make_plan(tmp_path, VIDEOS, settings=SETTINGS, shard_size=5)
    (tmp_path / "00000-of-00002.array_record").write_bytes(b"half of")
    (tmp_path / ".00001-of-00002.array_record-abc").write_bytes(b"half of")
    assert plan.left() == list(plan.shards)
    finish(plan)
    assert len(extract.Records(tmp_path)) == 8


def test_a_shard_of_damaged_videos_has_no_records(tmp_path):
    plan = extract.make_plan(tmp_path, [VIDEOS[3], VIDEOS[7]], settings=SETTINGS)
    finish(plan)
    assert extract.write_report(plan)["records"] == 0
    assert len(extract.Records(tmp_path)) == 0 and not list(tmp_path.glob("*.array*"))


def test_an_error_that_is_no_damage_stops(tmp_path):
    plan = extract.make_plan(tmp_path, VIDEOS, settings=SETTINGS)

    def full(path):
        raise MemoryError

    with pytest.raises(MemoryError):
        extract.write_shard(plan, plan.shards[0], full)
    assert plan.left()


@pytest.mark.parametrize(
    ("videos", "settings", "size", "said"),
    [
        (VIDEOS, SETTINGS | {"model": "y"}, 4, "holds results of model 'x', and 'y'"),
        (VIDEOS, SETTINGS, 5, "has shards of 4 videos, not 5"),
        (VIDEOS[:9], SETTINGS, 4, "10 videos, and 9 are .* by /videos/09.mp4"),
        (VIDEOS, SETTINGS, 0, "`shard_size`"),
    ],
)
def test_other_results_never_mix(tmp_path, videos, settings, size, said):
    extract.make_plan(tmp_path, VIDEOS, settings=SETTINGS, shard_size=4)
    with pytest.raises(ValueError, match=said):
        extract.make_plan(tmp_path, videos, settings=settings, shard_size=size)


def test_a_damaged_plan_is_said(tmp_path):
    with pytest.raises(OSError, match=r"plan\.json"):
        extract.load_plan(tmp_path)
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(ValueError, match=r"plan\.json: is no plan"):
        extract.load_plan(tmp_path)


def test_a_pattern_finds_videos_and_folders_of_pictures(tmp_path):
    for name in (
        "a.mp4",
        "b/c.AVI",
        "b/d/e.webm",
        "b/notes.txt",
        ".h/x.mp4",
        "._y.mp4",
        "__MACOSX/b/z.mp4",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "clip").mkdir()
    io.write_image(tmp_path / "clip/0.png", np.zeros((4, 5, 3), np.uint8))
    found = [
        pathlib.Path(p).relative_to(tmp_path)
        for p in extract.find_videos(str(tmp_path / "**"))
    ]
    assert [str(path) for path in found] == ["a.mp4", "b/c.AVI", "b/d/e.webm", "clip"]
    with pytest.raises(ValueError, match="names no videos"):
        extract.find_videos(str(tmp_path / "*.mkv"))


@pytest.fixture
def cloud(monkeypatch):
    """A bucket in the memory of this process; the library of paths is the real one."""
    memory = pytest.importorskip("fsspec.implementations.memory")
    backend = pytest.importorskip("etils.epath.backend")

    class Bucket(memory.MemoryFileSystem):
        protocol = ("gs", "gcs")
        store, pseudo_dirs = {}, [""]
        cachable = False

        @classmethod
        def _strip_protocol(cls, path):
            return super()._strip_protocol(path.removeprefix("gs:/"))

    monkeypatch.setattr(
        backend._FileSystemSpecBackend, "_get_filesystem", lambda *_: Bucket()
    )
    return Bucket.store


def test_shards_go_into_a_bucket(cloud, tmp_path):
    settings = {"settings": SETTINGS, "shard_size": 4}
    plan = extract.make_plan("gs://bucket/out", VIDEOS, **settings)
    assert plan.folder == "gs://bucket/out" and len(plan.left()) == 3
    finish(plan)
    assert extract.make_plan("gs://bucket/out", VIDEOS, **settings).left() == []
    assert extract.write_report(plan)["records"] == 8
    with pytest.raises(ValueError, match="gs://bucket/out: array_record reads files"):
        extract.Records("gs://bucket/out")
    for name, file in cloud.items():
        local = tmp_path / name.removeprefix("/bucket/")
        local.parent.mkdir(parents=True, exist_ok=True)
        local.write_bytes(file.getvalue())
    records = extract.Records(tmp_path / "out")
    assert [record["path"] for record in records][:4] == [*VIDEOS[:3], VIDEOS[4]]


def test_a_place_may_be_given_as_an_address(tmp_path):
    address = (tmp_path / "out").as_uri()
    plan = extract.make_plan(address, VIDEOS, settings=SETTINGS, shard_size=4)
    assert plan.folder == str(tmp_path / "out")
    finish(plan)
    assert extract.write_report(plan)["records"] == 8
    assert len(extract.Records(tmp_path / "out")) == 8


def test_videos_in_a_bucket_are_refused():
    with pytest.raises(ValueError, match="are read from this machine"):
        extract.find_videos("gs://bucket/*.mp4")
