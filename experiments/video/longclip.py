"""What a long memory is for: clips whose class is in their first and last moments.

    python experiments/video/longclip.py
    python experiments/video/longclip.py --seeds 0 --train-clips 100 --steps 20

A clip of "longclip" has 128 frames; the question is whether its last 8 move as the
first 8 did, or the other way. A small 3-D network learns to tell motions apart on clips
of 8 frames (motion8) and is then frozen, as the network of the bank is in Wu et al.,
"Long-Term Feature Banks" (CVPR 2019). Of each clip it gives 16 features, one for each 8
frames: the last is what a short window sees, all are the bank. Readers learn from it:
the operators of `layers.feature_bank`, and the non-local one on the short window alone.
Entries of the bank are told by their time, which the paper's are not.

    1000 test clips, chance is 50 %   seed 0        seed 1        seed 2
    short window alone                54.3 %        51.1 %        52.0 %
    non-local operator, the bank      100.0 %       100.0 %       100.0 %
    average, the bank                 52.0 %        49.8 %        50.7 %
    maximum, the bank                 51.3 %        54.0 %        52.4 %

At most 143 seconds of CPU time a seed, compilation included, jax 0.10.2.
"""

import dataclasses
import functools
import json
import pathlib
import time
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import recipe
from flax import nnx

from jaxflow import train
from jaxflow.data import motion_classes
from jaxflow.io import files, folders
from jaxflow.layers import conv, dropout, feature_bank
from jaxflow.models.video import r3d

