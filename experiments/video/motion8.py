"""Which nets see motion: rivals on clips whose class is how they move, nothing else.

    python experiments/video/motion8.py
    python experiments/video/motion8.py --task fastslow --output runs/fastslow

Nets are trained on clips that are drawn inside the step, and tested on 4000 that no
training draws. "In pair" is how often the right class has a higher score than its time
reversal: a net that ignores the order of frames is at 50 %, whatever it learns. Writes
a picture (clips, learning curves, confusion) and a JSON line a net.

    4000 test clips of motion8    top-1     in pair    time on 2 cores
    3-D, 300 steps                100.0 %   100.0 %    0.9 min
    RepFlow, 120 steps            100.0 %   100.0 %    0.9 min
    single frame, 300 steps        12.3 %    49.8 %    0.4 min
"""

import dataclasses
import functools
import json
import pathlib
import time
from collections.abc import Callable
from typing import Any, Literal

import jax
import numpy as np
import optax
import recipe
from flax import nnx

from jaxflow import cost, io, ops, train
from jaxflow.data import motion_classes
from jaxflow.io import files, folders
from jaxflow.layers import representation_flow
from jaxflow.models.video import r3d, repflow, resnet3d, slowfast

# Clips that go through a net at once when it is tested.
CHUNK = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class Net:
    """One rival.

    Attributes:
        file: The module of its model.
        config: The model's numbers, but for what the task decides.
        steps: Steps of training.
        rate: Highest learning rate.
        view: What it sees of a clip.
    """

    file: Any
    config: Any
    steps: int = 300
    rate: float = 4e-3
    view: Callable[[jax.Array], jax.Array] = lambda clip: clip


