"""The demo: a small PWC-Net trained, restored, measured and shown in minutes, offline.

    jaxflow demo [--minutes 9.2] [--frames a.png b.png] [--output demo_report]

Scenes are drawn inside each training step. Training runs in legs: at the end of each
the state is saved, and the next leg starts from what is read back. The net is measured
against zero flow and OpenCV's methods on scenes it never saw and on a photograph moved
by a known homography. The report is one HTML file that needs nothing else.
"""

import functools
import importlib.metadata
import math
import os
import pathlib
import platform
import shutil
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from optax import contrib

from jaxflow import (
    _checks,
    checkpoint,
    evaluate,
    losses,
    metrics,
    ops,
    train,
)
from jaxflow.data import synthetic
from jaxflow.demo import methods, report
from jaxflow.models.flow import pwcnet

SIZE = (96, 128)
BATCH = 4
LEGS = 4
# A fifth of the published widths, no dense connections, and no level at 1/64.
NETWORK = pwcnet.Config(
    pyramid=(16, 24, 32, 48, 64),
    convs_per_level=2,
    decoder=(64, 48, 48, 32, 24),
    dense=False,
    context=(48, 48, 48, 32, 24, 16),
    standardise_features=True,
    spare_upsampling=False,
)
# Objects that move by a few pixels, turn and grow, in front of a moving background.
SCENES = synthetic.Recipe(
    background=synthetic.Motion(
        translation=synthetic.Spread(sigma=1.45, power=1.5),
        rotation=synthetic.Spread(sigma=2.0),
        zoom=synthetic.Spread(sigma=0.02),
    ),
    objects=synthetic.Motion(
        translation=synthetic.Spread(sigma=2.3, power=1.5),
        rotation=synthetic.Spread(sigma=4.0),
        zoom=synthetic.Spread(sigma=0.04),
    ),
    count=(2, 6),
    diameter=(130.0, 70.0, 64.0, 220.0),
    scaled=False,
)
WEIGHTS = losses.PWC_WEIGHTS[:-1]
PEAK_RATE = 2e-3
# Training draws from keys of seeds below this one, measuring from keys of seeds above.
HELD_OUT = 1_000_000


def run(
    output: str | os.PathLike,
    *,
    minutes: float = 9.2,
    steps: int | None = None,
    frames: Sequence[np.ndarray] = (),
    seed: int = 0,
    pairs: int = 64,
    progress: bool = True,
) -> report.Result:
    """Trains, restores, measures and writes the report.

    Args:
        output: Folder for the report and the run; an earlier run in it is replaced.
        minutes: Time until training ends, compilation included.
        steps: Steps to train, whatever the time; None fills the minutes.
        frames: None, or two pictures of one size, (H, W, 3), to show as well.
        seed: Of the initial weights and of the data.
        pairs: Number of held-out scenes.
        progress: Whether to show progress bars.

    Returns:
        The measurements and the path of the report.

    Raises:
        ValueError: If there are too few steps for the legs, no time, or no scenes, or
            if the seed is no integer.
    """
    _check_numbers(minutes, steps, pairs)
    _checks.seed("seed", seed)
    began = time.perf_counter()
    folder = pathlib.Path(output)
    _clear(folder / "run")
    scenes = held_out_scenes(pairs, seed)
    model = build(seed)
    deadline = began + 60 * minutes
    curve, restored = teach(
        model, folder / "run", scenes, deadline, steps=steps, seed=seed,
        progress=progress,
    )  # fmt: skip
    ours = functools.partial(methods.estimate_by_tiles, model, size=SIZE)
    compared = methods.estimators(ours)
    photograph = moved_photograph()

    def measured(pairs):
        return {name: methods.measure(each, pairs) for name, each in compared.items()}

    result = report.Result(
        scenes=measured(scenes),
        photograph={} if photograph is None else measured([photograph]),
        curve=curve,
        restored=restored,
        seconds=time.perf_counter() - began,
        path=folder / "report.html",
    )
    shown = [(f"Held-out scene {i + 1}", pair) for i, pair in enumerate(scenes[:4])]
    if photograph is not None:
        shown.append(("A photograph (NASA) moved by a known homography", photograph))
    pictures = [report.show_pair(title, pair, compared) for title, pair in shown]
    if frames:
        pictures.append(report.show_own(compared, *frames))
    report.write(result, [_about_training(model, result)], pictures)
    return result


def _check_numbers(minutes: float, steps: int | None, pairs: int) -> None:
    """Raises ValueError unless there is something to train with and to measure."""
    if not minutes > 0:
        raise ValueError(f"`minutes` must be positive; got {minutes}")
    if steps is not None and steps < LEGS:
        raise ValueError(f"`steps` must be {LEGS} or more, one a leg; got {steps}")
    if pairs < 1:
        raise ValueError(f"`pairs` must be 1 or more; got {pairs}")