WINDOW = 8
Reading = Literal["short window", "non_local", "average", "maximum"]
READINGS: tuple[Reading, ...] = ("short window", "non_local", "average", "maximum")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Args:
    """Options.

    Attributes:
        seeds: Of weights and of training.
        backbone_steps: Steps of the small network, on motion8.
        width: Its width.
        steps: Steps of a reader.
        train_clips: Clips that readers learn from.
        test_clips: Clips to test with.
        output: Folder for the JSON lines.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    backbone_steps: int = 200
    width: int = 8
    steps: int = 1500
    train_clips: int = 1500
    test_clips: int = 1000
    output: pathlib.Path = pathlib.Path("runs/longclip")


class Reader(nnx.Module):
    """Tells from a window of a bank what became of its first moment in its last.

    Args:
        features: Channels of the bank.
        reading: Which operator; "short window" sees the last entry alone.
        rngs: Source of the initial weights.
    """

    def __init__(self, features: int, reading: Reading, *, rngs: nnx.Rngs):
        self.reading = reading
        self.operator = feature_bank.NonLocalOperator(
            features, features, inner_features=32, timed=True, rngs=rngs
        )
        pooled = reading in ("average", "maximum")
        self.dropout = dropout.Dropout(0.1)
        self.projection = conv.Linear(
            features + (features if pooled else 32), 2, rngs=rngs
        )

    def __call__(self, bank: jax.Array) -> jax.Array:
        """Returns logits of "same" and "opposite", (B, 2), for banks (B, M, C)."""
        count = bank.shape[1]
        valid = jnp.ones(bank.shape[:2], bool)
        if self.reading == "short window":
            valid = valid & (jnp.arange(count) == count - 1)[None]
        times = jnp.broadcast_to(jnp.arange(1.0 - count, 1), valid.shape)
        row = bank[:, -1]
        if self.reading in ("average", "maximum"):
            found = feature_bank.pool_bank(bank, valid, kind=self.reading)
        else:
            found = self.operator(row, bank, valid, times=times)
        return self.projection(self.dropout(jnp.concatenate([row, found], axis=-1)))


def classification(logits: jax.Array, label: jax.Array) -> tuple[jax.Array, dict]:
    """Returns the cross entropy, and the share of examples that are right."""
    entropy = optax.softmax_cross_entropy_with_integer_labels(logits, label)
    right = jnp.argmax(logits, axis=-1).astype(label.dtype) == label
    return jnp.mean(entropy), {"top1": jnp.mean(right.astype(jnp.float32))}


def train_backbone(args: Args, seed: int) -> tuple[r3d.Model, float]:
    """Trains the small network on motions of 8 frames: it, and its last top-1."""
    config = r3d.Config(
        num_classes=8,
        crop_size=32,
        num_frames=WINDOW,
        blocks=(1, 1, 1),
        kinds=("3d",) * 3,
        width=args.width,
        dropout_rate=0.0,
    )
    model = r3d.Model(config, rngs=nnx.Rngs(jax.random.key(seed, impl="rbg")))

    def loss(model, batch):
        return classification(model(batch["clip"]), batch["label"])

    draw = functools.partial(motion_classes.clip_batch, task="motion8", batch_size=32)
    seen = fit(model, loss, args.backbone_steps, 8e-3, draw, seed)
    return model, float(np.mean(seen[-20:]))


def fit(model: Any, loss: Any, steps: int, rate: float, draw: Any, seed: int) -> list:
    """Trains a model by Adam along a cosine; returns the top-1 of every step."""
    pace = optax.warmup_cosine_decay_schedule(0.0, rate, steps // 10, steps)
    optimiser = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(pace, weight_decay=1e-2)
    )
    step = train.make_step(model, loss, optimiser, draw=draw)
    state = train.init(model, optimiser, seed=seed)
    seen = []
    while int(state.step) < steps:
        state, metrics = step.run(state)
        seen.append(metrics["top1"])
    train.finish(model, state)
    return [float(each) for each in jax.device_get(seen)]


def banks_of(model: r3d.Model, split: str, count: int) -> dict[str, jax.Array]:
    """Draws clips of "longclip" and returns their banks, (N, 16, C), and labels.

    Entry i is what `jaxflow.banks.compute_bank` gives for the i-th 8 frames.
    """
    data = motion_classes.load(split, count, task="longclip")
    graph, weights = nnx.split(model)

    @jax.jit
    def features(weights, clip):
        short = clip.reshape(-1, WINDOW, *clip.shape[1:])
        maps = nnx.merge(graph, weights, copy=True).features(short)
        return jnp.mean(maps, axis=(1, 2, 3))

    model.eval()
    graph, weights = nnx.split(model)
    found = np.stack([features(weights, clip) for clip in data["clip"]])
    return {"bank": jnp.asarray(found), "label": data["label"]}


def read(reading: Reading, known: dict, tested: dict, args: Args, seed: int) -> float:
    """Trains a reader and returns its share of test clips that are right."""
    mean = known["bank"].mean((0, 1), keepdims=True)
    spread = known["bank"].std((0, 1), keepdims=True) + 1e-6
    scaled = {
        split: {"bank": (data["bank"] - mean) / spread, "label": data["label"]}
        for split, data in (("train", known), ("test", tested))
    }
    model = Reader(mean.shape[-1], reading, rngs=nnx.Rngs(seed))

    def draw(key):
        rows = jax.random.randint(key, (128,), 0, len(scaled["train"]["label"]))
        return jax.tree.map(lambda values: values[rows], scaled["train"])

    def loss(model, batch):
        return classification(model(batch["bank"]), batch["label"])

    fit(model, loss, args.steps, 3e-3, draw, seed)
    model.eval()
    _, metrics = classification(
        jax.jit(lambda bank: model(bank))(scaled["test"]["bank"]),
        scaled["test"]["label"],
    )
    return float(metrics["top1"])


def main(args: Args) -> list[dict[str, Any]]:
    """Trains and tests all readers with all seeds; prints a JSON line a seed."""
    folders.check_target("--output", args.output)
    args.output.mkdir(parents=True, exist_ok=True)
    results = []
    for seed in args.seeds:
        began = time.process_time()
        model, top1 = train_backbone(args, seed)
        known = banks_of(model, "train", args.train_clips)
        tested = banks_of(model, "test", args.test_clips)
        row: dict[str, Any] = {"seed": seed, "motion8": round(top1, 4)}
        for reading in READINGS:
            row[reading] = round(read(reading, known, tested, args, seed), 4)
        row["cpu_seconds"] = round(time.process_time() - began)
        results.append(row)
        print(json.dumps(row), flush=True)
        text = "".join(json.dumps(each) + "\n" for each in results)
        files.write_bytes(args.output / "results.jsonl", text.encode())
    return results


if __name__ == "__main__":
    recipe.core.command(main, Args, __doc__)
