"""What is computed of many videos, in shards, so that a killed run goes on.

A folder of results has

    plan.json                     the videos in their order, and what is computed
    00003-of-00013.array_record   a record a video; none if all of them are damaged
    00003-of-00013.json           what became of each video: it is written last, and a
                                  shard without it is computed anew
    report.json                   how many videos there are, and which are damaged

Shards are written beside their place and moved there, so that one that is there is
whole; whoever computes one twice gets the same bytes. `jaxflow.cli.extract` runs them
by Apache Beam. Needs array_record, of the extra ``data``.
"""

import contextlib
import dataclasses
import glob
import io
import json
import os
import pathlib
import tempfile
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxflow import _checks
from jaxflow.io import files, folders, frames, video

PLAN = "plan.json"
REPORT = "report.json"
Compute = Callable[[str], Mapping[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Plan:
    """Which videos are looked at, for what, and in which shards.

    Attributes:
        folder: Of the results.
        settings: What is computed; anything that JSON holds.
        videos: The files, or folders of pictures.
        shard_size: Videos of a shard.
    """

    folder: str
    settings: dict[str, Any]
    videos: tuple[str, ...]
    shard_size: int

    @property
    def shards(self) -> tuple[str, ...]:
        """Names of the shards."""
        count = -(-len(self.videos) // self.shard_size)
        return tuple(f"{i:05d}-of-{count:05d}" for i in range(count))

    def of_shard(self, shard: str) -> tuple[str, ...]:
        """Returns the videos of a shard."""
        start = self.shards.index(shard) * self.shard_size
        return self.videos[start : start + self.shard_size]

    def left(self) -> list[str]:
        """Returns the shards that have not been finished."""
        folder = folders.folder(self.folder)
        return [s for s in self.shards if not (folder / f"{s}.json").is_file()]


def find_videos(pattern: str) -> list[str]:
    """Finds the videos that a pattern names.

    Args:
        pattern: Such as ``data/**/*.mp4``; ``**`` is any number of folders.

    Returns:
        Absolute paths, sorted: files that end as a video does, and folders that hold
        pictures. What is hidden does not count.

    Raises:
        ValueError: If there are none, or they are in cloud storage.
    """
    if folders.is_remote(pattern):
        raise ValueError(
            f"{pattern}: videos are read from this machine; mount the bucket or copy "
            "them, and name that folder"
        )
    found = sorted(
        os.path.abspath(path)
        for path in glob.glob(pattern, recursive=True)
        if (files.suffix(path) in video.READABLE or _holds_pictures(path))
        if "__MACOSX" not in pathlib.Path(path).parts
    )
    if not found:
        raise ValueError(
            f"{pattern}: names no videos and no folders of pictures; ** in a pattern "
            "is any number of folders"
        )
    return found


def make_plan(
    folder: str | os.PathLike[str],
    videos: Iterable[str],
    *,
    settings: Mapping[str, Any],
    shard_size: int = 16,
) -> Plan:
    """Writes the plan of a folder, or checks that it is the one which is there.

    Args:
        folder: Of the results, here or at gs://bucket/folder; made if it is not there.
        videos: Their paths.
        settings: What is computed; anything that JSON holds.
        shard_size: Videos of a shard: what a killed run loses at most.

    Returns:
        The plan.

    Raises:
        ValueError: If the folder has results of other videos or of something else, or
            `shard_size` is not positive.
        OSError: If the plan cannot be written.
    """
    _checks.positive("shard_size", shard_size)
    place = _place(folder)
    plan = Plan(
        os.fspath(place),
        json.loads(json.dumps(dict(settings))),
        tuple(videos),
        shard_size,
    )
    path = place / PLAN
    if path.is_file():
        _check_same(load_plan(folder), plan)
        return plan
    place.mkdir(parents=True, exist_ok=True)
    content = {
        "settings": plan.settings,
        "shard_size": shard_size,
        "videos": list(plan.videos),
    }
    _write(path, files.json_text(content, indent=1).encode())
    return plan


def load_plan(folder: str | os.PathLike[str]) -> Plan:
    """Reads the plan of a folder of results.

    Raises:
        ValueError: If it is damaged.
        OSError: If there is none.
    """
    place = _place(folder)
    path = place / PLAN
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Plan(
            os.fspath(place),
            content["settings"],
            tuple(content["videos"]),
            int(content["shard_size"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise files.fault(path, f"is no plan: {error!r}") from None


def write_shard(plan: Plan, shard: str, compute: Compute) -> None:
    """Computes a shard, and writes it.

    Args:
        plan: Of the folder.
        shard: One of its `shards`.
        compute: From the path of a video to named arrays. A ValueError or OSError of
            it means that the video is damaged, which is noted; any other error stops.

    Raises:
        OSError: If the shard cannot be written.
    """
    damaged, records = {}, []
    for path in plan.of_shard(shard):
        try:
            records.append(_pack(path, compute(path)))
        except (ValueError, OSError) as error:
            damaged[path] = " ".join(str(error).split()) or type(error).__name__
    folder = folders.folder(plan.folder)
    if records:
        _write_records(folder / f"{shard}.array_record", records)
    done = {"records": len(records), "damaged": damaged}
    _write(folder / f"{shard}.json", files.json_text(done, indent=1).encode())


def write_report(plan: Plan) -> dict[str, Any]:
    """Writes what became of all videos, once every shard is there.

    Returns:
        "videos" and "records", numbers, and "damaged", why by path.

    Raises:
        ValueError: If a shard is not there.
    """
    if left := plan.left():
        raise ValueError(
            f"{plan.folder}: {len(left)} shards are not finished: {left[0]}"
        )
    report: dict[str, Any] = {"videos": len(plan.videos), "records": 0, "damaged": {}}
    for shard in plan.shards:
        path = folders.folder(plan.folder) / f"{shard}.json"
        done = json.loads(path.read_text(encoding="utf-8"))
        report["records"] += done["records"]
        report["damaged"] |= done["damaged"]
    text = files.json_text(report, indent=1)
    _write(folders.folder(plan.folder) / REPORT, text.encode())
    return report


class Records(Sequence[dict[str, Any]]):
    """The results of a folder, as a source for Grain: ``path``, and named arrays.

    Args:
        folder: Of the results, all of whose shards are there, on this machine.

    Raises:
        ValueError: If shards are not finished, or lie in cloud storage, which
            array_record does not read.
        OSError: If there is no plan.
        ImportError: If array_record is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        if folders.is_remote(folder):
            raise ValueError(
                f"{os.fspath(folder)}: array_record reads files of this machine; mount "
                "the bucket or copy the folder, and name that"
            )
        plan = load_plan(folder)
        if left := plan.left():
            raise ValueError(f"{plan.folder}: {len(left)} shards are not finished")
        paths = [pathlib.Path(plan.folder, f"{s}.array_record") for s in plan.shards]
        present = [os.fspath(path) for path in paths if path.is_file()]
        source = _array_record("array_record_data_source").ArrayRecordDataSource
        self._source = source(present) if present else ()

    def __len__(self) -> int:
        """Returns the number of records."""
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Reads one record."""
        record: Any = self._source[range(len(self))[index]]
        with np.load(io.BytesIO(record), allow_pickle=False) as arrays:
            found = dict(arrays)
        return {**found, "path": str(found["path"])}


def _holds_pictures(path: str) -> bool:
    """Tells whether a path is a folder that pictures lie in."""
    if not os.path.isdir(path):
        return False
    try:
        return bool(frames.list_frames(path))
    except ValueError:
        return False


def _check_same(old: Plan, new: Plan) -> None:
    """Raises unless a folder's plan is the one that is asked for."""
    advice = "name another folder, or the same command"
    for name in sorted({*old.settings, *new.settings}):
        was, asked = old.settings.get(name), new.settings.get(name)
        if was != asked:
            raise ValueError(
                f"{new.folder}: holds results of {name} {was!r}, and {asked!r} is "
                f"asked for; {advice}"
            )
    if old.shard_size != new.shard_size:
        raise ValueError(
            f"{new.folder}: has shards of {old.shard_size} videos, not "
            f"{new.shard_size}; {advice}"
        )
    if old.videos != new.videos:
        changed = sorted(set(old.videos) ^ set(new.videos))
        raise ValueError(
            f"{new.folder}: holds results of {len(old.videos)} videos, and "
            f"{len(new.videos)} are asked for, which differ by {changed[0]}; {advice}"
        )


def _pack(path: str, arrays: Mapping[str, np.ndarray]) -> bytes:
    """Returns the bytes of a record."""
    buffer = io.BytesIO()
    named: dict[str, Any] = {"path": np.array(path), **arrays}
    np.savez(buffer, **named)
    return buffer.getvalue()


def _place(folder: str | os.PathLike[str]) -> folders.Place:
    """Returns a folder of results, here or in cloud storage."""
    if folders.is_remote(folder):
        return folders.folder(folder)
    return folders.folder(os.path.abspath(folder))


def _write(path: folders.Place, content: bytes) -> None:
    """Writes a file that is there as a whole or not at all, as an object in a cloud."""
    if folders.is_remote(path):
        path.write_bytes(content)
    else:
        files.write_bytes(path, content)


def _write_records(path: folders.Place, records: Sequence[bytes]) -> None:
    """Writes a file of records, and moves it to its place."""
    module = _array_record("array_record_module")
    with contextlib.ExitStack() as stack:
        home = pathlib.Path(path.parent)
        if folders.is_remote(path):
            # The library writes files of this machine.
            home = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        # Whoever computes the same shard at the same time writes to another name.
        temporary = home / f".{path.name}-{uuid.uuid4().hex}"
        stack.callback(temporary.unlink, missing_ok=True)
        writer = module.ArrayRecordWriter(os.fspath(temporary), "group_size:1")
        for record in records:
            writer.write(record)
        writer.close()
        if folders.is_remote(path):
            path.write_bytes(temporary.read_bytes())
        else:
            os.replace(temporary, path)


def _array_record(name: str):
    """Imports a module of array_record."""
    import importlib

    try:
        return importlib.import_module(f"array_record.python.{name}")
    except Exception as error:
        raise _checks.cannot_import("array_record", "data", error) from error