def build(seed: int) -> pwcnet.Model:
    """Builds the network so that training takes off within a hundred steps.

    Its first estimates are nearly zero flow, which warps little, and the first layer's
    bias cancels mid-grey, so that features are not all alike.
    """
    rngs = nnx.Rngs(jax.random.key(seed, impl="rbg"))
    model = pwcnet.Model(NETWORK, rngs=rngs)
    model.eval()
    for _, part in nnx.iter_graph(model):
        if isinstance(getattr(part, "predict_flow", None), nnx.Module):
            kernel = part.predict_flow.kernel
            kernel[...] = 0.1 * kernel[...]
    first = cast(Any, model).stage1.convs[0]
    first.bias[...] = -0.5 * jnp.sum(first.kernel[...], axis=(0, 1, 2))
    return model


def teach(
    model: nnx.Module,
    folder: pathlib.Path,
    scenes: list[evaluate.Pair],
    deadline: float,
    *,
    steps: int | None,
    seed: int,
    progress: bool,
) -> tuple[list[tuple[float, int, float]], bool]:
    """Trains `model` in legs, each from the checkpoint that the last one wrote.

    The length of the run is planned again at each leg from the time that is left, so
    that the learning rate has come down when the time is up.

    Returns:
        The curve, and whether every checkpoint came back bit for bit.
    """
    optimiser = optax.inject_hyperparams(make_optimiser)(total=float(steps or 1000))
    mesh = train.data_mesh(jax.devices()[:1])
    step = train.make_step(model, loss, optimiser, draw=draw, mesh=mesh)
    error_of = relative_error(model, scenes)
    curve: list[tuple[float, int, float]] = []
    fit = functools.partial(train.fit, step, log_every=5, progress=progress)
    began = time.perf_counter()

    def record(state: train.TrainState) -> dict[str, float]:
        ratio = error_of(state.params)
        curve.append((time.perf_counter() - began, int(state.step), ratio))
        return {"relative_epe": ratio}

    state = train.init(model, optimiser, seed=seed)
    record(state)
    state = fit(state, steps=1)  # compiles
    pace, restored, total = _seconds_of(lambda: fit(state, steps=9)) / 8, True, 0
    state = train.init(model, optimiser, seed=seed)
    for leg in range(LEGS):
        done = int(state.step)
        left = max(deadline - time.perf_counter(), 0.0)
        total = steps or done + max(int(0.97 * left / pace), LEGS - leg)
        state = _with_total(state, total)
        until = done + (total - done) // (LEGS - leg)
        started = time.perf_counter()
        state = fit(
            state,
            steps=until,
            workdir=folder,
            resume=False,
            evaluate=record,
            save_every=max((until - done) // 4, 1),
        )
        pace = (time.perf_counter() - started) / max(until - done, 1)
        with checkpoint.Checkpoints(folder / "checkpoints") as saved:
            found = saved.restore(train.init(model, optimiser, seed=seed + 1))
        restored &= found is not None and _equal(found[0], state)
        state = state if found is None else found[0]
    train.finish(model, state)
    return curve, restored


def _with_total(state: train.TrainState, total: int) -> train.TrainState:
    """Tells the optimiser in how many steps its rate shall come down."""
    hyperparams = {"total": jnp.float32(total)}
    optimiser: Any = state.opt_state
    return state._replace(opt_state=optimiser._replace(hyperparams=hyperparams))


def make_optimiser(total: Any) -> optax.GradientTransformation:
    """Returns Muon, whose rate rises and falls in `total` steps.

    Muon (Jordan et al., 2024) makes the update of each kernel orthogonal, as a matrix
    from windows to features. After 1050 steps the error is three quarters of AdamW's.
    """

    def rate(count):
        progress = jnp.asarray(count, jnp.float32) / total
        rise = jnp.minimum(progress / 0.1, 1.0)
        fall = 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip((progress - 0.1) / 0.9, 0, 1)))
        return PEAK_RATE * rise * (0.001 + 0.999 * fall)

    def matrices(params):
        axes = contrib.MuonDimensionNumbers((0, 1, 2), (3,))
        # Two rows of a prediction are no matrix worth the name; they get AdamW.
        return jax.tree.map(
            lambda x: axes if x.ndim == 4 and x.shape[-1] > 2 else None, params
        )

    return contrib.muon(
        rate,
        consistent_rms=0.2,
        weight_decay=0.01,
        muon_weight_dimension_numbers=matrices,
    )


