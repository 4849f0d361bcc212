"""Compares what the input gives with what a training step takes.

    python experiments/bench/inputs.py flow       # FlyingChairs' layout, PWC-Net
    python experiments/bench/inputs.py video      # UCF101's layout, Slow-only
    python experiments/bench/inputs.py flow --small                 # a try, in seconds

Writes a tree in the authors' layout (random scenes that compress as real ones hardly
do), checks and prepares it by its builder, and measures, in this process:

    read      decoding, cropping and batching by the loader of the recipes
    augment   the augmentation of the recipe, on the device
    step      the loss of the recipe and its gradient, without the optimizer, which
              would add to it

Prints one JSON line: processor seconds and seconds a sample of each, and how many times
as fast as the step the input (read and augment, one behind the other) is. Compilation
does not count. Processor time is of all threads; a busy machine disturbs it less.
"""

import argparse
import functools
import json
import pathlib
import statistics
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxflow
from jaxflow import io, losses
from jaxflow.data import augment, augment_clips, clips, folders, loaders
from jaxflow.data.builders import flying_chairs, ucf101


def main(argv=None) -> dict:
    """Measures one of the two, prints what came of it, and returns it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=("flow", "video"))
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--small", action="store_true")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        measure = measure_flow if args.task == "flow" else measure_video
        line = measure(pathlib.Path(folder), args.batches, args.small)
    line = {"bench": f"inputs_{args.task}", **line}
    print(json.dumps(line), flush=True)
    return line


def measure_flow(root: pathlib.Path, batches: int, small: bool) -> dict:
    """Reads, augments and trains on pairs of 384x512, cropped to 320x448."""
    frame, size, batch = (
        ((96, 128), (64, 64), 2) if small else ((384, 512), (320, 448), 8)
    )
    write_chairs(root / "chairs", batches * batch, frame)
    builder = flying_chairs.FlyingChairs.prepare(root / "chairs", root / "prepared")
    sources = {
        "read": builder.as_data_source("train"),
        "read_ppm": Elements(folders.Folder("chairs", root / "chairs")),
    }
    found, example = {}, {}
    for name, source in sources.items():
        loader = loaders.flow_loader(source, batch_size=batch, uint8=True, epochs=1)
        found[name], example = read_all(loader, batch)
    example = {name: example[name] for name in ("image1", "image2", "flow", "valid")}
    change = jax.jit(functools.partial(augment.augment_batch, size=size))
    found["augment"] = timed(lambda: change(jax.random.key(0), example), batches, batch)
    augmented = change(jax.random.key(0), example)
    model = jaxflow.create_model("pwcnet")

    def loss(network, pair):
        flows = network(pair["image1"], pair["image2"]).predictions
        return losses.multi_scale(flows, pair["flow"], pair["valid"])

    found["step"] = timed(gradient(model, loss, augmented), batches, batch)
    return summary(found, batch=batch, size=size, model="pwcnet")


def measure_video(root: pathlib.Path, batches: int, small: bool) -> dict:
    """Reads, augments and trains on clips of 8 frames of 112x112."""
    frame, size, batch = ((48, 64), 32, 2) if small else ((240, 320), 112, 8)
    write_ucf101(root / "ucf", batches * batch, frame, 20 if small else 180)
    builder = ucf101.UCF101.prepare(root / "ucf", root / "prepared")
    side = (round(size * 8 / 7), round(size * 10 / 7))
    loader = clips.clip_loader(
        builder.videos("train"),
        batch_size=batch,
        num_frames=8,
        stride=8,
        size=size,
        short_side=side,
        uint8=True,
        epochs=1,
        damaged="raise",
    )
    spent, example = read_all(loader, batch)
    found = {"read": spent}

    def change(key, batch):
        clip = augment_clips.augment_batch(
            key, batch["clip"], size=size, colour=augment_clips.JITTER
        )
        return {**batch, "clip": clip}

    change = jax.jit(change)
    found["augment"] = timed(lambda: change(jax.random.key(0), example), batches, batch)
    augmented = change(jax.random.key(0), example)
    name = "slow_r50"
    options = {"width": 8} if small else {}
    model = jaxflow.create_model(
        name, num_classes=101, num_frames=8, crop_size=size, **options
    )
    step = gradient(model, cross_entropy, augmented)
    found["step"] = timed(step, batches, batch)
    return summary(found, batch=batch, size=(8, size, size), model=name)


def cross_entropy(network: nnx.Module, batch: dict) -> jax.Array:
    """Returns the loss of a recognition network on clips."""
    scores = network(batch["clip"], key=jax.random.key(0))  # pyright: ignore
    picked = jnp.take_along_axis(jax.nn.log_softmax(scores), batch["label"][:, None], 1)
    return -picked.mean()


class Elements:
    """The pairs of a folder as elements with names."""

    def __init__(self, folder: folders.Folder):
        self.folder = folder

    def __len__(self) -> int:
        return len(self.folder)

    def __getitem__(self, index) -> dict:
        names = ("image1", "image2", "flow", "valid")
        return dict(zip(names, self.folder[index], strict=True))


def gradient(model: nnx.Module, loss, batch):
    """Returns a call that computes a loss and its gradient in the weights."""
    model.train()
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    @jax.jit
    def run(params, batch):
        def of(params):
            return loss(nnx.merge(graph, params, rest, copy=True), batch)

        return jax.value_and_grad(of)(params)

    return lambda: run(params, batch)


def read_all(loader, samples: int) -> tuple[dict[str, float], dict]:
    """Returns what a sample of a loader that ends takes, and its last batch.

    All batches count together: they are read ahead, by threads of this process.
    """
    start = time.process_time(), time.perf_counter()
    count, last = 0, {}
    for batch in loader:
        count, last = count + samples, batch
    spent = time.process_time() - start[0], time.perf_counter() - start[1]
    processor, wall = (round(seconds / count, 5) for seconds in spent)
    return {"cpu_s": processor, "wall_s": wall}, last


def timed(call, repeats: int, samples: int) -> dict[str, float]:
    """Returns the median processor seconds, and seconds, of a sample of a call."""
    jax.block_until_ready(call())
    processor, wall = [], []
    for _ in range(repeats):
        start = time.process_time(), time.perf_counter()
        jax.block_until_ready(call())
        processor.append((time.process_time() - start[0]) / samples)
        wall.append((time.perf_counter() - start[1]) / samples)
    return {
        "cpu_s": round(statistics.median(processor), 5),
        "wall_s": round(statistics.median(wall), 5),
    }


def summary(found: dict, **about) -> dict:
    """Adds how many times as fast as the step the input is."""
    ratios = {}
    for read in (name for name in found if name.startswith("read")):
        for kind in ("cpu_s", "wall_s"):
            spent = found[read][kind] + found["augment"][kind]
            ratio = found["step"][kind] / max(spent, 1e-9)
            ratios[f"{read}_faster_{kind[:-2]}"] = round(ratio, 2)
    return {**about, **found, **ratios}


def scene(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Draws a picture of smooth shapes and noise, (H, W, 3) uint8."""
    coarse = rng.uniform(0, 255, (size[0] // 8 + 1, size[1] // 8 + 1, 3))
    smooth = np.kron(coarse, np.ones((8, 8, 1)))[: size[0], : size[1]]
    return np.clip(smooth + rng.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)


def write_chairs(root: pathlib.Path, count: int, size: tuple[int, int]) -> None:
    """Writes pairs in the layout of FlyingChairs."""
    (root / "data").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(1, count + 2):  # The last is for validation.
        first = scene(rng, size)
        for end, shift in (("img1", 0), ("img2", 3)):
            path = root / "data" / f"{number:05d}_{end}.ppm"
            io.write_image(path, np.roll(first, shift, 1))
        flow = np.full((*size, 2), (3, 0), np.float32)
        io.write_flow(root / "data" / f"{number:05d}_flow.flo", flow)
    marks = "\n".join(["1"] * count + ["2"]) + "\n"
    (root / "FlyingChairs_train_val.txt").write_text(marks)


def write_ucf101(
    root: pathlib.Path, count: int, size: tuple[int, int], frames: int
) -> None:
    """Writes videos of 25 frames a second in the layout of UCF101."""
    names = [f"Archery/v_Archery_g{n:02d}_c01.avi" for n in range(1, count + 2)]
    (root / "UCF-101" / "Archery").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in names:
        first = scene(rng, size)
        moving = (np.roll(first, 2 * t, 1) for t in range(frames))
        video = root / "UCF-101" / name
        io.write_video(video.with_suffix(".mp4"), moving, fps=25)
        # What is in a file is told by its content.
        video.with_suffix(".mp4").rename(video)
    tables = root / "ucfTrainTestlist"
    tables.mkdir()
    (tables / "classInd.txt").write_text("1 Archery\n")
    lines = [f"{name} 1\n" for name in names]
    (tables / "trainlist01.txt").write_text("".join(lines[:-1]))
    (tables / "testlist01.txt").write_text(f"{names[-1]}\n")


if __name__ == "__main__":
    main()
