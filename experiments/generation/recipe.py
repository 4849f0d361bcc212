"""What the recipes of published networks add to `core`: folders of videos, and tests.

    python experiments/generation/RECIPE.py --data videos --workdir runs/one
    python experiments/generation/RECIPE.py --data videos --steps 3 --batch-size 2 \\
        --workdir runs/try                                             # a quick try
    python experiments/generation/RECIPE.py --data train --test held_out --dtype \\
        bfloat16 --accumulate 4 --workdir runs/one          # a device of little memory

A stage is one published set-up; without --stage it is the first. Data is a folder of
videos, at any depth, or a list of them. Each batch is one clip of each of so many
videos, from a random time and place, brought to [-1, 1]. Weights are averaged; the
average is tested on --test, where it is there, at each checkpoint and at the end, and
saved as WORKDIR/STAGE/weights.safetensors, which `jaxflow generate` reads.
"""

import dataclasses
import functools
import json
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxflow import averaging, convert, generation, io, models, quality, train
from jaxflow.data import clips, list_rows
from jaxflow.diffusion import masks, training

sys.path.append(str(pathlib.Path(__file__).parents[1]))
import core

LUMA = (0.299, 0.587, 0.114)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Args(core.Options):
    """What every recipe of this kind can be told.

    Attributes:
        data: Folder of videos, or a list of them, to train on.
        test: The same, to test on.
        frames: Frames that the network sees; without it the published number.
        length: Frames that are read of each video, of which the network sees some;
            without it the published number, or with `frames` as many as these.
        size: Height and width of a clip; without it the published ones.
        width: Channels of the first level; without it the published ones.
        dtype: What features are computed in. Weights are float32 in any case.
        held_out: Videos of `test` to test on; 0 tests on none.
        sampling_steps: Steps of the sampler in the test.
    """

    data: pathlib.Path
    test: pathlib.Path | None = None
    frames: int | None = None
    length: int | None = None
    size: int | None = None
    width: int | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    held_out: int = 8
    sampling_steps: int = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage(core.Stage):
    """A published set-up.

    Attributes:
        model: Name of the network.
        overrides: Fields of its config that differ.
        frames: Frames that are read of each video; 0 reads as many as the network sees.
        average: Decay of the average of the weights.
        flip: Whether clips are mirrored.
        tasks: What is tested, and by how many given frames.
    """

    model: str
    overrides: tuple[tuple[str, Any], ...] = ()
    frames: int = 0
    average: float = 0.9999
    flip: bool = False
    tasks: tuple[tuple[masks.Task, int], ...]


