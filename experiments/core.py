"""What all recipes share: options, stages, schedules, optimisers, devices, the run.

A recipe is one file, `flow/raft.py` say. It has a header (the published settings and
their source, the paper's numbers, ours), `STAGES`, a loss and a `main`; what differs
from paper to paper stands there, in plain sight. `flow/recipe.py` and `video/recipe.py`
add what is peculiar to pairs of frames and to clips: where data comes from, and how a
network is tested while it trains.

Stages are run in order, each in a folder of its own: WORKDIR/STAGE. A stage begins with
the last weights of the stage that it follows, or with --start. The same command run
again goes on where it was stopped, inside a stage too.
"""

import dataclasses
import math
import pathlib
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from jaxflow import convert, train
from jaxflow import mesh as meshes
from jaxflow.cli import common
from jaxflow.io import folders, orbax_files
from jaxflow.layers import variables


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What every recipe can be told.

    Attributes:
        workdir: Folder for checkpoints and logs; each stage has its own in it.
        stage: Published stage to run; without it the recipe's own, in order.
        start: What to begin with: a run, a saved model, a file, or the published name
            of weights. Without it a stage begins with the one that it follows.
        steps: Number of steps to shrink each schedule to; 3 is a quick try.
        batch_size: Examples in a batch; without it the published number.
        accumulate: Parts that a batch is split into, which are computed one after the
            other, where it does not fit into memory.
        seed: Of weights, data and augmentation.
        workers: Processes that read data.
        save_every: Steps between checkpoints, and between tests of the network.
        distributed: Address (host:port) of process 0, number of processes and number of
            this one, from 0. Cloud TPU and SLURM need none of it.
    """

    workdir: pathlib.Path
    stage: str | None = None
    start: pathlib.Path | None = None
    steps: int | None = None
    batch_size: int | None = None
    accumulate: int = 1
    seed: int = 0
    workers: int = 0
    save_every: int = 1000
    distributed: tuple[str, int, int] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """A published schedule. Its length, drops and warm-up count steps, or all epochs.

    Attributes:
        rate: Learning rate, at its highest.
        batch_size: Examples in a batch.
        steps: Length, in steps; or
        epochs: length, in passes over the data.
        drops: When the rate is multiplied by `factor`.
        factor: See `drops`.
        cosine: Whether the rate follows half a period of the cosine instead, down to 0.
        warm_up: How long the rate rises, in a line, to where it then is.
        warm_up_rate: Where it rises from.
        rate_grows: Whether the rate grows with the batch, if that is not the published.
        decay: Factor of the weight decay.
        clip: Norm that gradients are clipped to; None leaves them.
        after: Stages that this one follows; it begins with the weights of the first.
        trained: Dotted paths of the parts that learn; () for all. The others stay bit
            for bit, see `hold`.
    """

    rate: float
    batch_size: int
    steps: int = 0
    epochs: float = 0
    drops: tuple[float, ...] = ()
    factor: float = 0.5
    cosine: bool = False
    warm_up: float = 0
    warm_up_rate: float = 0.0
    rate_grows: bool = False
    decay: float = 0.0
    clip: float | None = None
    after: tuple[str, ...] = ()
    trained: tuple[str, ...] = ()


# What may change when a run is resumed: it does not change what is trained.
_OF_THE_MOMENT = {
    *("workdir", "stage", "workers", "distributed", "save_every", "accumulate"),
    *("validate", "held_out", "test", "views", "prepared", "sets", "boxes"),
    *("clips", "sampling_steps", "long", "tasks"),
}
# What the first stage of a command begins with.
_BEGINNINGS = {"start", "inflate"}


class Data(NamedTuple):
    """Where the batches of a stage come from: drawn inside the step, or read.

    Attributes:
        draw: (random key) -> batch, or None.
        batches: Iterator of batches, or None.
        augment: (random key, batch) -> batch, of what is read, or None.
        classes: Names of the classes, of clips that are read.
    """

    draw: Callable | None = None
    batches: Iterator | None = None
    augment: Callable | None = None
    classes: Sequence[str] = ()


def choose(
    stages: Mapping[str, Any], options: Options, own: Sequence[str] = ()
) -> list[str]:
    """Returns the names of the stages to run: the one that is named, or `own`, or all.

    Raises:
        ValueError: If there is no stage of that name.
        OSError: If the folder for the runs cannot be one.
    """
    folders.check_target("`workdir`", options.workdir)
    if options.stage is None:
        return list(own or stages)
    if options.stage not in stages:
        raise ValueError(
            f"`stage` must be one of {list(stages)}; got {options.stage!r}"
        )
    return [options.stage]


def adapt(stage: Any, options: Options, *, epoch: int = 0) -> Any:
    """Returns a published schedule as the options want it, counted in steps.

    Shrinking moves each change of the rate in proportion.

    Args:
        stage: As published.
        options: Of them steps and batch_size.
        epoch: Number of examples in the data, for a stage that counts epochs.

    Raises:
        ValueError: If one of those options is less than 1, or the batch does not divide
            into the parts and the processes.
    """
    for name in ("steps", "batch_size", "accumulate", "save_every"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f"`{name}` must be at least 1; got {value}")
    batch_size = options.batch_size or stage.batch_size
    devices, processes = jax.device_count(), jax.process_count()
    count_devices(
        batch_size, devices, accumulate=options.accumulate, processes=processes
    )
    length = stage.epochs or stage.steps
    published = round(stage.epochs * epoch / batch_size) if stage.epochs else length
    steps = options.steps or max(int(published), 1)
    growth = batch_size / stage.batch_size if stage.rate_grows else 1.0
    return dataclasses.replace(
        stage,
        steps=steps,
        epochs=0,
        batch_size=batch_size,
        drops=tuple(round(at * steps / length) for at in stage.drops),
        warm_up=round(stage.warm_up * steps / length),
        rate=growth * stage.rate,
        warm_up_rate=growth * stage.warm_up_rate,
    )


def pace(stage: Stage, *, share: float = 1.0) -> optax.Schedule:
    """Returns step -> learning rate, or a share of it, of an adapted stage."""

    def settled(step):
        if stage.cosine:
            return 0.5 * stage.rate * (1 + jnp.cos(math.pi * step / stage.steps))
        passed = sum(jnp.where(step >= drop, 1.0, 0.0) for drop in stage.drops)
        return stage.rate * jnp.float32(stage.factor) ** passed

    def at(step):
        step = jnp.asarray(step, jnp.float32)
        value = settled(step)
        if stage.warm_up:
            goal = settled(jnp.float32(stage.warm_up))
            rise = (goal - stage.warm_up_rate) * (step / stage.warm_up)
            value = jnp.where(step < stage.warm_up, stage.warm_up_rate + rise, value)
        return share * value

    return at


def adam(stage: Stage) -> optax.GradientTransformation:
    """Returns Adam with L2 on kernels, as Caffe has it, and gradients clipped to 1."""
    return optax.chain(
        optax.clip_by_global_norm(stage.clip or 1.0),
        optax.add_decayed_weights(stage.decay, mask=kernels),
        optax.adam(pace(stage)),
    )


def sgd(
    stage: Stage,
    *,
    share: float = 1.0,
    nesterov: bool = False,
    mask: Callable | None = None,
) -> optax.GradientTransformation:
    """Returns gradient descent with momentum 0.9.

    Args:
        stage: Its rate, decay and clipping.
        share: Of the rate.
        nesterov: Whether the momentum is Nesterov's.
        mask: Marks what decays; None for all.
    """
    parts = [
        optax.add_decayed_weights(stage.decay, mask=mask),
        optax.sgd(pace(stage, share=share), momentum=0.9, nesterov=nesterov),
    ]
    if stage.clip is not None:
        parts.insert(0, optax.clip_by_global_norm(stage.clip))
    return optax.chain(*parts)


def kernels(params: Any) -> Any:
    """Marks all weights but biases and what normalisation scales by."""
    return jax.tree.map(lambda array: array.ndim > 1, params)


def all_but_norms(params: Any) -> Any:
    """Marks all weights but the scales and shifts of normalisations."""
    if not isinstance(params, Mapping):
        return True
    if "scale" in params:
        return jax.tree.map(lambda _: False, params)
    return {name: all_but_norms(part) for name, part in params.items()}


def only(
    optimiser: optax.GradientTransformation, parts: Sequence[str]
) -> optax.GradientTransformation:
    """Restricts an optimiser to some parts of a model; the others stay bit for bit.

    Args:
        optimiser: For those parts; its clipping sees nothing else.
        parts: Dotted paths in the model: "flownetc", "levels.0".

    Raises:
        ValueError: From `init`, if the model has no such part.
    """

    def labels(params):
        paths, tree = jax.tree_util.tree_flatten_with_path(params)
        names = [
            jax.tree_util.keystr(path, simple=True, separator=".") + "."
            for path, _ in paths
        ]
        for part in parts:
            if not any(name.startswith(f"{part}.") for name in names):
                raise ValueError(f"`trained`: the model has no part {part!r}")
        starts = tuple(f"{part}." for part in parts)
        marks = ["trained" if name.startswith(starts) else "fixed" for name in names]
        return jax.tree.unflatten(tree, marks)

    return optax.partition({"trained": optimiser, "fixed": optax.set_to_zero()}, labels)


def hold(loss: train.Loss, trained: Sequence[str]) -> train.Loss:
    """Returns a loss in which a model learns in some parts alone.

    What is in none of them has no gradient, and is in evaluation mode: normalisations
    use their running statistics and leave them as they are, and nothing is dropped.
    Modules that contain one of the parts keep the mode that they are in.

    Args:
        loss: (model, batch) -> loss.
        trained: Dotted paths of the parts, as `only` takes them.
    """

    def held(model: Any, batch: Any):
        for path, node in list(nnx.iter_graph(model)):
            name = ".".join(map(str, path)) + "."
            if any(name.startswith(f"{part}.") for part in trained):
                continue
            if isinstance(node, nnx.Param):
                variables.replace(node, jax.lax.stop_gradient(node[...]))
            elif not any(f"{part}.".startswith(name) for part in ("", *trained)):
                for mode in ("deterministic", "use_running_average"):
                    if isinstance(node, nnx.Module) and hasattr(node, mode):
                        setattr(node, mode, True)
        return loss(model, batch)

    return held


def count_devices(
    batch_size: int, devices: int, *, accumulate: int = 1, processes: int = 1
) -> int:
    """Returns over how many devices a batch is split: as many as divide it.

    Args:
        batch_size: Examples in a batch, of all processes.
        devices: How many there are, of all processes.
        accumulate: Parts of the batch that are computed one after the other.
        processes: Number of them. Each takes the same share of a part and has the same
            number of devices.

    Returns:
        A multiple of `processes`.

    Raises:
        ValueError: If a batch does not divide into the parts and the processes.
    """
    for name, parts in (("accumulate", accumulate), ("processes", processes)):
        if parts < 1 or batch_size % parts:
            raise ValueError(
                f"`{name}` must divide the batch of {batch_size}; got {parts}"
            )
    if batch_size % (accumulate * processes):
        raise ValueError(
            f"`accumulate` times the number of processes must divide the batch of "
            f"{batch_size}; got {accumulate} x {processes}"
        )
    share = batch_size // (accumulate * processes)
    own = devices // processes
    return processes * max(n for n in range(1, own + 1) if share % n == 0)


def device_mesh(batch_size: int, *, accumulate: int = 1) -> Mesh:
    """Returns the devices that a batch is split over, and says which stay idle."""
    found, processes = jax.devices(), jax.process_count()
    count = count_devices(
        batch_size, len(found), accumulate=accumulate, processes=processes
    )
    used: list[jax.Device] = []
    for process in range(processes):
        own = [device for device in found if device.process_index == process]
        used += own[: count // processes]
    idle = ", ".join(str(device) for device in found if device not in used)
    if idle:
        parts = f" in {accumulate} parts" if accumulate > 1 else ""
        say(
            f"a batch of {batch_size}{parts} runs on {count} of {len(found)} devices; "
            f"idle: {idle}"
        )
    return meshes.data_mesh(used)


def say(text: str) -> None:
    """Prints a line for whoever watches, once and not to the results."""
    if jax.process_index() == 0:
        print(text, file=sys.stderr, flush=True)


def identity(
    options: Any, stage: Stage | None = None, *, first: bool = True
) -> dict[str, Any]:
    """Returns what a run is, for its record: all that decides what is trained.

    Args:
        options: What the recipe was told, a dataclass.
        stage: From `adapt`; what it settles, such as batch_size, is told as it has it.
        first: Whether this is the first stage of the command, which `start` is for.
    """
    settled = {} if stage is None else dataclasses.asdict(stage)
    left_out = _OF_THE_MOMENT | (set() if first else _BEGINNINGS)
    if "presets" in settled:
        left_out |= {"preset"}
    told = {
        field.name: getattr(options, field.name)
        for field in dataclasses.fields(options)
        if field.name not in left_out
    }
    return told | {k: v for k, v in settled.items() if k not in left_out}


def defaults(*kinds: Any) -> dict[str, Any]:
    """Returns the defaults of the fields of dataclasses; later ones count.

    Args:
        *kinds: Dataclasses, or objects of them.
    """
    found: dict[str, Any] = {}
    for field in (field for kind in kinds for field in dataclasses.fields(kind)):
        if field.default_factory is not dataclasses.MISSING:
            found[field.name] = field.default_factory()
        elif field.default is not dataclasses.MISSING:
            found[field.name] = field.default
    return found


def seeded(options: Options) -> nnx.Rngs:
    """Returns the source of initial weights."""
    return nnx.Rngs(jax.random.key(options.seed, impl="rbg"))


def has_begun(name: str, options: Options) -> bool:
    """Tells whether there is a checkpoint of a stage, from which it goes on."""
    return orbax_files.steps_folder(options.workdir / name) is not None


def begin(model: Any, name: str, stage: Stage, options: Options, *, first: bool) -> Any:
    """Fills a model with what its stage begins with, and says what that is.

    A classifier begins anew if it is for another number of classes. How clips are cut,
    and how much is dropped out, is each stage's own.

    Args:
        model: With fresh weights; it is changed.
        name: Of the stage.
        stage: The stage that it follows is looked for in the folder of the runs.
        options: Of them start and workdir.
        first: Whether this is the first stage of the command, which `start` is for.

    Returns:
        `model`.
    """
    source: pathlib.Path | None = None
    if first and options.start is not None:
        source = find_start(options.start, stage)
    elif stage.after:
        source = last_step(options.workdir / stage.after[0])
    if source is not None:
        with warnings.catch_warnings():
            differs = ".*: the weights were saved from a model with "
            warnings.filterwarnings("ignore", differs, UserWarning)
            convert.load_weights(model, source, head="match")
        say(f"{name}: begins with {source}")
    elif stage.after:
        say(
            f"{name}: begins with new weights: {options.workdir} has no run of "
            f"{stage.after[0]!r}, and there is no --start"
        )
    return model


def find_start(start: pathlib.Path, stage: Stage) -> pathlib.Path:
    """Returns what `start` means to a stage: itself, or a stage's run inside it.

    Raises:
        ValueError: If it is a folder of several runs, none of which the stage follows.
    """
    if orbax_files.steps_folder(start) or orbax_files.is_checkpoint(start):
        return last_step(start) or start
    if not start.is_dir():
        return start
    runs = {each.name: step for each in start.iterdir() if (step := last_step(each))}
    for name in stage.after:
        if name in runs:
            return runs[name]
    if len(runs) > 1:
        raise ValueError(f"`start`: {start} has several runs {sorted(runs)}; name one")
    return next(iter(runs.values()), start)


def last_step(run: pathlib.Path) -> pathlib.Path | None:
    """Returns the last checkpoint of a run; None if it has none.

    It is where the learning rate has come down, and not the one of the lowest training
    loss, which is that of few batches. A folder without steps is a saved model itself.
    """
    steps = orbax_files.steps_folder(run)
    if steps is not None:
        return steps / str(orbax_files.steps_in(steps)[-1])
    return run if orbax_files.is_checkpoint(run) else None


def fit(
    model: Any,
    loss: train.Loss,
    optimiser: optax.GradientTransformation,
    data: Data,
    *,
    name: str,
    stage: Stage,
    options: Options,
    seed: int,
    first: bool = True,
    evaluate: Callable[[train.TrainState], Mapping[str, float]] | None = None,
) -> train.TrainState:
    """Trains a stage, or goes on training it, and leaves the weights in `model`.

    Args:
        model: Its initial weights.
        loss: (model, batch) -> loss.
        optimiser: For this stage, and all of the model's parts.
        data: Where batches come from.
        name: Of the stage, and of its folder.
        stage: From `adapt`.
        options: What the recipe was told.
        seed: Of the data.
        first: Whether this is the first stage of the command, which `start` is for.
        evaluate: (state) -> metrics, at each checkpoint.

    Returns:
        The last state.
    """
    devices = device_mesh(stage.batch_size, accumulate=options.accumulate)
    if stage.trained:
        optimiser = only(optimiser, stage.trained)
        loss = hold(loss, stage.trained)
    step = train.make_step(
        model,
        loss,
        optimiser,
        draw=data.draw,
        augment=data.augment,
        mesh=devices,
        accumulate=options.accumulate,
    )
    state = train.fit(
        step,
        train.init(model, optimiser, seed=seed),
        data.batches,
        steps=stage.steps,
        workdir=options.workdir / name,
        save_every=options.save_every,
        config=identity(options, stage, first=first),
        defaults=defaults(options, stage),
        evaluate=evaluate,
    )
    train.finish(model, state)
    return state


def command(main: Callable, options: type, description: str | None) -> None:
    """Runs a script from the command line; what ends it early is said in one line.

    Its exit code is 1 after what it refuses, 130 after Ctrl-C, and 143 after SIGTERM.

    Args:
        main: (options) -> anything.
        options: A dataclass; with the field `distributed` of `Options`, or none.
        description: The header of the script.
    """
    import tyro

    with common.quiet_if_unread():  # its --help
        told = tyro.cli(options, description=description)
    if hasattr(told, "distributed"):
        address, count, number = told.distributed or (None, None, None)
        meshes.start_processes(address, num_processes=count, process_id=number)
    usual, warnings.formatwarning = warnings.formatwarning, _warning
    try:
        main(told)
    except (KeyboardInterrupt, SystemExit) as stop:
        code = 130 if isinstance(stop, KeyboardInterrupt) else stop.code
        if code not in (130, 143):
            raise
        # `train.fit` notes which step of its run is saved; JAX notes other things.
        notes = [x for x in getattr(stop, "__notes__", ()) if x.startswith("step ")]
        kept = f"; {notes[0]}; the same command goes on from there" if notes else ""
        say(f"stopped{kept}")
        sys.exit(code)
    except (ValueError, OSError) as error:
        if sys.flags.dev_mode:
            raise
        where = "python -X dev shows where"
        sys.exit(f"{type(error).__name__}: {error} ({where})")
    finally:
        warnings.formatwarning = usual


def _warning(message: Warning | str, *_: Any) -> str:
    """Returns a warning as one line, without the line of code that gave it."""
    return f"warning: {' '.join(str(message).split())}\n"
