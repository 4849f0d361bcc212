"""What the readers make of damaged files: only errors that name the file, soon.

    python experiments/bench/mutate.py --count 10000 --kinds flo pfm png

Small files of each kind are changed at random: bits flipped, bytes replaced, pieces cut
out, doubled or moved, numbers of a header made huge. A reader may return, or raise a
ValueError or an OSError that names the file, within 2 seconds and 300 MB. Children do
the reading, so that a crash of a decoder is counted too. One JSON line a kind:

    {"kind": "flo", "files": 10000, "read": 311, "refused": 9689, "faults": 0, ...}
"""

import argparse
import collections
import contextlib
import io
import json
import os
import pathlib
import pickle
import resource
import signal
import subprocess
import sys
import tempfile
import time
import warnings
import zlib

import numpy as np
from PIL import Image

import jaxflow.io
from jaxflow.io import png, state_files, torch7, torch_files

SECONDS = 2.0
MEGABYTES = 300
KINDS = (
    "flo", "pfm", "kitti", "npz", "png", "png16", "jpg", "ppm", "tiff", "bmp", "webp",
    "pth", "legacy", "t7", "pkl", "safetensors", "mp4", "mkv", "avi", "webm",
)  # fmt: skip
VIDEOS = ("mp4", "mkv", "avi", "webm")
_HUGE = (0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**62, 2**63 - 1)


class TooSlow(BaseException):
    """A reader has had its time; not an Exception, which readers may catch."""


def seed(kind: str, folder: pathlib.Path) -> bytes:
    """Makes a small file of a kind."""
    rng = np.random.default_rng(0)
    path = folder / f"seed{suffix(kind)}"
    flow = rng.normal(size=(6, 7, 2)).astype(np.float32)
    picture = rng.integers(0, 256, (9, 8, 3), dtype=np.uint8)
    if kind in ("flo", "pfm", "kitti"):
        jaxflow.io.write_flow(path, flow)
    elif kind == "npz":
        np.savez_compressed(path, flow=flow)
    elif kind in ("png", "jpg", "ppm"):
        jaxflow.io.write_image(path, picture)
    elif kind == "png16":
        jaxflow.io.write_png16(path, picture.astype(np.uint16) * 257)
    elif kind in ("tiff", "bmp", "webp"):
        Image.fromarray(picture).save(path)
    elif kind in ("pth", "legacy"):
        name = "zip.pth" if kind == "pth" else "legacy.pth.tar"
        return (_FIXTURES / name).read_bytes()
    elif kind == "t7":
        return _torch7(flow)
    elif kind == "pkl":
        blobs = {"blobs": {"conv1_w": flow, "lr": 0.5, "names": ["a", "b"]}}
        return pickle.dumps(blobs, protocol=2)
    elif kind == "safetensors":
        from safetensors.numpy import save

        return save({"conv.weight": flow, "conv.bias": flow[0, 0]})
    else:
        return _video(path, kind)
    return path.read_bytes()


def suffix(kind: str) -> str:
    """Returns the extension of a kind."""
    special = {"kitti": ".png", "png16": ".png", "legacy": ".pth"}
    return special.get(kind, f".{kind}")


