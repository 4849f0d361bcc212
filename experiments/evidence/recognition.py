"""Runs of the bench that recognise motion: small networks on clips drawn as they train.

A run is trained on clips that are drawn inside the step, and tested on clips of the
test split that no other seed is tested on. All its seeds share one compiled program.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import lax

from jaxflow import ops, train
from jaxflow.data import motion_classes
from jaxflow.layers import representation_flow
from jaxflow.models.video import c3d_depth, r3d, repflow, resnet3d, slowfast
from jaxflow.train import step as training

# Clips that go through a network at once when it is tested.
CHUNK = 100
# Steps of training that one call of the compiled program takes.
STRIDE = 25

View = Callable[[jax.Array, jax.Array], jax.Array]


def as_it_is(key: jax.Array, clips: jax.Array) -> jax.Array:
    """Returns the clips."""
    return clips


def shuffled(key: jax.Array, clips: jax.Array) -> jax.Array:
    """Puts the frames of each clip, (B, T, H, W, C), in an order of its own."""
    count, frames = clips.shape[:2]
    keys = jax.random.split(key, count)
    orders = jax.vmap(lambda key: jax.random.permutation(key, frames))(keys)
    return jnp.take_along_axis(clips, orders[:, :, None, None, None], axis=1)


def averaged(key: jax.Array, clips: jax.Array) -> jax.Array:
    """Returns the mean frame of each clip, twice: (B, 2, H, W, C)."""
    mean = jnp.mean(clips, axis=1, keepdims=True)
    return jnp.concatenate([mean, mean], axis=1)


def every_eighth(key: jax.Array, clips: jax.Array) -> jax.Array:
    """Returns every eighth frame."""
    return clips[:, ::8]


def half_size(key: jax.Array, clips: jax.Array) -> jax.Array:
    """Returns the clips at half their size, means of 2 x 2 pixels."""
    return ops.avg_pool(clips, 2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """One network on one task.

    Attributes:
        task: A name in `motion_classes.TASKS`, or "linked": the four motions of
            "product", each in a tint of its own in training.
        file: The module of the model.
        config: The model's numbers, but for what the task decides.
        steps: Steps of training, a multiple of 25.
        batch_size: Clips a step.
        rate: Highest learning rate; of what a flow layer learns, a tenth.
        size: Side of the frames.
        frames: Length of the clips; None takes the task's.
        view: What the network sees of the clips, (key, clips) -> clips.
        test_clips: Clips that each seed is tested on.
    """

    task: str
    file: Any
    config: Any
    steps: int = 150
    batch_size: int = 16
    rate: float = 6e-3
    size: int = 16
    frames: int | None = None
    view: View = as_it_is
    test_clips: int = 800

    @property
    def classes(self) -> int:
        """Number of classes."""
        return (
            4 if self.task == "linked" else len(motion_classes.TASKS[self.task].classes)
        )

    @property
    def length(self) -> int:
        """Number of frames of a clip."""
        return self.frames or motion_classes.TASKS[set_of(self.task)].frames


_SMALL: dict[str, Any] = {"blocks": (1,), "width": 8, "dropout_rate": 0.0}
_FRAMES = repflow.Config(flow="none", **_SMALL)
_FLOW = dataclasses.replace(
    _FRAMES, flow="single", location="input", inner_features=3, iterations=5
)
_FIXED: representation_flow.Learn = (0, 0, 0, 0, 0)


def _repflow(**changes: Any) -> dict[str, Any]:
    """Returns the model of a run with representation flow."""
    return {"file": repflow, "config": dataclasses.replace(_FLOW, **changes)}


def _depths(*depths: int) -> dict[str, Any]:
    """Returns the model of a run whose convolutions span so many frames."""
    config = c3d_depth.Config(
        depths=depths, width=4, dense_features=32, dropout_rate=0.0
    )
    return {"file": c3d_depth, "config": config}


_SINGLE = {"file": repflow, "config": _FRAMES}
_THREE_D = {
    "file": r3d,
    "config": r3d.Config(kinds=("3d",), **_SMALL | {"width": 6}),
}
_BLIND: dict[str, Any] = {"task": "motion8", "test_clips": 1600}
_LOCAL: dict[str, Any] = {"task": "motion8-local"}
_ORDER: dict[str, Any] = {"task": "order2"}
_DEPTH: dict[str, Any] = {"task": "motion8", "rate": 3e-3}
_PATHWAYS: dict[str, Any] = {"blocks": (1, 1, 1, 1), "width": 8, "dropout_rate": 0.0}
_FASTSLOW: dict[str, Any] = {"task": "fastslow", "size": 32, "steps": 200}

RUNS: Mapping[str, Run] = {
    "order/single frame": Run(**_BLIND, **_SINGLE),
    "order/mean frame": Run(view=averaged, **_BLIND, **_SINGLE),
    "order/3-D, shuffled": Run(view=shuffled, **_BLIND, **_THREE_D),
    "order/3-D": Run(**_BLIND, **_THREE_D),
    "bias/RGB": Run(task="linked", **_THREE_D),
    "bias/flow": Run(task="linked", **_repflow(learn=_FIXED)),
    "local/RGB": Run(**_LOCAL, **_SINGLE),
    "local/3-D": Run(**_LOCAL, **_THREE_D),
    "local/fixed, 5": Run(**_LOCAL, **_repflow(learn=_FIXED)),
    "local/1": Run(**_LOCAL, **_repflow(iterations=1)),
    "local/5": Run(**_LOCAL, **_repflow()),
    "local/10": Run(**_LOCAL, **_repflow(iterations=10)),
    "local/20": Run(**_LOCAL, **_repflow(iterations=20)),
    "local/5, gradients learn": Run(**_LOCAL, **_repflow(learn=(1, 1, 1, 1, 1))),
    "local/5, late fusion": Run(**_LOCAL, **_repflow(fusion="late")),
    "local/5, concatenated": Run(**_LOCAL, **_repflow(fusion="concat")),
    "order2/one layer": Run(**_ORDER, **_repflow()),
    "order2/flow of flow": Run(**_ORDER, **_repflow(flow="flow_of_flow")),
    "order2/flow, conv, flow": Run(**_ORDER, **_repflow(flow="flow_conv_flow")),
    "order2/TV-L1 twice": Run(**_ORDER, **_repflow(flow="flow_of_flow", learn=_FIXED)),
    "fastslow/SlowFast": Run(
        file=slowfast,
        config=slowfast.Config(
            sampling="stride", fast_input="half_size", beta_inv=4, **_PATHWAYS
        ),
        **_FASTSLOW,
    ),
    "fastslow/Slow": Run(
        file=resnet3d,
        config=resnet3d.Config(**_PATHWAYS),
        view=every_eighth,
        **_FASTSLOW,
    ),
    "fastslow/Fast": Run(
        file=resnet3d,
        config=resnet3d.Config(
            stem_window=5, windows=((3,),) * 4, **_PATHWAYS | {"width": 2}
        ),
        view=half_size,
        **_FASTSLOW,
    ),
    "depth/1": Run(**_DEPTH, **_depths(1, 1, 1, 1, 1)),
    "depth/3": Run(**_DEPTH, **_depths(3, 3, 3, 3, 3)),
    "depth/5": Run(**_DEPTH, **_depths(5, 5, 5, 5, 5)),
}


def set_of(task: str) -> str:
    """Returns the set of clips that a task is made of."""
    return "product" if task == "linked" else task


def draw(run: Run, keys: jax.Array, labels: jax.Array, swap: int = 0) -> jax.Array:
    """Draws a clip of each class, (B, T, H, W, 3); `swap` turns the tints of "linked".

    Args:
        run: Tells the task and the size.
        keys: Random keys, (B,).
        labels: Classes, (B,).
        swap: 0 for the tint of training, 1 for the next class's.
    """
    if run.task == "linked":
        labels = 4 * ((labels + swap) % 4) + labels
    one = functools.partial(
        motion_classes.draw_clip,
        task=set_of(run.task),
        frames=run.frames,
        size=(run.size, run.size),
    )
    return jax.vmap(one)(keys, labels)


def batch(run: Run, key: jax.Array) -> dict[str, jax.Array]:
    """Draws what a step learns from."""
    choose, look, show = jax.random.split(key, 3)
    labels = jax.random.randint(choose, (run.batch_size,), 0, run.classes)
    clips = draw(run, jax.random.split(look, run.batch_size), labels)
    return {"clip": run.view(show, clips), "label": labels}


def loss(model: Any, batch: Mapping[str, jax.Array]) -> jax.Array:
    """Returns the cross entropy."""
    scores = model(batch["clip"])
    entropy = optax.softmax_cross_entropy_with_integer_labels(scores, batch["label"])
    return jnp.mean(entropy)


def make_model(run: Run, seed: int) -> nnx.Module:
    """Returns the untrained network of a seed."""
    shape = jax.eval_shape(lambda key: batch(run, key)["clip"], jax.random.key(0)).shape
    config = dataclasses.replace(
        run.config, num_classes=run.classes, num_frames=shape[1], crop_size=shape[2]
    )
    return run.file.Model(config, rngs=nnx.Rngs(seed))


def make_optimiser(run: Run) -> optax.GradientTransformation:
    """Returns Adam along a cosine, what flow layers learn at a tenth of its rate."""
    pace = optax.warmup_cosine_decay_schedule(0.0, run.rate, run.steps // 10, run.steps)
    shares = {"other": optax.identity(), "flow": optax.scale(0.1)}
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(pace, weight_decay=1e-4),
        optax.partition(shares, representation_flow.parameter_labels),
    )


@functools.cache
def programs(name: str) -> tuple[Callable, Callable]:
    """Compiles a run: (state) -> state, 25 steps on; (weights, clips) -> scores.

    Args:
        name: In `RUNS`.
    """
    run = RUNS[name]
    model, optimiser = make_model(run, 0), make_optimiser(run)
    rebuild = training.separate(model)

    def step(state, _):
        data, _ = training.step_keys(state)
        state, _ = training.train_step(
            state, batch(run, data), rebuild=rebuild, loss=loss, optimiser=optimiser
        )
        return state, None

    graph = nnx.graphdef(model.eval() or model)
    advance = jax.jit(lambda state: lax.scan(step, state, None, length=STRIDE)[0])
    return advance, jax.jit(lambda weights, clips: nnx.merge(graph, weights)(clips))


def measure(name: str, seed: int) -> dict[str, float]:
    """Trains and tests a network.

    Args:
        name: In `RUNS`.
        seed: Of weights, of training and of the test's clips.

    Returns:
        "top1", the share of test clips whose class is the best, in percent. "in_pair",
        if the task has pairs: how often the class beats its time reversal. "swapped",
        of "linked": "top1" where each motion has the tint of another.
    """
    run = RUNS[name]
    advance, score = programs(name)
    model = make_model(run, seed)
    state = train.init(model, make_optimiser(run), seed=seed)
    for _ in range(run.steps // STRIDE):
        state = advance(state)
    weights = nnx.state(train.finish(model, state))
    found = test(run, functools.partial(score, weights), seed, swap=0)
    if run.task == "linked":
        found["swapped"] = test(run, functools.partial(score, weights), seed, swap=1)[
            "top1"
        ]
    return found


def test(run: Run, score: Callable, seed: int, *, swap: int) -> dict[str, float]:
    """Returns the shares of test clips that a network has right, in percent."""
    labels, scores = [], []
    for part in range(run.test_clips // CHUNK):
        first = motion_classes.SPLITS["test"][0] + seed * run.test_clips + part * CHUNK
        found = held_out(run, first, swap)
        labels.append(np.asarray(found["label"]))
        scores.append(np.asarray(score(found["clip"])))
    return shares(run, np.concatenate(scores), np.concatenate(labels))


@functools.partial(jax.jit, static_argnums=(0, 2))
def held_out(run: Run, first: int, swap: int) -> dict[str, jax.Array]:
    """Draws clips that no training draws: those of seeds `first` and on."""
    root = jax.random.key(0, impl="threefry2x32")
    index = first + jnp.arange(CHUNK)
    keys = jax.vmap(lambda number: jax.random.fold_in(root, number))(index)
    labels = index % run.classes
    clips = draw(run, keys, labels, swap)
    return {"clip": run.view(jax.random.fold_in(root, first), clips), "label": labels}


def shares(run: Run, scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Returns "top1" and, of tasks with pairs, "in_pair", in percent."""
    right = np.argmax(scores, axis=-1) == labels
    found = {"top1": 100 * float(np.mean(right))}
    paired = labels < 2 * motion_classes.TASKS[set_of(run.task)].pairs
    if run.task != "linked" and np.any(paired):
        scores, labels = scores[paired], labels[paired]
        rows = np.arange(len(labels))
        beats = scores[rows, labels] > scores[rows, labels ^ 1]
        found["in_pair"] = 100 * float(np.mean(beats))
    return found
