"""What two streams are for: clips whose class is what is seen times how it moves.

    python experiments/video/product.py
    python experiments/video/product.py --seeds 0 --nets rgb --steps 20

Clips of "product" have one of four tints and one of four motions: 16 classes. A frame
tells the tint alone, and flow, of the luma, the motion alone: either is right once in
four, if it knows all it can know. Small ResNets learn from one frame, from a stack of
seven flows, and from both. The flow is estimated in the training step itself, from the
frames that were drawn there. "late" averages the logits of the first two as they were
trained, each by itself (Simonyan and Zisserman, 2014); the others are trained as one:
"conv" (Feichtenhofer et al., CVPR 2016), "add" and "multiply" (ST-ResNet, 2016, 2017).

A net that has been tested in a folder is not trained again there.

    1600 test clips, chance is 6.25 %   seed 0    seed 1    seed 2
    rgb                                 25.1 %    25.2 %    25.3 %
    flow                                25.2 %    25.0 %    25.0 %
    late                                100.0 %   100.0 %   100.0 %
    conv                                100.0 %   100.0 %   100.0 %
    add                                 100.0 %   100.0 %   100.0 %
    multiply                            100.0 %   100.0 %   100.0 %

150 steps of 32 clips; 303 seconds of CPU time for all of it, compilation included, jax
0.10.2. What rgb and flow can reach at all is 25 %.
"""

import dataclasses
import functools
import json
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
import recipe
from flax import nnx

import jaxflow
from jaxflow import train, two_stream
from jaxflow.data import motion_classes
from jaxflow.io import files, folders
from jaxflow.models.video import two_stream as networks

