"""One small model that predicts, looks back, interpolates and invents moving shapes.

    python experiments/generation/moving_shapes.py --workdir runs/shapes
    python experiments/generation/moving_shapes.py --kind glyphs --dtype bfloat16 \\
        --workdir runs/glyphs

    kind      size   frames   network       steps    batch   rate   average   given
    shapes    16     8        flexible_16   3000     16      2e-3   0.99      3, 3, 2
    shapes3   24     8        flexible_16   6000     16      2e-3   0.99      3, 3, 2
    glyphs    64     20       flexible_64   10 000   8       2e-4   0.999     5, 5, 10

shapes is for two cores, glyphs for one GPU or TPU of 40 GB: training takes 4.6 GB a
clip in float32. "given" is the number of frames for the future, the past and between.
Clips are drawn inside the step, with masks of the flexible diffusion model's
distribution. A run that was stopped goes on where it was. The average of the weights is
tested on 64 clips that no training draws, beside copying the nearest given frame and
blending the two nearest: PSNR in decibels of one sample, of the best of four and of the
mean of four; and the same with shuffled frame numbers. `--pictures` trains on single
frames first, `--joint` on both at once. Results are JSON lines in the run's folder.
`long_video.py` compares schedules of longer videos by the trained network.

    a step, batch 16: 0.54 s of one core's time, 0.33 s on 2 cores
    1500 steps of shapes, mean of four samples, three seeds: future 15.1, 14.4, 15.0 dB
    (copy 11.3), past 14.7, 14.3, 14.5 (11.3), interpolate 15.2, 15.0, 15.0 (blend 13.4)
    shapes3 and glyphs: not run to their end yet
"""

import dataclasses
import functools
import json
import pathlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxflow import averaging, convert, generation, models, quality, train
from jaxflow.data import moving_shapes
from jaxflow.diffusion import masks, training
from jaxflow.io import folders

sys.path.append(str(pathlib.Path(__file__).parents[1]))
import core

# Task, and how many of the 8 frames it is given; of the 20 of glyphs.
TASKS: dict[masks.Task, int] = {"future": 3, "past": 3, "interpolate": 2}
GLYPH_TASKS: dict[masks.Task, int] = {"future": 5, "past": 5, "interpolate": 10}
# What the options are by kind, if they are not given.
_SMALL = {"model": "flexible_16", "steps": 3000, "batch_size": 16, "rate": 2e-3}
_SMALL |= {"decay": 0.99, "sampling_steps": 25}
_LARGE = {"model": "flexible_64", "steps": 10_000, "batch_size": 8, "rate": 2e-4}
_LARGE |= {"decay": 0.999, "sampling_steps": 50}
USUAL = {"shapes": _SMALL, "shapes3": _SMALL | {"steps": 6000}, "glyphs": _LARGE}
SAMPLES = 4
# Seed of the clips that are tested; training draws from folded keys of its own seed.
HELD_OUT = 1_000_003


@dataclasses.dataclass(frozen=True, kw_only=True)
class Args:
    """Options; those that are None are the kind's, see the top of this file.

    Attributes:
        workdir: Folder for checkpoints, logs, weights and results.
        model: Name of the network.
        kind: Clips: "shapes", "shapes3" or "glyphs".
        steps: Steps of training.
        batch_size: Clips in a batch.
        rate: Highest learning rate; it falls along a cosine.
        decay: Of the average of the weights.
        encoding: What the network knows of the frames' numbers.
        width: Channels of its first convolution; None is the network's.
        dtype: What features are computed in; weights are float32 in any case.
        start: Weights to begin with.
        pictures: Steps of training on single frames, without attention along frames,
            before the training on clips begins with these weights.
        joint: Weight of the loss of single frames in training on clips; 0 leaves them
            out.
        clips: Clips that are tested.
        sampling_steps: Steps of the sampler in the test.
        seed: Of weights, data and noise.
        save_every: Steps between checkpoints; each is tested on 16 clips.
    """

    workdir: pathlib.Path
    model: str | None = None
    kind: Literal["shapes", "shapes3", "glyphs"] = "shapes"
    steps: int | None = None
    batch_size: int | None = None
    rate: float | None = None
    decay: float | None = None
    encoding: Literal["relative", "absolute", "none"] = "relative"
    width: int | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    start: pathlib.Path | None = None
    pictures: int = 0
    joint: float = 0.0
    clips: int = 64
    sampling_steps: int | None = None
    seed: int = 0
    save_every: int = 500

    def __post_init__(self):
        for name, value in USUAL[self.kind].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)