class Videos(Sequence[Mapping[str, Any]]):
    """Videos without labels as a data source.

    Args:
        root: A folder, or a list that `clips.Videos` reads.

    Raises:
        ValueError: If there are none.
    """

    def __init__(self, root: pathlib.Path):
        if root.is_dir():
            self.paths = list_rows.find_videos(root)
        else:
            self.paths = [path for path, _ in clips.Videos(root, first_label=0).videos]
        if not self.paths:
            raise ValueError(f"{root}: holds no videos")

    def __len__(self) -> int:
        """Returns the number of videos."""
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns the path of a video, and a label that means nothing."""
        return {"path": self.paths[index], "label": np.int32(0)}


def run(
    args: Args,
    stages: Mapping[str, Stage],
    *,
    width: str,
    batch_of: Callable[[jax.Array, jax.Array, Any], training.Batch],
    loss: train.Loss,
) -> None:
    """Trains the stage that is named, or the first; tests it and saves its weights.

    Args:
        args: What the recipe was told.
        stages: All that are published, by name.
        width: Field of the config that `Args.width` is for.
        batch_of: (key, videos, model) -> batch, with videos (B, T, H, W, channels) in
            [-1, 1].
        loss: (model, batch) -> loss.
    """
    (name,) = core.choose(stages, args, list(stages)[:1])
    stage = core.adapt(stages[name], args)
    model = build(args, stage, width)
    if not core.has_begun(name, args):
        core.begin(model, name, stage, args, first=True)
    parts = [optax.adam(core.pace(stage))]
    if stage.clip is not None:
        parts.insert(0, optax.clip_by_global_norm(stage.clip))
    seed = args.seed + list(stages).index(name)
    state = core.fit(
        model,
        loss,
        averaging.averaged(optax.chain(*parts), decay=stage.average),
        load(args, stage, model, batch_of),
        name=name,
        stage=stage,
        options=args,
        seed=seed,
        evaluate=evaluation(args, stage, model),
    )
    train.finish(model, train.averaged(state))
    convert.save_weights(model, args.workdir / name / "weights.safetensors")
    print(json.dumps({"stage": name} | test(model, args, stage)))


def build(args: Args, stage: Stage, width: str) -> Any:
    """Returns the network of a stage, as the options want it."""
    changes = dict(stage.overrides)
    changes |= {"num_frames": args.frames, "image_size": args.size, width: args.width}
    changes = {field: value for field, value in changes.items() if value is not None}
    return models.create_model(
        stage.model, seed=args.seed, dtype=jnp.dtype(args.dtype), **changes
    )


def load(args: Args, stage: Stage, model: Any, batch_of: Callable) -> core.Data:
    """Returns clips of the videos, from which the step makes batches."""
    size, seen = model.config.image_size, model.config.num_frames
    published = stage.frames if args.frames is None else 0
    frames = args.length or published or seen
    videos = Videos(args.data)
    check_length(videos.paths, frames)
    loader = clips.clip_loader(
        videos,
        batch_size=stage.batch_size // jax.process_count(),
        num_frames=frames,
        stride=1,
        rate=None,
        size=size,
        short_side=(size, size),
        flip=stage.flip,
        seed=args.seed,
        shard=(jax.process_index(), jax.process_count()),
        workers=args.workers,
    )

    def augment(key: jax.Array, batch: Mapping[str, jax.Array]) -> training.Batch:
        return batch_of(key, scaled(batch["clip"], model.config.channels), model)

    return core.Data(batches=iter(loader), augment=augment)


def check_length(paths: Sequence[pathlib.Path], frames: int) -> None:
    """Looks at the first videos; of one that is too short the last frame would repeat.

    Raises:
        ValueError: If one of them has fewer frames than are read.
    """
    for path in paths[:4]:
        found = io.video_info(path).length
        if found < frames:
            raise ValueError(
                f"{path}: has {found} frames, and {frames} are read of each video: "
                "give longer ones, or --length"
            )


def scaled(clip: jax.Array, channels: int) -> jax.Array:
    """Brings RGB in [0, 1] to [-1, 1], and to luma if there is one channel."""
    if channels == 1:
        clip = clip @ jnp.asarray(LUMA, clip.dtype)[:, None]
    return 2 * clip - 1


def evaluation(args: Args, stage: Stage, model: Any) -> Callable | None:
    """Returns what tests a network while it trains: (state) -> metrics, or None."""
    if args.test is None or not args.held_out:
        return None
    copy = nnx.merge(*nnx.split(model), copy=True)

    def measure(state: train.TrainState) -> dict[str, float]:
        return test(train.finish(copy, train.averaged(state)), args, stage)

    return measure


def test(model: Any, args: Args, stage: Stage) -> dict[str, float]:
    """Returns PSNR and SSIM of one sample a video, beside copying the nearest frame.

    Only generated frames count. Without videos to test on there is nothing.
    """
    if args.test is None or not args.held_out:
        return {}
    config, found = model.config, {}
    for path in Videos(args.test).paths[: args.held_out]:
        clip = clips.read_clip(path, config.num_frames, 1, rate=None)
        clip = clips.resized_crop(clip, config.image_size, config.image_size)
        if config.channels == 1:
            clip = clip @ np.array(LUMA, np.float32)[:, None]
        for task, given in stage.tasks:
            for measure, value in score(model, args, clip, task, given).items():
                found.setdefault(f"{task}_{measure}", []).append(value)
    return {name: float(np.mean(values)) for name, values in found.items()}


def score(
    model: Any, args: Args, clip: np.ndarray, task: masks.Task, given: int
) -> dict[str, float]:
    """Returns the measures of one video and task."""
    observed = masks.task(task, len(clip), given=given)
    settings = generation.default_settings(model, conditional=bool(observed.any()))
    settings = settings._replace(steps=args.sampling_steps)
    made = generation.generate(
        model,
        clip[observed] if observed.any() else None,
        observed=task if observed.any() else None,
        length=len(clip),
        size=None if observed.any() else clip.shape[1:3],
        settings=settings,
        seed=args.seed,
    )
    if not observed.any():
        return {"deviation": float(made.std())}
    copied = quality.copy_nearest(clip[None], observed)[0]
    measure = functools.partial(_mean, target=clip[~observed])
    return {
        "psnr": measure(quality.psnr, made[~observed]),
        "ssim": measure(quality.ssim, made[~observed]),
        "copy_psnr": measure(quality.psnr, copied[~observed]),
        "copy_ssim": measure(quality.ssim, copied[~observed]),
    }


def _mean(measure: Callable, video: np.ndarray, target: np.ndarray) -> float:
    return float(measure(video, target).mean())