NETS = ("rgb", "flow", "late", "conv", "add", "multiply")
# Clips that go through a net at once when it is tested.
CHUNK = 100
Draw = Callable[[jax.Array], dict[str, jax.Array]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Args:
    """Options.

    Attributes:
        seeds: Of weights and training clips.
        nets: Which to train and test; "late" is of "rgb" and "flow".
        estimator: The classical method that estimates flow.
        steps: Steps of training.
        rate: Highest learning rate.
        batch_size: Clips in a batch.
        test_clips: Clips to test with.
        output: Folder for the weights and the JSON lines.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    nets: tuple[str, ...] = NETS
    estimator: str = "lucas_kanade"
    steps: int = 150
    rate: float = 1e-2
    batch_size: int = 32
    test_clips: int = 1600
    output: pathlib.Path = pathlib.Path("runs/product")


def build(net: str, classes: int, seed: int, estimator: str) -> nnx.Module:
    """Returns a net with fresh weights, on clips of 8 frames of 32 x 32 pixels.

    Args:
        net: One of `NETS`.
        classes: How many there are.
        seed: Of its weights.
        estimator: Of its flow.
    """
    alone = net in ("rgb", "flow")
    config = networks.Config(
        num_classes=classes,
        crop_size=32,
        num_frames=1 if net == "rgb" else 7,
        stack=1 if net == "rgb" else 7,
        streams=net if alone else "both",  # pyright: ignore[reportArgumentType]
        fusion="late" if alone else net,  # pyright: ignore[reportArgumentType]
        fusion_after=3,
        bottleneck=False,
        blocks=(2, 1, 1, 1) if net in ("add", "multiply") else (1, 1, 1, 1),
        width=8,
        dropout_rate=0.0,
        flow_dropout_rate=0.0,
    )
    model = networks.Model(config, rngs=nnx.Rngs(jax.random.key(seed, impl="rbg")))
    model.eval()
    return model if net == "rgb" else two_stream.WithFlow(model, estimator)


def score(net: str, model: Any, clip: jax.Array) -> jax.Array:
    """Returns logits of clips, (B, T, H, W, 3); "rgb" sees the frame in the middle."""
    return model(clip[:, 4:5] if net == "rgb" else clip)


def train_net(net: str, model: Any, draw: Draw, args: Any, seed: int) -> None:
    """Trains a net by Adam along a cosine, on clips that are drawn inside the step.

    Args:
        net: Its name.
        model: The net; its weights change.
        draw: Random key -> "clip" and "label".
        args: `steps` and `rate`.
        seed: Of the clips.
    """
    pace = optax.warmup_cosine_decay_schedule(
        0.0, args.rate, args.steps // 10, args.steps
    )
    optimiser = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(pace, weight_decay=1e-4)
    )

    def loss(model, batch):
        return recipe.classification(score(net, model, batch["clip"]), batch["label"])

    step = train.make_step(model, loss, optimiser, draw=draw)
    state = train.init(model, optimiser, seed=seed)
    while int(state.step) < args.steps:
        state, _ = step.run(state)
    train.finish(model, state)


def logits_of(net: str, model: Any, clips: np.ndarray) -> np.ndarray:
    """Returns the logits of many clips."""
    graph, state = nnx.split(model)
    run = jax.jit(lambda s, c: score(net, nnx.merge(graph, s, copy=True), c))
    parts = [clips[start : start + CHUNK] for start in range(0, len(clips), CHUNK)]
    return np.concatenate([np.asarray(run(state, part)) for part in parts])


def trained(net: str, classes: int, draw: Draw, args: Any, seed: int) -> nnx.Module:
    """Returns a trained net: from the folder of the output, or trained now."""
    model = build(net, classes, seed, args.estimator)
    weights = args.output / f"{net}-{seed}.safetensors"
    if weights.exists():
        return jaxflow.load_weights(model, weights)
    train_net(net, model, draw, args, seed)
    jaxflow.save_weights(model, weights)
    return model


def done(args: Any) -> list[dict[str, Any]]:
    """Returns the lines of the output that are there, and verifies their settings."""
    path = args.output / "results.jsonl"
    rows = []
    if path.exists():
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        for name in ("steps", "rate", "batch_size", "test_clips", "estimator"):
            if row[name] != getattr(args, name):
                raise ValueError(
                    f"--output: {path} holds results of --{name.replace('_', '-')} "
                    f"{row[name]}; this is {getattr(args, name)}: take another folder"
                )
    return rows


def write(args: Any, rows: list[dict[str, Any]]) -> None:
    """Writes all lines, and prints the last."""
    print(json.dumps(rows[-1]), flush=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    files.write_bytes(args.output / "results.jsonl", text.encode())


def settings(args: Any) -> dict[str, Any]:
    """Returns what a result depends on beside net and seed."""
    names = ("steps", "rate", "batch_size", "test_clips", "estimator")
    return {name: getattr(args, name) for name in names}


def run_nets(
    args: Any,
    classes: int,
    draw: Draw,
    clips: np.ndarray,
    measure: Callable[[np.ndarray], dict[str, float]],
) -> list[dict[str, Any]]:
    """Trains and tests all nets with all seeds; a JSON line each.

    Args:
        args: Options, as `Args`.
        classes: How many there are.
        draw: Random key -> "clip" and "label", to train with.
        clips: What is tested, (N, T, H, W, 3).
        measure: The best class of every clip, (N,) -> shares, by name.

    Returns:
        All lines of the output.
    """
    folders.check_target("--output", args.output)
    args.output.mkdir(parents=True, exist_ok=True)
    rows = done(args)
    for seed in args.seeds:
        known: dict[str, np.ndarray] = {}
        for net in args.nets:
            if any((row["net"], row["seed"]) == (net, seed) for row in rows):
                continue
            began = time.process_time()
            parts = ("rgb", "flow") if net == "late" else (net,)
            for part in parts:
                if part not in known:
                    model = trained(part, classes, draw, args, seed)
                    known[part] = logits_of(part, model, clips)
            logits = np.mean([known[part] for part in parts], axis=0)
            row: dict[str, Any] = {"net": net, "seed": seed}
            for name, share in measure(np.argmax(logits, axis=-1)).items():
                row[name] = round(share, 4)
            row["cpu_seconds"] = round(time.process_time() - began)
            rows.append(row | settings(args))
            write(args, rows)
    return rows


def main(args: Args) -> list[dict[str, Any]]:
    """Trains and tests all nets with all seeds; a JSON line each."""
    classes = len(motion_classes.TASKS["product"].classes)
    draw = functools.partial(
        motion_classes.clip_batch, task="product", batch_size=args.batch_size
    )
    data = motion_classes.load("test", args.test_clips, task="product")
    labels = np.asarray(data["label"])

    def measure(best):
        return {"top1": float(np.mean(best == labels))}

    return run_nets(args, classes, draw, np.asarray(data["clip"]), measure)


if __name__ == "__main__":
    recipe.core.command(main, Args, __doc__)