def draw(key: jax.Array) -> dict[str, jax.Array]:
    """Draws a batch: each scene is seen in both directions, for half the drawing."""
    scenes = synthetic.flow_batch(key, preset=SCENES, batch_size=BATCH // 2, size=SIZE)
    ahead = (scenes[name] for name in ("image1", "image2", "flow"))
    back = (scenes[name] for name in ("image2", "image1", "flow_backward"))
    return {
        name: jnp.stack(both, axis=1).reshape(BATCH, *both[0].shape[1:])
        for name, both in zip(
            ("image1", "image2", "flow"), zip(ahead, back, strict=True), strict=True
        )
    }


def loss(model: Any, batch: dict[str, jax.Array]) -> jax.Array:
    """Returns the multi-scale loss of levels 5 to 2."""
    flows = model(batch["image1"], batch["image2"]).predictions
    return losses.multi_scale(flows, batch["flow"], weights=WEIGHTS)


def held_out_scenes(count: int, seed: int) -> list[evaluate.Pair]:
    """Draws scenes that training never sees; frames are uint8, as files have them.

    Returns:
        Of each: frame 1, frame 2, flow, and where it is not occluded.
    """
    draw_all = jax.jit(
        functools.partial(
            synthetic.flow_batch, preset=SCENES, batch_size=count, size=SIZE
        )
    )
    batch = jax.device_get(draw_all(jax.random.key(HELD_OUT + seed)))
    frames = (np.rint(255 * batch[k]).astype(np.uint8) for k in ("image1", "image2"))
    return list(zip(*frames, batch["flow"], ~batch["occlusion"], strict=True))


def moved_photograph() -> evaluate.Pair | None:
    """Returns a photograph, the same moved by a homography, and the exact flow.

    It is scikit-image's portrait of the astronaut Eileen Collins (NASA, public domain).
    Both frames are averages of 3x3 samples a pixel, at half its size. None without
    scikit-image.
    """
    try:
        import skimage.data
    except ImportError:
        return None
    photograph = jnp.asarray(skimage.data.astronaut(), jnp.float32) / 255
    size = (192, 224)
    angle, zoom, far = math.radians(4), 1.05, 1e-4
    cos, sin = zoom * math.cos(angle), zoom * math.sin(angle)
    move = np.array([[cos, -sin, 4.0], [sin, cos, -3.0], [far, -far, 1.0]])

    def map_by(matrix, points):
        mapped = points @ matrix[:, :2].T + matrix[:, 2]
        return mapped[..., :2] / mapped[..., 2:]

    def look(matrix):
        shifts = (np.arange(3) - 1) / 3
        samples = [
            ops.bilinear_sample(
                photograph,
                jnp.asarray(
                    2 * map_by(matrix, grid + np.array([dx, dy])) + 255.5, jnp.float32
                ),
            )
            for dx in shifts
            for dy in shifts
        ]
        return np.rint(255 * np.mean(samples, axis=0)).astype(np.uint8)

    grid = np.asarray(ops.pixel_grid(*size), np.float64)
    grid = grid - np.array([size[1] / 2 - 0.5, size[0] / 2 - 0.5])
    target = map_by(move, grid)
    flow = (target - grid).astype(np.float32)
    visible = np.all(np.abs(target) <= np.array(size[::-1]) / 2, axis=-1)
    return look(np.eye(3)), look(np.linalg.inv(move)), flow, np.asarray(visible)


def relative_error(
    model: nnx.Module, scenes: list[evaluate.Pair]
) -> Callable[[Any], float]:
    """Returns a function: parameters -> error over that of zero flow."""
    first, second, flow, _ = (np.stack(part) for part in zip(*scenes, strict=True))
    rebuild = train.separate(model)

    @jax.jit
    def error(params, first, second, flow):
        network = rebuild(params, {}, jax.random.key(0))
        frames = (frame.astype(jnp.float32) / 255 for frame in (first, second))
        return jnp.mean(metrics.epe(network(*frames).flow, flow))

    zero = float(np.linalg.norm(flow, axis=-1).mean())
    return lambda params: float(error(params, first, second, flow)) / zero


def _about_training(model: nnx.Module, result: report.Result) -> str:
    """Says how the network was trained."""
    weights = jax.tree.leaves(checkpoint.weights_of(model))
    seconds, steps, _ = result.curve[-1]
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("jax", "flax")
    )
    kept = "bit for bit" if result.restored else "<b>changed</b>"
    return (
        f"{sum(w.size for w in weights):,} parameters, {steps} steps of "
        f"{BATCH // 2} new scenes of {SIZE[0]}×{SIZE[1]} pixels, each seen in both "
        f"directions of time, in {seconds / 60:.1f} minutes on "
        f"{os.cpu_count()} {platform.machine()} cores, {jax.default_backend().upper()} "
        f"({versions}). Saved and restored {LEGS} times; every checkpoint came back "
        f"{kept}."
    )


def _clear(run: pathlib.Path) -> None:
    """Removes an earlier run of the demo, and nothing else that has its name."""
    known = {"checkpoints", "metrics.jsonl", "tensorboard", "damaged"}
    known |= {"run.json", "run.lock"}
    strange = (
        sorted({path.name for path in run.iterdir()} - known) if run.is_dir() else []
    )
    if strange:
        raise ValueError(
            f"{run}: is no run of the demo, for it holds {strange[0]}; choose another "
            "output folder"
        )
    shutil.rmtree(run, ignore_errors=True)


def _seconds_of(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    jax.block_until_ready(jax.tree.leaves(work())[0])
    return time.perf_counter() - began


def _equal(a: train.TrainState, b: train.TrainState) -> bool:
    """Tells whether two states are the same bit for bit."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(bool(jnp.all(x == y)) for x, y in pairs)
