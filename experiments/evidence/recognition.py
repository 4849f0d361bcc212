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

from experiments.evidence import clip_runs
from jaxflow import cost, ops, train, two_stream
from jaxflow.data import motion_classes
from jaxflow.layers import representation_flow
from jaxflow.models.video import actionflownet
from jaxflow.train import step as training

# Clips that go through a network at once when it is tested.
CHUNK = 100
# Steps of training that one call of the compiled program takes.
STRIDE = 25


def draw(
    run: clip_runs.Run, keys: jax.Array, labels: jax.Array, swap: int = 0
) -> jax.Array:
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
        task=run.clips,
        frames=run.frames,
        size=(run.size, run.size),
    )
    return jax.vmap(one)(keys, labels)


def batch(run: clip_runs.Run, key: jax.Array) -> dict[str, jax.Array]:
    """Draws what a step learns from."""
    choose, look, show = jax.random.split(key, 3)
    labels = jax.random.randint(choose, (run.batch_size,), 0, run.classes)
    clips = draw(run, jax.random.split(look, run.batch_size), labels)
    found = {"clip": run.view(show, clips), "label": labels}
    if run.teacher:
        half = ops.avg_pool(clips, 2)
        picture = two_stream.with_flow(run.teacher, half)[..., 3:]
        found["flow"] = two_stream.BOUND * (2 * picture - 1)
    return found


def loss(model: Any, batch: Mapping[str, jax.Array]) -> jax.Array:
    """Returns the cross entropy, and of networks with a teacher the error of flow."""
    if "flow" in batch:
        found = model.both(batch["clip"])
        return actionflownet.multi_task_loss(found, batch["label"], batch["flow"])
    scores = model(batch["clip"])
    entropy = optax.softmax_cross_entropy_with_integer_labels(scores, batch["label"])
    return jnp.mean(entropy)


def make_model(run: clip_runs.Run, seed: int) -> nnx.Module:
    """Returns the untrained network of a seed."""
    shape = jax.eval_shape(lambda key: batch(run, key)["clip"], jax.random.key(0)).shape
    sizes = {"num_frames": shape[1], "crop_size": shape[2]}
    if run.estimator:
        sizes |= {"num_frames": shape[1] - 1, "stack": shape[1] - 1}
    config = dataclasses.replace(run.config, num_classes=run.classes, **sizes)
    model = run.file.Model(config, rngs=nnx.Rngs(seed))
    if not run.estimator:
        return model
    if isinstance(run.estimator, str):
        return two_stream.WithFlow(model, run.estimator)
    return two_stream.WithFlow(model, run.estimator(rngs=nnx.Rngs(seed)), learn=True)


def make_optimiser(run: clip_runs.Run) -> optax.GradientTransformation:
    """Returns Adam along a cosine, what flow layers learn at a tenth of its rate."""
    pace = optax.warmup_cosine_decay_schedule(0.0, run.rate, run.steps // 10, run.steps)
    shares = {"other": optax.identity(), "flow": optax.scale(0.1)}
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(pace, weight_decay=1e-4),
        optax.partition(shares, parameter_labels),
    )


def parameter_labels(params: Any) -> Any:
    """Labels what estimates flow "flow", and all else "other"."""

    def label(path, known):
        return "flow" if "estimator" in jax.tree_util.keystr(path) else known

    return jax.tree_util.tree_map_with_path(
        label, representation_flow.parameter_labels(params)
    )


@functools.cache
def programs(name: str) -> tuple[Callable, Callable]:
    """Compiles a run: (state) -> state, 25 steps on; (weights, clips) -> scores.

    Args:
        name: In `clip_runs.RUNS`.
    """
    run = clip_runs.RUNS[name]
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
        name: In `clip_runs.RUNS`.
        seed: Of weights, of training and of the test's clips.

    Returns:
        "top1", the share of test clips whose class is the best, in percent. "in_pair",
        if the task has pairs: how often the class beats its time reversal. "swapped",
        of "linked": "top1" where each motion has the tint of another. "weights": the
        number of them, in thousands.
    """
    run = clip_runs.RUNS[name]
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
    return found | {"weights": cost.count_parameters(model) / 1000}


def test(
    run: clip_runs.Run, score: Callable, seed: int, *, swap: int
) -> dict[str, float]:
    """Returns the shares of test clips that a network has right, in percent."""
    labels, scores = [], []
    for part in range(run.test_clips // CHUNK):
        first = motion_classes.SPLITS["test"][0] + seed * run.test_clips + part * CHUNK
        found = held_out(run, first, swap)
        labels.append(np.asarray(found["label"]))
        scores.append(np.asarray(score(found["clip"])))
    return shares(run, np.concatenate(scores), np.concatenate(labels))


@functools.partial(jax.jit, static_argnums=(0, 2))
def held_out(run: clip_runs.Run, first: int, swap: int) -> dict[str, jax.Array]:
    """Draws clips that no training draws: those of seeds `first` and on."""
    root = jax.random.key(0, impl="threefry2x32")
    index = first + jnp.arange(CHUNK)
    keys = jax.vmap(lambda number: jax.random.fold_in(root, number))(index)
    labels = index % run.classes
    clips = draw(run, keys, labels, swap)
    return {"clip": run.view(jax.random.fold_in(root, first), clips), "label": labels}


def shares(
    run: clip_runs.Run, scores: np.ndarray, labels: np.ndarray
) -> dict[str, float]:
    """Returns "top1" and, of tasks with pairs, "in_pair", in percent."""
    right = np.argmax(scores, axis=-1) == labels
    found = {"top1": 100 * float(np.mean(right))}
    paired = labels < 2 * motion_classes.TASKS[run.clips].pairs
    if run.task != "linked" and np.any(paired):
        scores, labels = scores[paired], labels[paired]
        rows = np.arange(len(labels))
        beats = scores[rows, labels] > scores[rows, labels ^ 1]
        found["in_pair"] = 100 * float(np.mean(beats))
    return found