def read(kind: str, path: pathlib.Path) -> None:
    """Reads a file of a kind whole."""
    if kind in ("flo", "pfm", "kitti", "npz"):
        jaxflow.io.read_flow(path)
    elif kind in ("pth", "legacy", "pkl"):
        torch_files.read_torch(path)
    elif kind == "t7":
        torch7.read_t7(path)
    elif kind == "safetensors":
        state_files.read(path)
    elif kind in ("mp4", "mkv", "avi", "webm"):
        collections.deque(jaxflow.io.read_video(path), maxlen=1)
    else:
        jaxflow.io.read_image(path)


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """Changes a file at one to four places; mends the checksums of a PNG at times."""
    is_png = data.startswith(png.SIGNATURE)
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        if not changed:
            break
        # Headers are short, and decide the most.
        end = len(changed) if rng.random() < 0.5 else min(len(changed), 64)
        at = int(rng.integers(end))
        length = int(rng.integers(1, 1 + min(len(changed), 64)))
        what = int(rng.integers(6))
        if what == 0:
            changed[at] ^= 1 << int(rng.integers(8))
        elif what == 1:
            changed[at] = int(rng.integers(256))
        elif what == 2:
            del changed[at : at + length]
        elif what == 3:
            changed[at:at] = changed[at : at + length]
        elif what == 4:
            changed = changed[:at] if rng.random() < 0.5 else changed[: len(data) - at]
        else:
            width = int(rng.choice([1, 2, 4, 8]))
            number = int(rng.choice(np.array(_HUGE, np.uint64))) % 256**width
            order = "little" if rng.random() < 0.5 else "big"
            changed[at : at + width] = number.to_bytes(width, order)
    if is_png and rng.random() < 0.5:
        return _with_checksums(bytes(changed))
    return bytes(changed)


def try_one(kind: str, path: pathlib.Path) -> str:
    """Reads a file; returns "read", "refused", or what is wrong with the answer."""

    def stop(*_):
        raise TooSlow

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        read(kind, path)
        return "read"
    except (ValueError, OSError) as error:
        text = str(error)
        if str(path) not in text or "\n" in text.strip():
            return f"names no file, or in many lines: {type(error).__name__}: {text}"
        return "refused"
    except TooSlow:
        return f"takes more than {SECONDS} s"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def run(kind: str, start: int, stop: int, folder: pathlib.Path) -> dict:
    """Reads the damaged files `start` to `stop` of a kind in this process."""
    data = seed(kind, folder)
    path = folder / f"damaged{suffix(kind)}"
    path.write_bytes(data)
    first = try_one(kind, path)
    if first != "read":
        raise RuntimeError(f"{kind}: the sound file is not read: {first}")
    counts, faults = collections.Counter(), []
    base, slowest = _resident(), 0.0
    for number in range(start, stop):
        path.write_bytes(
            mutate(data, np.random.default_rng([number, zlib.crc32(kind.encode())]))
        )
        begun = time.perf_counter()
        answer = try_one(kind, path)
        slowest = max(slowest, time.perf_counter() - begun)
        if _resident() - base > MEGABYTES and answer in ("read", "refused"):
            answer, base = f"takes {_resident() - base:.0f} MB", _resident()
        counts[answer if answer in ("read", "refused") else "faults"] += 1
        if answer not in ("read", "refused"):
            faults.append([number, answer[:300]])
    return {
        **counts, "slowest": round(slowest, 3),
        "megabytes": round(_resident() - base, 1), "first_faults": faults[:5],
    }  # fmt: skip


def run_in_child(kind: str, start: int, stop: int) -> dict:
    """Does the same in a child that may take 300 MB more than it has at the start."""
    total: dict = {"read": 0, "refused": 0, "faults": 0, "slowest": 0, "megabytes": 0}
    total["first_faults"] = []
    command = [sys.executable, __file__, "--child", kind, str(start), str(stop)]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=60 + SECONDS * (stop - start),
        )
    except subprocess.TimeoutExpired:
        # A decoder that is not at home to signals; counted as a crash is.
        done = subprocess.CompletedProcess(command, -1, "", "hangs")
    if done.returncode == 0:
        return total | json.loads(done.stdout.splitlines()[-1])
    if stop - start > 1:
        # A crash: find the file.
        middle = (start + stop) // 2
        return merge(
            run_in_child(kind, start, middle), run_in_child(kind, middle, stop)
        )
    reason = (done.stderr.strip().splitlines() or [""])[-1][:300]
    fault = [start, f"the process ended with {done.returncode}: {reason}"]
    return total | {"faults": 1, "first_faults": [fault]}


