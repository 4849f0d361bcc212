"""SlowFast on Kinetics with clips of changing length and size ("multigrid").

    python experiments/video/multigrid.py --data kinetics/train.csv \
        --test kinetics/val.csv --workdir runs/multigrid
    python experiments/video/multigrid.py --model slow_r50 --task fastslow --width 16 \
        --size 64 --workdir runs/small

Wu, Girshick, He, Feichtenhofer, Kraehenbuehl, "A Multigrid Method for Efficiently
Training Video Models" (CVPR 2020). Runs multigrid in its folder of --workdir; run
again, it goes on where it was stopped. Without --data, clips are drawn. A shorter
--steps shrinks the schedule.

    long cycle, by turns      frames   side       clips in a batch, of each short cycle
    1st                       T / 4    0.71 S     16 B, 8 B, 8 B
    2nd                       T / 2    0.71 S     8 B, 4 B, 4 B
    3rd                       T / 2    S          8 B, 4 B, 2 B
    4th                       T        S          4 B, 2 B, B

A short cycle is three steps, with sides of 0.5 S, 0.71 S and that of the long cycle;
clips x frames x area is that of the published batch, B x T x S x S, but for rounding.
There are 8 shapes, each of which is compiled once. The four turns, of the same number
of steps, are gone through at each rate of the schedule "steps" of slowfast.py, 0.1,
0.01 and 0.001, times the clips of the last step of a short cycle over B; then T and S
stay, at 0.001 and 0.0001. It sees each video 1.5 times as often, 358 times, and warms
up for 34 of these from 0.01.

    Kinetics-400, 30 views, top-1   PySlowFast   we got
    slowfast_8x8_r50                76.6         not run yet

Source, of the number too: PySlowFast, slowfast/utils/multigrid.py and
configs/Kinetics/SLOWFAST_8x8_R50_stepwise_multigrid.yaml. The rest is as in
slowfast.py. Deviations: a batch is normalised as a whole, there each 8 clips; turns end
between steps, there between epochs.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import precise_norm
import recipe
from recipe import core

from jaxflow import train
from jaxflow.data import clips, motion_classes
from jaxflow.models.video import resnet3d, slowfast

LONG = ((0.25, 0.5**0.5), (0.5, 0.5**0.5), (0.5, 1.0), (1.0, 1.0))
SHORT = (0.5, 0.5**0.5)
# Epochs at which the rate of the plain schedule falls, and its length.
DROPS, LENGTH = (94, 154, 196), 239
MORE, WARM_UP = 1.5, 34


class Shape(NamedTuple):
    """Shape of a batch: clips over the published number, frames and side."""

    clips: int
    frames: int
    side: int


class Phase(NamedTuple):
    """A turn of the long cycle.

    Attributes:
        shapes: Of the three steps of its short cycles.
        drops: How often the rate has fallen.
        passes: Length: steps times the published batch, in passes over the data.
    """

    shapes: tuple[Shape, ...]
    drops: int
    passes: float

    @property
    def epochs(self) -> float:
        """Length in passes over the data."""
        return self.passes * sum(shape.clips for shape in self.shapes) / 3


def short_cycle(frames: int, size: int, factors: tuple[float, float]) -> tuple:
    """Returns the three shapes of a short cycle.

    Args:
        frames: Of the published clip.
        size: Its side.
        factors: Of the long cycle, on the frames and on the side.
    """
    length = max(round(frames * factors[0]), 1)
    return tuple(
        Shape(round(1 / (factors[0] * side**2)), length, max(round(size * side), 1))
        for side in (*SHORT, factors[1])
    )


def phases(frames: int, size: int) -> list[Phase]:
    """Returns the whole schedule for a clip of so many frames and such a side."""
    cycles = [short_cycle(frames, size, factors) for factors in LONG]
    mean = [sum(shape.clips for shape in cycle) / 3 for cycle in cycles]
    found, start = [], 0
    for drops, end in enumerate(DROPS):
        for cycle in cycles:
            found.append(Phase(cycle, drops, (end - start) / sum(mean)))
        start = end
    saving = DROPS[-1] / sum(phase.passes for phase in found)
    found.append(Phase(cycles[-1], len(DROPS), (LENGTH - DROPS[-1]) / saving))
    scale = MORE * LENGTH / sum(phase.epochs for phase in found)
    return [phase._replace(passes=scale * phase.passes) for phase in found]


def ends(schedule: Sequence[Phase], steps: int) -> list[int]:
    """Returns the step behind the last of each phase, where all take `steps`."""
    lengths = np.cumsum([phase.passes for phase in schedule])
    return [round(steps * end / lengths[-1]) for end in lengths]


def shape_at(schedule: Sequence[Phase], last: Sequence[int], step: int) -> Shape:
    """Returns the shape of the batch of a step, counted from 0."""
    place = next((i for i, end in enumerate(last) if step < end), len(last) - 1)
    return schedule[place].shapes[step % 3]


def pace(schedule: Sequence[Phase], stage: core.Stage) -> optax.Schedule:
    """Returns step -> learning rate, of an adapted stage."""
    last = ends(schedule, stage.steps)
    *turns, final = schedule
    changes = [0, *last[:-1], (last[-2] + last[-1]) // 2]
    rates = [0.1**phase.drops * phase.shapes[-1].clips for phase in turns]
    rates += [0.1 ** (final.drops - 1), 0.1**final.drops]
    table = stage.rate * jnp.array(rates, jnp.float32)
    rise = warm_up(schedule) / sum(phase.passes for phase in schedule) * stage.steps

    def settled(step):
        place = jnp.sum(step >= jnp.array(changes, jnp.float32)) - 1
        return table[place]

    def at(step):
        step = jnp.asarray(step, jnp.float32)
        goal = settled(jnp.float32(rise))
        value = stage.warm_up_rate + (goal - stage.warm_up_rate) * step / rise
        return jnp.where(step < rise, value, settled(step))

    return at


def warm_up(schedule: Sequence[Phase]) -> float:
    """Returns the length of the warm-up, in passes as `Phase.passes`."""
    left, passes = float(WARM_UP), 0.0
    for phase in schedule:
        share = min(1.0, left / phase.epochs)
        passes, left = passes + share * phase.passes, left - share * phase.epochs
    return passes


class Batches(Iterator):
    """Batches of the shapes of a schedule, whose position can be kept.

    Args:
        schedule: From `phases`.
        steps: Number of steps.
        make: (shape, number of the step) -> batch.
        loaders: Shape -> iterator with `get_state` and `set_state`, which are kept too.
    """

    def __init__(
        self,
        schedule: Sequence[Phase],
        steps: int,
        make: Callable[[Shape, int], Any],
        loaders: Mapping[Shape, Any],
    ):
        self._schedule, self._last = schedule, ends(schedule, steps)
        self._make, self._loaders, self._step = make, loaders, 0

    def __next__(self) -> Any:
        shape = shape_at(self._schedule, self._last, self._step)
        self._step += 1
        return self._make(shape, self._step - 1)

    def get_state(self) -> dict[str, Any]:
        """Returns the position."""
        own = {
            str(i): each.get_state() for i, each in enumerate(self._loaders.values())
        }
        return {"step": self._step, "loaders": own}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Returns to a position."""
        self._step = int(state["step"])
        for number, each in enumerate(self._loaders.values()):
            each.set_state(state["loaders"][str(number)])


