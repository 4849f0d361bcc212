"""Mutated videos: reading them gives frames, or one error that names the file.

    python experiments/bench/mutate_video.py --count 4000

Writes a video of 8 frames of 32 x 48 in each container, changes its bytes at random
(one, some, a run, a cut, a piece moved) and reads it, strictly and leniently. Prints a
row a container: how many were read and how many refused, the longest time and the most
memory that one took; and what went wrong: another kind of error, a message of several
lines or without the name of the file.
"""

import argparse
import pathlib
import tempfile
import time
import warnings

import av
import numpy as np

from jaxflow import io

# Name, codec, pixel format.
KINDS = (
    ("x.mp4", "libx264", "yuv420p"),
    ("x.mov", "mpeg4", "yuv420p"),
    ("x.mkv", "ffv1", "bgr0"),
    ("x.webm", "libvpx", "yuv420p"),
    ("nine.webm", "libvpx-vp9", "yuv420p"),
    ("x.avi", "mpeg4", "yuv420p"),
    ("jpeg.avi", "mjpeg", "yuvj420p"),
    ("x.mpg", "mpeg1video", "yuv420p"),
    ("x.ts", "libx264", "yuv420p"),
    ("x.flv", "flv", "yuv420p"),
    ("x.wmv", "wmv2", "yuv420p"),
    ("x.gif", "gif", "rgb8"),
)


def sources(folder: pathlib.Path) -> dict[str, bytes]:
    """Writes a small video in each container; returns their bytes by name."""
    frames = np.random.default_rng(0).integers(0, 256, (8, 32, 48, 3), dtype=np.uint8)
    found = {}
    for name, codec, pixels in KINDS:
        if codec not in av.codecs_available:
            continue
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream(codec, rate=25)
            stream.height, stream.width, stream.pix_fmt = 32, 48, pixels
            for frame in frames:
                picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
                container.mux(stream.encode(picture))
            container.mux(stream.encode())
        found[name] = (folder / name).read_bytes()
    return found


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """Changes bytes of a file in one of five ways, half of the time in its headers."""
    changed = bytearray(data)
    where = len(data) if rng.random() < 0.5 else min(len(data), 700)
    kind, at = rng.integers(5), int(rng.integers(where))
    if kind == 0:
        changed[at] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        for place in rng.integers(0, where, int(rng.integers(1, 12))):
            changed[place] = int(rng.integers(256))
    elif kind == 2:
        run = int(rng.integers(1, 16))
        changed[at : at + run] = (b"\0", b"\xff")[rng.integers(2)] * run
    elif kind == 3:
        del changed[at:]
    else:
        piece = changed[at : at + int(rng.integers(1, 60))]
        place = int(rng.integers(where))
        changed[place : place + len(piece)] = piece
    return bytes(changed)


def fault_of(path: pathlib.Path, *, lenient: bool = False) -> tuple[str, bool]:
    """Reads a video as its users do: (what is wrong with the error, whether one)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            list(io.read_video(path, lenient=lenient))
            length = io.video_info(path, lenient=lenient).length
            list(io.read_video(path, start=length - 1, lenient=lenient))
        except (ValueError, OSError) as error:
            message = str(error)
            good = str(path) in message and "\n" not in message
            return ("" if good else f"{type(error).__name__}: {message}"), True
        except Exception as error:
            return f"{type(error).__name__}: {error}", True
    return "", False


def peak_memory(*, reset: bool = False) -> float:
    """Returns the most memory that this process held since the last reset, in MB."""
    if reset:
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    """Runs the bench."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000, help="mutated videos in all")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng, faults = np.random.default_rng(args.seed), []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        videos = sources(folder)
        for name, data in videos.items():
            refused, slowest, largest = 0, 0.0, 0.0
            for number in range(args.count // len(videos)):
                path = folder / name
                path.write_bytes(mutate(data, rng))
                before, start = peak_memory(reset=True), time.process_time()
                fault, raised = fault_of(path, lenient=number % 2 == 1)
                seconds = time.process_time() - start
                memory = peak_memory() - before
                slowest, largest = max(slowest, seconds), max(largest, memory)
                refused += raised
                if fault or seconds > 2 or memory > 300:
                    faults.append((name, number, fault, seconds, memory))
            print(
                f"{name:10} {args.count // len(videos)} read, {refused} refused, "
                f"{slowest:.2f} s, {largest:.0f} MB at most",
                flush=True,
            )
    for name, number, fault, seconds, memory in faults:
        print(
            f"{name} {number}: {fault or 'too much'}; {seconds:.2f} s {memory:.0f} MB"
        )
    print(f"{len(faults)} faults")


if __name__ == "__main__":
    main()
