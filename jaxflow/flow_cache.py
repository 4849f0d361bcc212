"""A cache of frozen flow on disk, which knows the estimator, its weights and the video.

An entry is a folder of pictures of flow (`jaxflow.data.flow_pictures`), whose name is a
digest of all that the flow depends on; `flow.json` in it says what that is. Another
method, other weights, options or frames have another entry, so none can be mistaken. It
gets its name when it is complete: what was stopped is computed again.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from flax import nnx

from jaxflow import (
    __version__,
    _checks,
    convert,
    estimate,
    io,
    programs,
    two_stream,
    views,
    viz,
    weights,
)
from jaxflow.data import flow_pictures
from jaxflow.io import files, folders
from jaxflow.io import frames as sequences
from jaxflow.layers import precision as precisions

_RECORD = "flow.json"


def cached_flow(
    estimator: nnx.Module | str,
    video: views.Video,
    folder: files.Path,
    *,
    options: Mapping[str, Any] | None = None,
    tile: int | None = None,
    short_side: int | None = None,
    precision: precisions.Precision = "highest",
    batch_size: int = 4,
) -> pathlib.Path:
    """Returns a folder of pictures of a video's flow, computed if it is not there yet.

    The flow from each frame to the next, of whole frames, rounded to 8 bits: cut to 20
    pixels of these frames, in steps of 0.16. That is what `flow` of
    `jaxflow.classify_video` takes.

    Args:
        estimator: A flow network with its weights, or the name of a classical method.
        video: See `jaxflow.classify_video`; two frames or more.
        folder: Folder of the cache, which is made.
        options: As for `jaxflow.estimate_flow`, as `tile` and `precision`.
        tile: See there.
        short_side: The frames' shorter side is resized to this first, as for
            `jaxflow.classify_video`; None keeps them.
        precision: See there.
        batch_size: Pairs that run together.

    Returns:
        The folder of the entry.

    Raises:
        ValueError: As `jaxflow.estimate_flow`, or if the video is damaged or has one
            frame only.
        OSError: If the video cannot be read, or the cache not be written to.
    """
    folders.check_target("folder", folder)
    if short_side is not None:
        _checks.positive("short_side", short_side)
    estimator = estimate.named(estimator)
    programs.check_options(estimator, options)
    record = {
        "estimator": describe(estimator),
        "options": {key: _digest_of(value) for key, value in (options or {}).items()},
        "tile": tile,
        "short_side": short_side,
        "precision": precision,
        "bound": two_stream.BOUND,
        "video": _digest_of_video(video),
        "jaxflow": __version__,
    }
    text = json.dumps(record, sort_keys=True)
    place = pathlib.Path(folder) / hashlib.sha256(text.encode()).hexdigest()[:32]
    if _is_whole(place):
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    flows = estimate.stream_flow(
        estimator,
        _frames_of(video, short_side),
        batch_size=batch_size,
        options=options,
        tile=tile,
        precision=precision,
    )
    with _made_whole(place) as begun:
        coded = (viz.quantize_flow(flow, bound=two_stream.BOUND) for flow in flows)
        count = flow_pictures.write_flow_pictures(begun, coded)
        if not count:
            raise ValueError("`video` must hold at least two frames")
        text = files.json_text(record | {"count": count}, indent=2)
        files.write_bytes(begun / _RECORD, text.encode())
    return place


def describe(estimator: nnx.Module | str) -> dict[str, Any]:
    """Returns what tells an estimator from others: its name, its numbers, its weights.

    Args:
        estimator: A flow network, or the name of a classical method.

    Returns:
        Plain JSON; of a network with the SHA-256 of all its weights.
    """
    if isinstance(estimator, str):
        return {"method": estimator}
    digest = hashlib.sha256()
    for path, slot in sorted(convert.weight_slots(estimator).items()):
        array = np.ascontiguousarray(slot.variable[...])
        digest.update(f"{path} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    kind = type(estimator)
    return {
        "network": f"{kind.__module__}.{kind.__qualname__}",
        **weights.record_of(estimator),
        "dtype": np.dtype(getattr(estimator, "dtype", np.float32)).name,
        "weights": digest.hexdigest(),
    }


def _is_whole(place: pathlib.Path) -> bool:
    """Tells whether an entry has all its pictures; pictures that went are missed."""
    try:
        count = json.loads((place / _RECORD).read_bytes())["count"]
        return len(flow_pictures.list_flow_pictures(place).x) == count
    except (OSError, ValueError, KeyError):
        return False


@contextlib.contextmanager
def _made_whole(place: pathlib.Path) -> Iterator[pathlib.Path]:
    """Makes a folder under another name, and renames it when it is whole."""
    begun = pathlib.Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    try:
        begun.chmod(0o755)
        yield begun
        if place.exists() and not _is_whole(place):
            shutil.rmtree(place)
        # Another process may have been first, with the same flow.
        with contextlib.suppress(FileExistsError, NotADirectoryError):
            try:
                begun.rename(place)
            except OSError:
                if not _is_whole(place):
                    raise
    finally:
        shutil.rmtree(begun, ignore_errors=True)


def _frames_of(video: views.Video, short_side: int | None) -> Iterator[np.ndarray]:
    """Yields the frames of a video, resized if wanted."""
    is_path = isinstance(video, (str, os.PathLike))
    for frame in io.read_frames(video) if is_path else np.asarray(video):
        yield frame if short_side is None else views.resized(frame, short_side)


def _digest_of_video(video: views.Video) -> dict[str, Any]:
    """Returns what tells a video from others: the SHA-256 of its files or frames."""
    if not isinstance(video, (str, os.PathLike)):
        return {"frames": _digest_of(np.asarray(video))}
    sequence = sequences.is_sequence(video)
    paths = io.list_frames(video) if sequence else [pathlib.Path(video)]
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return {"files": len(paths), "sha256": digest.hexdigest()}


def _digest_of(value: Any) -> Any:
    """Returns an array as its type, shape and SHA-256; other values as text."""
    if not hasattr(value, "dtype"):
        return repr(value)
    array = np.ascontiguousarray(value)
    digest = hashlib.sha256(array.tobytes()).hexdigest()
    return f"{array.dtype}{array.shape} {digest}"
