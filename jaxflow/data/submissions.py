"""Results for the servers of KITTI and Sintel, in the trees that they take.

Flow of the testing parts is not published; the servers compare with it. Nothing here
needs JAX.

    sintel      clean/ambush_1/frame_0001.flo ..., final/ambush_1/frame_0001.flo ...,
                which the ``bundler`` of MPI-Sintel-complete packs into one file
    kitti2015   flow/000000_10.png ...: to be packed with the folder into a zip
    kitti2012   000000_10.png ...: to be packed without a folder into a zip
"""

import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from jaxflow import _checks, io
from jaxflow.io import files


class TestPair(NamedTuple):
    """A pair of frames whose flow is asked for.

    Attributes:
        frame1: First frame.
        frame2: Second frame.
        result: Path of its flow in the tree that the server takes.
    """

    frame1: pathlib.Path
    frame2: pathlib.Path
    result: pathlib.PurePosixPath


def list_test_pairs(benchmark: str, root: str | os.PathLike[str]) -> list[TestPair]:
    """Lists the pairs of the testing part of a data set.

    Args:
        benchmark: One of `BENCHMARKS`.
        root: Folder of the data set, as it unpacks.

    Returns:
        The pairs, in the order of their names.

    Raises:
        ValueError: If there is no such benchmark; nothing is found where the data set
            has it; or a frame is missing, which the server would refuse.
    """
    _checks.one_of("benchmark", benchmark, sorted(BENCHMARKS))
    root = pathlib.Path(root)
    pairs = list(BENCHMARKS[benchmark](root))
    if not pairs:
        raise ValueError(f"{root}: holds no testing part of {benchmark}")
    for pair in pairs:
        for path in (pair.frame1, pair.frame2):
            if not path.is_file():
                raise files.fault(path, "is missing; the server needs every pair")
    return pairs


def write_submission(
    pairs: Iterable[TestPair],
    output: str | os.PathLike[str],
    estimator: Callable[[np.ndarray, np.ndarray], Any],
) -> None:
    """Estimates the flow of test pairs, and writes it into the tree of the server.

    Args:
        pairs: Of `list_test_pairs`.
        output: Folder of the tree; what is there of the same name is replaced.
        estimator: Of two frames, (H, W, 3) uint8, to their flow, (H, W, 2) in pixels.

    Raises:
        ValueError: If a flow has not the size of its frames, or is not finite: the
            server counts every pixel.
        OSError: If a frame cannot be read, or a result not be written.
    """
    for pair in pairs:
        frame1, frame2 = io.read_image(pair.frame1), io.read_image(pair.frame2)
        flow = np.asarray(estimator(frame1, frame2))
        if flow.shape != (*frame1.shape[:2], 2):
            raise files.fault(
                pair.frame1,
                f"is {frame1.shape[:2]}, and its estimated flow {flow.shape}",
            )
        if not np.isfinite(flow).all():
            raise files.fault(
                pair.frame1, "has an estimated flow with NaN or infinity in it"
            )
        path = pathlib.Path(output, pair.result)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".png":
            io.write_kitti(path, flow)
        else:
            io.write_flo(path, flow)


def _sintel(root: pathlib.Path) -> Iterator[TestPair]:
    """MPI-Sintel: test/{clean,final}/ambush_1/frame_0001.png."""
    for rendering in ("clean", "final"):
        scenes = sorted((root / "test" / rendering).glob("[!.]*/"))
        if not scenes:
            raise files.fault(
                root / "test" / rendering, "has no scenes; the server needs both"
            )
        for scene in scenes:
            last = max(
                (int(path.stem[6:]) for path in scene.glob("frame_[0-9]*.png")),
                default=0,
            )
            for number in range(1, max(last, 2)):
                yield TestPair(
                    scene / f"frame_{number:04d}.png",
                    scene / f"frame_{number + 1:04d}.png",
                    pathlib.PurePosixPath(
                        rendering, scene.name, f"frame_{number:04d}.flo"
                    ),
                )


def _kitti(*folders: str, inner: str) -> Callable[[pathlib.Path], Iterator[TestPair]]:
    """KITTI: testing/image_2/000000_10.png, 000000_11.png."""

    def pairs(root: pathlib.Path) -> Iterator[TestPair]:
        testing = root / "testing"
        present = [testing / name for name in folders if (testing / name).is_dir()]
        frames = (present or [testing / folders[0]])[0]
        numbers = [int(path.name[:6]) for path in frames.glob("[0-9]*_1[01].png")]
        for number in range(max(numbers, default=-1) + 1):
            yield TestPair(
                frames / f"{number:06d}_10.png",
                frames / f"{number:06d}_11.png",
                pathlib.PurePosixPath(inner, f"{number:06d}_10.png"),
            )

    return pairs


BENCHMARKS: dict[str, Callable[[pathlib.Path], Iterator[TestPair]]] = {
    "sintel": _sintel,
    "kitti2012": _kitti("colored_0", "image_0", inner="."),
    "kitti2015": _kitti("image_2", inner="flow"),
}
"""Pairs of the testing part of a data set, by its name."""
