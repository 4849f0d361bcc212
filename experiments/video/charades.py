"""Fine-tunes SlowFast on Charades, whose clips show several actions, as FAIR does.

    python experiments/video/charades.py --start SLOWFAST_8x8_R50.pkl \
        --data charades/train.csv --test charades/val.csv --workdir runs/charades
    python experiments/video/charades.py --model slow_r50 --task motion8 --width 16 \
        --workdir runs/small

Runs charades in its folder of --workdir; run again, it goes on where it was stopped.
The lists have lines ``path labels``, or parts of videos, with a header
``path,label,start,end``; see `jaxflow.data.list_parts`. Without --data, each clip is
the mean of two of the task, and shows both classes. A shorter --steps shrinks the
schedule.

    epochs   batch   rate                            after a warm-up of       decay
    57       16      0.0375, tenth after 41, 49      4 epochs from 1e-4       1e-4

    Charades, 30 views, mAP                       PySlowFast   we got
    slowfast, 64 frames of every second, R50      38.9         not run yet

Source: PySlowFast, configs/Charades/SLOWFAST_16x8_R50.yaml. A sigmoid of each class and
its binary cross entropy; SGD with Nesterov momentum 0.9, which does not decay
normalisations, dropout 0.5, 64 frames of every second, cropped to 224 and mirrored;
precise statistics on 200 batches. A video is scored by the highest of its views, and
its labels are those of all its lines. Deviations: the shorter side is drawn evenly from
256 to 340, there its inverse is; a clip has the labels of its line, there of its own
frames; a batch is normalised as a whole, there each 8 clips.
"""

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import precise_norm
import recipe
from recipe import core

from jaxflow import class_metrics, train
from jaxflow.data import clips, lists, motion_classes
from jaxflow.models.video import resnet3d, slowfast

STAGES = {
    "charades": recipe.Stage(
        sets=("charades",),
        epochs=57,
        rate=0.0375,
        batch_size=16,
        drops=(41, 49),
        warm_up=4,
        warm_up_rate=1e-4,
        short_side=(256 / 224, 340 / 224),
    )
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Args(recipe.Args):
    """Options of the recipe.

    Attributes:
        model: A variant in jaxflow/models/video/slowfast.py or resnet3d.py.
        precise_batches: Batches that the statistics are measured on at the end; 0, or
            `frozen`, keeps the running ones.
    """

    model: str = "slowfast_8x8_r50"
    precise_batches: int = 200


def classify_loss(model: Any, batch: dict[str, jax.Array]) -> tuple[jax.Array, dict]:
    """Returns the mean binary cross entropy of all classes."""
    scores = model(batch["clip"])
    return jnp.mean(
        optax.sigmoid_binary_cross_entropy(scores, batch["labels"].astype(scores.dtype))
    ), {}


def draw(key: jax.Array, *, task: str, **options: Any) -> dict[str, jax.Array]:
    """Draws clips that are the mean of two, and show the classes of both.

    Args:
        key: Random key.
        task: See `motion_classes.clip_batch`.
        **options: See there.

    Returns:
        ``clip`` (B, T, H, W, 3) and ``labels`` (B, classes) bool.
    """
    one, two = (
        motion_classes.clip_batch(each, task=task, **options)
        for each in jax.random.split(key)
    )
    return overlay(one, two, len(motion_classes.TASKS[task].classes))


def overlay(one: dict, two: dict, classes: int) -> dict[str, jax.Array]:
    """Returns the mean of two batches of clips, and the classes of both."""
    number = jnp.arange(classes)[None, :]
    shown = [jnp.asarray(each["label"])[:, None] == number for each in (one, two)]
    return {"clip": (one["clip"] + two["clip"]) / 2, "labels": shown[0] | shown[1]}


def test(
    model: Any, args: Args, name: str, *, views: recipe.Views = (10, 3), most: int = 0
) -> dict[str, float]:
    """Returns the mean average precision of test videos, or of held-out drawn clips.

    Args:
        model: The trained model.
        args: See `recipe.test`, as for the rest.
        name: Of the stage.
        views: Clips and crops of each video; the highest score counts.
        most: How many of the videos, evenly spread; 0 for all, or 800 clips.

    Returns:
        "map", over the classes that a test video shows; with `test` also how many
        "videos" were scored, and how many are "damaged".
    """
    if args.test:
        videos = list_test(model, args, name)
        if most and most < len(videos):
            videos = [videos[i * len(videos) // most] for i in range(most)]
        scores, labels = recipe.score_videos(
            model, videos, views, activation="sigmoid", combine="max"
        )
        counts = {"videos": len(labels), "damaged": len(videos) - len(labels)}
        return {"map": class_metrics.mean_average_precision(scores, labels), **counts}
    if args.data:
        return {}
    config = model.config
    one = motion_classes.load(
        "test",
        most or 800,
        task=args.task or recipe.TASK,
        frames=config.num_frames,
        size=(config.crop_size, config.crop_size),
    )
    order = np.random.default_rng(0).permutation(len(one["label"]))
    both = overlay(
        one, {name: part[order] for name, part in one.items()}, config.num_classes
    )
    scores = recipe.score_clips(model, np.asarray(both["clip"]))
    labels = np.asarray(both["labels"])
    return {"map": class_metrics.mean_average_precision(scores, labels)}


def list_test(model: Any, args: Args, name: str) -> list[tuple[Any, np.ndarray]]:
    """Returns the test videos, each with the classes of all its lines.

    Raises:
        ValueError: If a class is unknown to training.
    """
    folder, path = args.workdir / name, pathlib.Path(args.test[0])
    source = clips.Parts(
        path,
        names=lists.load_classes(folder),
        part="test",
        first_label=args.first_label,
        videos=args.videos,
    )
    if len(source.names) != model.config.num_classes:
        raise ValueError(
            f"{path}: has {len(source.names)} classes, the model "
            f"{model.config.num_classes}; {folder} does not say which"
        )
    shown: dict[Any, np.ndarray] = {}
    for part in source:
        path = part["path"]
        shown[path] = shown.get(path, np.zeros_like(part["labels"])) | part["labels"]
    return list(shown.items())


LABELS = recipe.Labels(draw=draw, source=clips.Parts, loss=classify_loss, test=test)


def make_optimiser(stage: recipe.Stage) -> optax.GradientTransformation:
    """Returns SGD with Nesterov's momentum; normalisations do not decay."""
    return core.sgd(stage, nesterov=True, mask=core.all_but_norms)


def main(args: Args, config: Any = None) -> train.TrainState:
    """Trains, or goes on training, and returns the last state."""
    known = resnet3d.VARIANTS | slowfast.VARIANTS
    if args.model not in known:
        raise ValueError(f"`model` must be one of {sorted(known)}; got {args.model!r}")
    file = slowfast if args.model in slowfast.VARIANTS else resnet3d
    if config is None:
        config = known[args.model]
        if args.model == "slowfast_8x8_r50":
            config = dataclasses.replace(config, num_frames=64)
        config = dataclasses.replace(config, head_mode="sigmoid_mean")

    def end(model: Any, data: core.Data, stage: recipe.Stage) -> None:
        if args.precise_batches and not stage.trained:
            precise_norm.measure_statistics(model, data, args.precise_batches)

    return recipe.run(
        args,
        STAGES,
        file.Model,
        config,
        labels=LABELS,
        optimiser=make_optimiser,
        end=end,
    )


if __name__ == "__main__":
    core.command(main, Args, __doc__)
