"""SlowFast, Slow, Fast, C2D and I3D, trained from scratch as FAIR trains them.

    python experiments/video/slowfast.py --data kinetics/train.csv \
        --test kinetics/val.csv --workdir runs/slowfast
    python experiments/video/slowfast.py --task fastslow --width 16 --workdir runs/small
    python experiments/video/slowfast.py --model i3d_r50 --schedule imagenet \
        --inflate resnet50-0676ba61.pth --data kinetics/train.csv --workdir runs/i3d

The same command run again goes on where it was stopped. Without --data, clips are drawn
on the device. A shorter --steps shrinks the published schedule.

    schedule   epochs   rate for 64 clips                     after a warm-up of
    scratch    196      0.1, half a period of the cosine      34 epochs from 0.01
    steps      239      0.1, tenth after 94, 154, 196         34 epochs from 0.01
    imagenet   118      0.01, tenth after 44, 88              -

    Kinetics-400, 30 views, top-1   paper   we got
    slowfast_4x16_r50               75.6    not run yet
    slowfast_8x8_r50                77.0    not run yet
    slow_r50                        74.8    not run yet
    i3d_r50                         73.5    not run yet
    c2d_nopool_r50                  67.2    not run yet

SGD with Nesterov momentum 0.9, decay 1e-4 on all but normalisations, dropout 0.5, clips
of a shorter side of 256 to 320 cropped to 224 and mirrored. At the end the statistics
of the normalisations are measured anew on 200 batches ("precise BN"). Deviation: a
batch is normalised as a whole; there it is each 8 clips, those of one GPU.
"""

import dataclasses
import pathlib
from typing import Any, Literal

import jax
import recipe
import tyro
from flax import nnx

from jaxflow import checkpoint, convert, train
from jaxflow.layers import norm
from jaxflow.models.video import resnet3d, slowfast

SCHEDULES = {
    "scratch": recipe.Schedule(
        epochs=196,
        rate=0.1,
        batch_size=64,
        warmup=34,
        warmup_rate=0.01,
        decay_norms=False,
        nesterov=True,
    ),
    "steps": recipe.Schedule(
        epochs=239,
        rate=0.1,
        batch_size=64,
        drops=(94, 154, 196),
        warmup=34,
        warmup_rate=0.01,
        decay_norms=False,
        nesterov=True,
    ),
    "imagenet": recipe.Schedule(
        epochs=118,
        rate=0.01,
        batch_size=64,
        drops=(44, 88),
        decay_norms=False,
        nesterov=True,
    ),
}
_NORM = "weight|bias|running_mean|running_var"
# torchvision's ResNet-50 and ResNet-101.
RESNET = (
    (r"conv1\.weight", "slow.stem.conv.weight"),
    (rf"bn1\.({_NORM})", r"slow.stem.norm.\1"),
    *(
        row
        for stage in (1, 2, 3, 4)
        for number, name in ((1, "a"), (2, "b"), (3, "c"))
        for row in (
            (
                rf"layer{stage}\.(\d+)\.conv{number}\.weight",
                rf"slow.res{stage + 1}.blocks.\1.{name}.conv.weight",
            ),
            (
                rf"layer{stage}\.(\d+)\.bn{number}\.({_NORM})",
                rf"slow.res{stage + 1}.blocks.\1.{name}.norm.\2",
            ),
        )
    ),
    *(
        row
        for stage in (1, 2, 3, 4)
        for row in (
            (
                rf"layer{stage}\.(\d+)\.downsample\.0\.weight",
                rf"slow.res{stage + 1}.blocks.\1.shortcut.conv.weight",
            ),
            (
                rf"layer{stage}\.(\d+)\.downsample\.1\.({_NORM})",
                rf"slow.res{stage + 1}.blocks.\1.shortcut.norm.\2",
            ),
        )
    ),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Args(recipe.Args):
    """Options of the recipe.

    Attributes:
        model: A variant in jaxflow/models/video/slowfast.py or resnet3d.py.
        schedule: Published schedule to follow.
        inflate: Weights of a 2-D ResNet of torchvision's to begin with.
        precise_batches: Batches that the statistics are measured on at the end; 0
            keeps the running ones.
    """

    model: str = "slowfast_4x16_r50"
    schedule: Literal["scratch", "steps", "imagenet"] = "scratch"
    inflate: pathlib.Path | None = None
    precise_batches: int = 200


def measure_statistics(model: nnx.Module, data: recipe.Data, count: int) -> None:
    """Replaces running statistics by means over batches, with the weights as they are.

    Args:
        model: The trained model.
        data: Where batches come from.
        count: How many.
    """
    graph, state = nnx.split(model)
    whole = nnx.merge(graph, state, copy=True)
    for _, node in nnx.iter_graph(whole):
        if isinstance(node, norm.BatchNorm):
            node.momentum = 1.0
    rebuild = train.separate(whole)
    weights = checkpoint.weights_of(whole)

    @jax.jit
    def statistics(clip):
        seen = rebuild(weights["params"], weights["stats"], jax.random.key(0))
        seen(clip)
        return nnx.to_pure_dict(nnx.state(seen, nnx.BatchStat))

    total: Any = None
    for number in range(count):
        if data.draw is not None:
            batch = data.draw(jax.random.fold_in(jax.random.key(1), number))
        else:
            batch = next(data.batches)
        new = statistics(batch["clip"])
        total = new if total is None else jax.tree.map(lambda a, b: a + b, total, new)
    mean = jax.tree.map(lambda array: array / count, total)
    checkpoint.fill(model, {"params": weights["params"], "stats": mean})


def main(args: Args, config: Any = None) -> train.TrainState:
    """Trains, or goes on training, and returns the last state."""
    file = slowfast if args.model in slowfast.VARIANTS else resnet3d
    schedule = SCHEDULES[args.schedule]
    config, data = recipe.prepare(args, config or file.VARIANTS[args.model], schedule)
    model = recipe.build(file.Model, config, args)
    if args.inflate is not None:
        recipe.inflate(model, convert.read_checkpoint(args.inflate), RESNET)
    state = recipe.fit(model, recipe.loss, recipe.sgd(schedule, data), data, args)
    if args.precise_batches:
        measure_statistics(model, data, args.precise_batches)
    recipe.finish(model, args)
    return state


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