_SMALL = {"blocks": (1, 1, 1), "width": 16, "dropout_rate": 0.0}
_FRAMES = repflow.Config(flow="none", **_SMALL)
_REPFLOW = dataclasses.replace(
    _FRAMES, flow="single", location="input", inner_features=4, iterations=5
)
_PATHWAYS = {"blocks": (1, 1, 1, 1), "width": 16, "dropout_rate": 0.0}
NETS = {
    "3-D": Net(file=r3d, config=r3d.Config(kinds=("3d",) * 3, **_SMALL)),
    "RepFlow": Net(file=repflow, config=_REPFLOW, steps=120),
    "flow of flow": Net(
        file=repflow,
        config=dataclasses.replace(_REPFLOW, flow="flow_conv_flow"),
    ),
    "RepFlow + frames": Net(
        file=repflow, config=dataclasses.replace(_REPFLOW, fusion="late")
    ),
    "single frame": Net(file=repflow, config=_FRAMES),
    "SlowFast": Net(
        file=slowfast,
        config=slowfast.Config(
            sampling="stride", fast_input="half_size", beta_inv=4, **_PATHWAYS
        ),
    ),
    "Slow": Net(
        file=resnet3d,
        config=resnet3d.Config(**_PATHWAYS),
        view=lambda clip: clip[:, ::8],
    ),
    "Fast": Net(
        file=resnet3d,
        config=resnet3d.Config(
            stem_window=5, windows=((3,),) * 4, **_PATHWAYS | {"width": 4}
        ),
        view=lambda clip: ops.avg_pool(clip, 2),
    ),
}
RIVALS = {
    "motion8": ("3-D", "RepFlow", "single frame"),
    "motion8-local": ("3-D", "RepFlow", "single frame"),
    "order2": ("3-D", "flow of flow", "RepFlow", "single frame"),
    "product": ("3-D", "RepFlow + frames", "RepFlow", "single frame"),
    "fastslow": ("SlowFast", "Slow", "Fast"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Args:
    """Options.

    Attributes:
        task: Which motions are told apart.
        nets: Names of `NETS` to train; () takes the task's rivals.
        steps: Steps of training; None takes each net's.
        batch_size: Clips in a batch.
        test_clips: Clips to test with.
        seed: Of weights and training clips.
        output: Folder for the picture and the JSON lines.
    """

    task: Literal["motion8", "motion8-local", "order2", "product", "fastslow"] = (
        "motion8"
    )
    nets: tuple[str, ...] = ()
    steps: int | None = None
    batch_size: int = 32
    test_clips: int = 4000
    seed: int = 0
    output: pathlib.Path = pathlib.Path("runs/motion8")


@dataclasses.dataclass(frozen=True)
class Result:
    """What became of a net.

    Attributes:
        name: The net's.
        parameters: How many it has.
        seconds: Of training, compilation included.
        curve: (step, share of clips that are right), while training.
        confusion: How often class i (row) was taken for class j.
        in_pair: Share of clips whose class has a higher score than its time reversal;
            None without such pairs.
    """

    name: str
    parameters: int
    seconds: float
    curve: list[tuple[int, float]]
    confusion: np.ndarray
    in_pair: float | None

    @property
    def top1(self) -> float:
        """Share of test clips that are right."""
        return float(np.trace(self.confusion) / np.sum(self.confusion))

    def summary(self) -> dict[str, Any]:
        """Returns what is printed."""
        return {
            "net": self.name,
            "top1": round(self.top1, 4),
            "in_pair": None if self.in_pair is None else round(self.in_pair, 4),
            "minutes": round(self.seconds / 60, 2),
            "steps": self.curve[-1][0],
            "parameters": self.parameters,
        }


def make_optimiser(net: Net, steps: int) -> optax.GradientTransformation:
    """Returns Adam along a cosine; what flow layers learn, at a hundredth of its rate.

    Args:
        net: The rival.
        steps: Length of the run.
    """
    pace = optax.warmup_cosine_decay_schedule(0.0, net.rate, steps // 10, steps)
    shares = {"other": optax.identity(), "flow": optax.scale(0.01)}
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(pace, weight_decay=1e-4),
        optax.partition(shares, representation_flow.parameter_labels),
    )


def train_net(name: str, args: Args) -> tuple[Any, Result]:
    """Trains a net and tests it: the model and the result."""
    net, task = NETS[name], motion_classes.TASKS[args.task]
    steps = args.steps or net.steps
    config = dataclasses.replace(
        net.config,
        num_classes=len(task.classes),
        crop_size=task.size[0],
        num_frames=task.frames,
    )
    began = time.perf_counter()
    rngs = nnx.Rngs(jax.random.key(args.seed, impl="rbg"))
    model = net.file.Model(config, rngs=rngs)

    def loss(model, batch):
        return recipe.classification(model(net.view(batch["clip"])), batch["label"])

    optimiser = make_optimiser(net, steps)
    draw = functools.partial(
        motion_classes.clip_batch, task=args.task, batch_size=args.batch_size
    )
    devices = recipe.core.device_mesh(args.batch_size)
    step = train.make_step(model, loss, optimiser, draw=draw, mesh=devices)
    state = train.init(model, optimiser, seed=args.seed)
    curve = []
    # A run a point of the curve: each goes on where the one before ended.
    for last in np.linspace(0, steps, 1 + min(steps, 20)).astype(int)[1:]:
        seen = []
        while int(state.step) < last:
            state, metrics = step.run(state)
            seen.append(metrics["top1"])
        curve.append((int(last), float(np.mean(jax.device_get(seen)))))
    train.finish(model, state)
    seconds = time.perf_counter() - began
    confusion, in_pair = test(model, net, args)
    count = cost.count_parameters(model)
    return model, Result(name, count, seconds, curve, confusion, in_pair)


def test(model: Any, net: Net, args: Args) -> tuple[np.ndarray, float | None]:
    """Returns the confusion of the classes, and how often a pair is told apart."""
    task = motion_classes.TASKS[args.task]
    graph, weights = nnx.split(model)
    score = jax.jit(lambda weights, clip: nnx.merge(graph, weights)(net.view(clip)))
    data = motion_classes.load("test", args.test_clips, task=args.task)
    labels = np.asarray(data["label"])
    scores = np.concatenate(
        [
            np.asarray(score(weights, data["clip"][start : start + CHUNK]))
            for start in range(0, args.test_clips, CHUNK)
        ]
    )
    confusion = np.zeros((len(task.classes),) * 2, int)
    np.add.at(confusion, (labels, np.argmax(scores, axis=-1)), 1)
    paired = np.flatnonzero(labels < 2 * task.pairs)
    if not len(paired):
        return confusion, None
    own = scores[paired, labels[paired]]
    reverse = scores[paired, labels[paired] ^ 1]
    return confusion, float(np.mean(own > reverse))


def draw_picture(args: Args, results: list[Result]) -> np.ndarray:
    """Draws a clip of each class, the learning curves and the best net's confusion."""
    from matplotlib import figure
    from matplotlib.backends import backend_agg

    task = motion_classes.TASKS[args.task]
    shown = min(len(task.classes), 8)
    clips = np.asarray(
        motion_classes.load("train", len(task.classes), task=args.task)["clip"]
    )
    page = figure.Figure(figsize=(12, 9), layout="constrained")
    left, right = page.subfigures(1, 2, width_ratios=(1, 1))
    places = np.linspace(0, task.frames - 1, min(task.frames, 8)).astype(int)
    rows = left.subplots(shown, 1)
    for axes, clip, name in zip(rows, clips, task.classes, strict=False):
        axes.imshow(np.concatenate(clip[places], axis=1))
        axes.set(xticks=[], yticks=[])
        axes.set_title(name, fontsize=9, loc="left", pad=2)
    left.suptitle(f"{args.task}: {len(places)} frames of a clip of each class")
    above, below = right.subplots(2, 1)
    for result in results:
        x, y = zip(*result.curve, strict=True)
        text = f"{result.name}: {100 * result.top1:.1f} % of test clips"
        if result.in_pair is not None:
            text += f", in pair {100 * result.in_pair:.1f} %"
        above.plot(x, 100 * np.array(y), label=text)
    above.axhline(100 / len(task.classes), color="grey", linestyle=":", label="chance")
    above.set(xlabel="step", ylabel="training clips right, %", ylim=(0, 102))
    above.legend(fontsize=8)
    worst = min(results, key=lambda result: result.top1)
    share = worst.confusion / np.maximum(worst.confusion.sum(1, keepdims=True), 1)
    below.imshow(share, vmin=0, vmax=1, cmap="Blues")
    ticks = range(len(task.classes))
    below.set_xticks(ticks, task.classes, rotation=90, fontsize=7)
    below.set_yticks(ticks, task.classes, fontsize=7)
    below.set(xlabel="taken for", title=f"what the net called {worst.name!r} mixes up")
    canvas = backend_agg.FigureCanvasAgg(page)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def main(args: Args) -> list[Result]:
    """Trains and tests the rivals, prints a line each, and draws the picture."""
    folders.check_target("--output", args.output)
    args.output.mkdir(parents=True, exist_ok=True)
    results = []
    for name in args.nets or RIVALS[args.task]:
        _, result = train_net(name, args)
        results.append(result)
        print(json.dumps({"task": args.task} | result.summary()), flush=True)
    lines = [json.dumps({"task": args.task} | each.summary()) for each in results]
    text = "\n".join(lines) + "\n"
    files.write_bytes(args.output / "results.jsonl", text.encode())
    io.write_image(args.output / "motion8.png", draw_picture(args, results))
    return results


if __name__ == "__main__":
    recipe.core.command(main, Args, __doc__)