def merge(one: dict, two: dict) -> dict:
    """Joins the results of two ranges."""
    sums = {name: one[name] + two[name] for name in ("read", "refused", "faults")}
    most = {name: max(one[name], two[name]) for name in ("slowest", "megabytes")}
    return (
        sums | most | {"first_faults": (one["first_faults"] + two["first_faults"])[:5]}
    )


def main() -> None:
    """Prints a line a kind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--chunk", type=int, default=1000)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        kind, start, stop = args.child
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(_limited(kind, int(start), int(stop), folder)))
        return
    for kind in args.kinds:
        total, begun = None, time.perf_counter()
        last = args.start + args.count
        for start in range(args.start, last, args.chunk):
            part = run_in_child(kind, start, min(start + args.chunk, last))
            total = part if total is None else merge(total, part)
        seconds = round(time.perf_counter() - begun, 1)
        line = {"kind": kind, "files": args.count, **(total or {}), "seconds": seconds}
        print(json.dumps(line), flush=True)


_FIXTURES = pathlib.Path(__file__).parents[2] / "tests" / "fixtures"


def _limited(kind: str, start: int, stop: int, folder: str) -> dict:
    """Runs with a limit on memory, and without the decoders' own words."""
    warnings.simplefilter("ignore")
    with contextlib.suppress(ImportError):
        import av

        av.logging.set_level(av.logging.PANIC)
    os.environ["XDG_CACHE_HOME"] = folder
    path = pathlib.Path(folder) / f"damaged{suffix(kind)}"
    path.write_bytes(seed(kind, pathlib.Path(folder)))
    read(kind, path)
    used = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    limit = used * resource.getpagesize() + MEGABYTES * 2**20
    if kind not in VIDEOS:
        # FFmpeg's threads wait for ever for one that found no memory; of videos the
        # memory is measured alone.
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    return run(kind, start, stop, pathlib.Path(folder))


def _resident() -> float:
    """Returns the most memory that this process has had, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _with_checksums(data: bytes) -> bytes:
    """Mends the checksums of a PNG's chunks, as far as they can be followed."""
    start, parts = len(png.SIGNATURE), [data[: len(png.SIGNATURE)]]
    while start + 12 <= len(data):
        length = int.from_bytes(data[start : start + 4], "big")
        body = data[start + 8 : start + 8 + length]
        if start + 12 + length > len(data):
            break
        parts.append(png._chunk(data[start + 4 : start + 8], body))
        start += 12 + length
    return b"".join([*parts, data[start:]])


def _torch7(values: np.ndarray) -> bytes:
    """Writes a table with a name and a tensor."""

    def number(value, kind="i"):
        return np.array([value], f"<{kind}{8 if kind == 'q' else 4}").tobytes()

    def string(text):
        return number(len(text)) + text.encode()

    sizes = np.array(values.shape, "<i8")
    strides = np.array([s // values.itemsize for s in values.strides], "<i8")
    storage = b"".join([
        number(4), number(3), string("V 1"), string("torch.FloatStorage"),
        np.array([values.size], "<i8").tobytes(), values.tobytes(),
    ])  # fmt: skip
    tensor = b"".join([
        number(4), number(2), string("V 1"), string("torch.FloatTensor"),
        number(values.ndim), sizes.tobytes(), strides.tobytes(),
        np.array([1], "<i8").tobytes(), storage,
    ])  # fmt: skip
    return b"".join([
        number(3), number(1), number(2), number(2), string("name"), number(2),
        string("conv"), number(2), string("weight"), tensor,
    ])  # fmt: skip


def _video(path: pathlib.Path, kind: str) -> bytes:
    """Encodes six small frames."""
    import av

    codec = {"webm": "libvpx", "avi": "mpeg4"}.get(kind, "libx264")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format={"mkv": "matroska"}.get(kind, kind)) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        rng = np.random.default_rng(0)
        for _ in range(6):
            pixels = rng.integers(0, 256, (32, 48, 3), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()


if __name__ == "__main__":
    main()