def main(args: Args) -> None:
    """Trains and tests."""
    folders.check_target("--workdir", args.workdir)
    args.workdir.mkdir(parents=True, exist_ok=True)
    model = build(args)
    if args.pictures:
        start_from_pictures(model, args)
    if args.steps:
        fit(model, args)
        convert.save_weights(model, args.workdir / "weights.safetensors")
    began = time.perf_counter()
    rows = test(model, args, args.clips)
    rows["seconds_of_test"] = time.perf_counter() - began
    report(args, {"seed": args.seed, "steps": args.steps, **rows})


def build(args: Args, **overrides: Any) -> Any:
    """Returns the network, of the size and channels of the clips."""
    own = moving_shapes.KINDS[args.kind]
    overrides |= {"time_encoding": args.encoding}
    overrides |= {"channels": 1, "image_size": own.size[0]}
    overrides["dtype"] = jnp.dtype(args.dtype)
    if args.width is not None:
        overrides["model_channels"] = args.width
    if args.start is None:
        return models.create_model(args.model, seed=args.seed, **overrides)
    return convert.load_model(args.model, args.start, **overrides)


def start_from_pictures(model: Any, args: Args) -> None:
    """Trains a network of pictures, and gives its weights to one of videos.

    What attends along frames begins fresh, and then changes nothing: the network of
    videos is at first exactly the one of pictures, applied to every frame.
    """
    workdir = args.workdir / "pictures"
    network = build(args, attend_frames=False)
    alone = dataclasses.replace(args, workdir=workdir, steps=args.pictures)
    fit(network, alone, batches_of=picture_batch)
    nnx.update(model, nnx.state(network, nnx.Param))


def clip_batch(key: jax.Array, model: Any, args: Args) -> training.Batch:
    """Draws clips, masks and noise."""
    first, second = jax.random.split(key)
    return training.batch(
        second, videos(first, model, args), model.process, most=model.config.num_frames
    )


def picture_batch(key: jax.Array, model: Any, args: Args) -> training.Batch:
    """Draws single frames and noise, as many as there are clips."""
    first, second = jax.random.split(key)
    frames = training.pictures(videos(first, model, args, frames=1))
    return training.batch(second, frames, model.process, most=1)


def joint_batch(key: jax.Array, model: Any, args: Args) -> training.Joint:
    """Draws both."""
    first, second = jax.random.split(key)
    return training.Joint(
        clip_batch(first, model, args), picture_batch(second, model, args)
    )


def videos(key: jax.Array, model: Any, args: Args, frames: int = 0) -> jax.Array:
    """Draws a batch of clips of so many frames; 0 is as many as the network's."""
    frames = frames or model.config.num_frames
    return moving_shapes.clip_batch(
        key, kind=args.kind, batch_size=args.batch_size, frames=frames
    )


def fit(model: Any, args: Args, batches_of: Callable[..., Any] | None = None) -> None:
    """Trains a network, and gives it the average of its weights."""
    optimiser = averaging.averaged(
        optax.chain(
            optax.clip_by_global_norm(1.0),
            optax.adam(optax.cosine_decay_schedule(args.rate, args.steps, alpha=0.02)),
        ),
        decay=args.decay,
    )
    loss, evaluate = training.loss, None
    if batches_of is None:
        batches_of, evaluate = clip_batch, functools.partial(judge, model, args)
        if args.joint:
            batches_of = joint_batch
            loss = functools.partial(training.joint_loss, weight=args.joint)
    draw = functools.partial(batches_of, model=model, args=args)
    mesh = core.device_mesh(args.batch_size)
    step = train.make_step(model, loss, optimiser, draw=draw, mesh=mesh)
    state = train.fit(
        step,
        train.init(model, optimiser, seed=args.seed),
        steps=args.steps,
        workdir=args.workdir,
        log_every=50,
        save_every=args.save_every,
        config=core.identity(args),
        defaults=core.defaults(args),
        evaluate=evaluate,
    )
    train.finish(model, train.averaged(state))