def feed(args: recipe.Args, config: Any, stage: recipe.Stage) -> core.Data:
    """Returns the batches of a run, of videos or drawn.

    Args:
        args: What the recipe was told.
        config: Of the model, fitted to the data.
        stage: From `core.adapt`.
    """
    schedule = phases(config.num_frames, config.crop_size)
    shapes = sorted({shape for phase in schedule for shape in phase.shapes})
    path = recipe.place(args.data)
    if path is None:
        make = functools.partial(draw, args, stage)
        return core.Data(batches=Batches(schedule, stage.steps, make, {}))
    source = clips.Videos(
        path, part="train", first_label=args.first_label, videos=args.videos
    )
    loaders = {
        shape: iter(load(source, args, config, stage, shape)) for shape in shapes
    }
    batches = Batches(
        schedule, stage.steps, lambda shape, _: next(loaders[shape]), loaders
    )
    return core.Data(batches=batches, augment=recipe.as_float)


def load(source: Any, args: recipe.Args, config: Any, stage: Any, shape: Shape) -> Any:
    """Returns a loader of clips of one shape, of the same span as the published."""
    return clips.clip_loader(
        source,
        batch_size=shape.clips * stage.batch_size // jax.process_count(),
        num_frames=shape.frames,
        stride=config.frame_stride * config.num_frames / shape.frames,
        size=shape.side,
        short_side=tuple(round(shape.side * scale) for scale in stage.short_side),
        flip=stage.flip,
        seed=args.seed,
        shard=(jax.process_index(), jax.process_count()),
        workers=args.workers,
        uint8=True,
    )


def draw(args: recipe.Args, stage: Any, shape: Shape, step: int) -> Any:
    """Draws the share of this process in the batch of a step."""
    key = jax.random.fold_in(jax.random.key(args.seed), step)
    batch = _draw(
        jax.random.fold_in(key, jax.process_index()),
        task=stage.task,
        batch_size=shape.clips * stage.batch_size // jax.process_count(),
        frames=shape.frames,
        size=(shape.side, shape.side),
    )
    return jax.tree.map(np.asarray, batch)


_draw = jax.jit(
    motion_classes.clip_batch,
    static_argnames=("task", "batch_size", "frames", "size"),
)
STAGES = {
    "multigrid": recipe.Stage(
        sets=("kinetics",),
        epochs=sum(phase.passes for phase in phases(32, 224)),
        rate=0.1,
        batch_size=64,
        warm_up_rate=0.01,
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


def make_optimiser(stage: recipe.Stage) -> optax.GradientTransformation:
    """Returns SGD with Nesterov's momentum; normalisations do not decay."""
    rate = pace(phases(32, 224), stage)
    return optax.chain(
        optax.add_decayed_weights(stage.decay, mask=core.all_but_norms),
        optax.sgd(rate, momentum=0.9, nesterov=True),
    )


def main(args: Args, config: Any = None) -> train.TrainState:
    """Trains, or goes on training, and returns the last state."""
    known = resnet3d.VARIANTS | slowfast.VARIANTS
    if args.model not in known:
        raise ValueError(f"`model` must be one of {sorted(known)}; got {args.model!r}")
    file = slowfast if args.model in slowfast.VARIANTS else resnet3d

    def end(model: Any, data: core.Data, stage: recipe.Stage) -> None:
        if args.precise_batches and not stage.trained:
            precise_norm.measure_statistics(model, data, args.precise_batches)

    return recipe.run(
        args,
        STAGES,
        file.Model,
        config or known[args.model],
        optimiser=make_optimiser,
        feed=feed,
        end=end,
    )


if __name__ == "__main__":
    core.command(main, Args, __doc__)