def judge(model: Any, args: Args, state: train.TrainState) -> Mapping[str, float]:
    """Tests the future on a few clips during training."""
    copied = nnx.merge(*nnx.split(model), copy=True)
    found = test(
        train.finish(copied, train.averaged(state)), args, 16, tasks=("future",)
    )
    return {f"future_{name}": value for name, value in found["future"].items()}


def test(
    model: Any, args: Args, count: int, *, tasks: Sequence[masks.Task] = tuple(TASKS)
) -> dict[str, Any]:
    """Returns a row of decibels for each task, over the frames that are generated."""
    frames = model.config.num_frames
    clips = np.asarray(held_out(args, count, frames))
    settings = generation.Settings(steps=args.sampling_steps)
    sample = generation.clip_sampler(model, settings, process=model.process)
    numbers = np.arange(frames)
    # The frames keep their places, and swap the numbers that the network is told.
    shuffled = np.random.default_rng(0).permutation(frames)
    rows: dict[str, Any] = {}
    numbers_given = GLYPH_TASKS if args.kind == "glyphs" else TASKS
    for task in tasks:
        given = masks.task(task, frames, given=numbers_given[task])
        made = draw_samples(sample, clips, given, numbers, args)
        wrong = draw_samples(sample, clips, given, shuffled, args)
        rows[task] = {
            **scores(made, clips, given),
            "shuffled": scores(wrong, clips, given)["of_mean"],
            "copy": decibels(quality.copy_nearest(clips, given), clips, given),
            "blend": decibels(quality.linear_blend(clips, given), clips, given),
        }
    return rows


def held_out(args: Args, count: int, frames: int) -> jax.Array:
    """Draws clips that no training draws."""
    key = jax.random.key(HELD_OUT)
    return moving_shapes.clip_batch(
        key, kind=args.kind, batch_size=count, frames=frames
    )


def draw_samples(sample, videos, given, numbers, args: Args) -> np.ndarray:
    """Returns `SAMPLES` videos of each clip, of a training batch's clips at a time."""
    clean = np.where(given[:, None, None, None], videos, 0).astype(np.float32)
    parts = np.split(clean, range(args.batch_size, len(clean), args.batch_size))
    made = []
    for key in jax.random.split(jax.random.key(args.seed), SAMPLES):
        drawn = []
        for number, part in enumerate(parts):
            observed = np.broadcast_to(given, part.shape[:2]).astype(np.float32)
            indices = np.broadcast_to(numbers, part.shape[:2]).astype(np.int32)
            noise = jax.random.fold_in(key, number)
            drawn.append(sample(noise, part, observed, 1 - observed, indices))
        made.append(np.clip(np.concatenate(drawn), -1, 1))
    return np.stack(made)


def decibels(video: np.ndarray, target: np.ndarray, given: np.ndarray) -> float:
    """Returns the mean PSNR of the frames that were not given, of the range 2."""
    return float(quality.psnr(video[:, ~given], target[:, ~given], peak=2).mean())


def scores(samples, videos, given) -> dict[str, float]:
    """Returns the PSNR of one sample, of the best and of the mean."""
    score = functools.partial(quality.psnr, peak=2)
    found = quality.of_samples(samples[:, :, ~given], videos[:, ~given], score=score)
    return {name: float(value.mean()) for name, value in found.items()}


def report(args: Args, row: Mapping[str, Any]) -> None:
    """Prints a row and adds it to the results."""
    line = json.dumps(row)
    print(line)
    with (args.workdir / "results.jsonl").open("a") as file:
        file.write(line + "\n")


if __name__ == "__main__":
    core.command(main, Args, __doc__)
