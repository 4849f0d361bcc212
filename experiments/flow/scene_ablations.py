"""What drawn scenes must consist of: a small network trained without each ingredient.

    python experiments/flow/scene_ablations.py --data sintel_final=SINTEL \
        --data middlebury=MIDDLEBURY            # what is missing; then the table
    python experiments/flow/scene_ablations.py --only '*JPEG' --seeds 0 1 2
    python experiments/flow/scene_ablations.py --table

The base is what `scale_shared.py` trains on. From each condition one ingredient is left
out, or one is added that the base has not. All conditions of a seed begin with the same
weights and draw from the same keys, and are tested on the pairs of --data, which are
named as in `jaxflow evaluate flow`, and on scenes of the base that no training draws.
A run is a line of scene_ablations.jsonl; stopped at any time, the same command goes on
with what is missing.
"""

import dataclasses
import fnmatch
import functools
import json
import math
import pathlib
import platform
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scale_shared
import tyro
from flax import nnx
from jax import lax
from scipy import special

from jaxflow import evaluate, metrics, train
from jaxflow.cli import common
from jaxflow.data import folders, jpeg, synthetic, textures, weather
from jaxflow.io import folders as targets
from jaxflow.models.flow import scale_shared as network
from jaxflow.train import step as training

SIZE = (96, 128)
SCENES = 2
NETWORK = network.Config(
    levels=4,
    encoder=(12, 16, 24, 24, 24),
    radius=3,
    cost_features=32,
    decoder=(48, 48, 32, 32),
    dilations=(1, 2, 4, 1),
    hidden=8,
)
# Steps of training that one call of the compiled program takes.
STRIDE = 25
# Batches of held-out scenes.
TESTED = 16
# The pictures of a bank; the photographs and two kinds of drawn ones share it.
PICTURES = ("photographs", "dead leaves", "noise textures")
SHIPPED = (
    *PICTURES, "tilt", "heavy tails", "still background", "chroma", "noise", "blur",
    "slender objects", "flat layers",
)  # fmt: skip
ADDED = ("motion blur", "JPEG", "fog", "shadows")
BASE = "base"
# In the order of interest, for whoever has no time for all.
CONDITIONS = (
    BASE, "without photographs", "without dead leaves", "with motion blur", "with JPEG",
    "with fog", "with shadows", "without tilt", "without heavy tails",
    "without still background", "without chroma", "without noise", "without blur",
    "without slender objects", "without flat layers", "without noise textures",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Args:
    """Options.

    Attributes:
        data: NAME=DIR, a layout and the folder of its pairs; may be repeated.
        only: Pattern of the names of conditions.
        seeds: Of weights and scenes.
        steps: Steps of training, a multiple of 25.
        table: Whether to print the table alone.
        folder: Where the lines are.
    """

    data: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    only: str = "*"
    seeds: tuple[int, ...] = (0, 1)
    steps: int = 400
    table: bool = False
    folder: pathlib.Path = pathlib.Path(__file__).parent


def switches(condition: str) -> dict[str, float]:
    """Returns 1 for each ingredient that a condition has, and 0 for the others."""
    named = condition.partition(" ")[2]
    has = dict.fromkeys(SHIPPED, 1.0) | dict.fromkeys(ADDED, 0.0)
    return has | ({named: 1 - has[named]} if named else {})


def lighter(spread: synthetic.Spread) -> synthetic.Spread:
    """Returns the normal number that has the mean magnitude of a heavy-tailed one.

    E|g|^p = sigma^p 2^(p/2) Gamma((p + 1) / 2) / sqrt(pi); limits are not counted.
    """
    power = spread.power
    mean = (spread.sigma * math.sqrt(2)) ** power * special.gamma((power + 1) / 2)
    return dataclasses.replace(spread, sigma=float(mean / math.sqrt(2)), power=1.0)


def world(on: Mapping[str, Any]) -> synthetic.Recipe:
    """Returns the preset "world", with those of its ingredients that are 1, not 0."""
    recipe = synthetic.PRESETS["world"]

    def tails(spread):
        light = lighter(spread)
        either = {
            name: jnp.where(
                on["heavy tails"] > 0, getattr(spread, name), getattr(light, name)
            )
            for name in ("sigma", "power")
        }
        return dataclasses.replace(spread, **either)

    def motion(of, moves):
        tilted = on["tilt"] * of.tilt.probability
        spreads = {
            "translation": tails(of.translation),
            "rotation": tails(of.rotation),
            "zoom": tails(of.zoom),
            "tilt": dataclasses.replace(of.tilt, probability=tilted),
        }
        for name in ("translation", "rotation", "zoom"):
            often = jnp.where(moves, 1.0, spreads[name].probability)
            spreads[name] = dataclasses.replace(spreads[name], probability=often)
        return synthetic.Motion(**spreads)

    return dataclasses.replace(
        recipe,
        background=motion(recipe.background, on["still background"] == 0),
        objects=motion(recipe.objects, False),
        flat=on["flat layers"] * recipe.flat,
        slender=on["slender objects"] * recipe.slender,
    )


@functools.cache
def kinds() -> dict[str, np.ndarray]:
    """Returns the pictures of the shipped recipe's bank, by kind."""
    count = scale_shared.Args().pictures
    pictures = textures.bank(jax.random.key(7), count=count)
    photos = len(textures.photographs(size=8))
    drawn = pictures[photos:]
    noise = np.arange(len(drawn)) % 3 == 0
    return dict(zip(PICTURES, (pictures[:photos], drawn[~noise], drawn[noise]),
                    strict=True))  # fmt: skip


def bank(on: Mapping[str, float]) -> jax.Array:
    """Returns a bank of the kinds of a condition, repeated where some are left out."""
    kept = [pictures for kind, pictures in kinds().items() if on[kind]]
    joined = np.concatenate(kept)
    count = sum(map(len, kinds().values()))
    return jnp.asarray(np.resize(joined, (count, *joined.shape[1:])))


def draw(
    key: jax.Array, on: Mapping[str, Any], pictures: jax.Array
) -> dict[str, jax.Array]:
    """Draws a batch of scenes, of the ingredients that are 1 in `on`, not 0."""
    keys = jax.random.split(key, 4)
    more = jax.random.split(jax.random.fold_in(key, 1), 4)
    own = jax.random.split(keys[0], SCENES)
    recipe = world(on)
    batch = jax.vmap(
        functools.partial(
            synthetic.flow_pair, preset=recipe, size=SIZE, textures=pictures
        )
    )(own)

    def expose(key, exposure):
        scene = synthetic.draw_scene(key, preset=recipe, size=SIZE)
        return synthetic.expose(scene, SIZE, exposure=exposure, textures=pictures)

    def when(name, change, frames):
        return lax.cond(on[name] > 0, change, lambda frames: frames, frames)

    def each(change, key, frames, *labels):
        return jax.vmap(change)(jax.random.split(key, SCENES), *frames, *labels)

    frames = (batch["image1"], batch["image2"])
    exposure = 0.5 * jax.random.uniform(more[0], (SCENES,))
    frames = when("motion blur", lambda _: jax.vmap(expose)(own, exposure), frames)
    shade = functools.partial(each, weather.cast_shadows, more[1])
    frames = when("shadows", shade, frames)
    fog = functools.partial(weather.add_fog, layers=1 + recipe.count[1])
    labels = (batch["label"], batch["label2"])
    frames = when("fog", lambda frames: each(fog, more[2], frames, *labels), frames)
    frames = scale_shared.worsen(
        keys[1:],
        *frames,
        softest=on["blur"],
        chroma=0.5 * on["chroma"],
        noise=scale_shared.Args().noise * on["noise"],
    )
    quality = jax.random.randint(more[3], (SCENES,), 30, 96)
    compress = lambda frames: tuple(  # noqa: E731
        jax.vmap(jpeg.compress)(frame, quality) for frame in frames
    )
    return scale_shared.both_ways(*when("JPEG", compress, frames), batch)


def make_model(seed: int) -> network.Model:
    """Returns the untrained network of a seed, whose first flow is near zero."""
    model = network.Model(NETWORK, rngs=nnx.Rngs(jax.random.key(seed, impl="rbg")))
    kernel = model.decoder.predict_flow.kernel
    kernel[...] = 0.1 * kernel[...]
    return model


@functools.cache
def programs(steps: int) -> tuple[Any, Any]:
    """Compiles training, (state, on, bank) -> state, and the test on drawn scenes.

    One program does all conditions: what they have is an argument.
    """
    model = make_model(0)
    rebuild = training.separate(model)
    optimiser = scale_shared.make_optimiser(steps, scale_shared.Args().peak_rate)
    graph = nnx.graphdef(model.eval() or model)

    def advance(state, on, pictures):
        def step(state, _):
            state, _ = training.train_step(
                state,
                draw(training.step_keys(state)[0], on, pictures),
                rebuild=rebuild,
                loss=scale_shared.loss,
                optimiser=optimiser,
            )
            return state, None

        return lax.scan(step, state, None, length=STRIDE)[0]

    def test(weights, keys, on, pictures):
        def one(key):
            batch = draw(key, on, pictures)
            flow = nnx.merge(graph, weights)(batch["image1"], batch["image2"]).flow
            return jnp.mean(metrics.epe(flow, batch["flow"]))

        return jnp.mean(lax.map(one, keys))

    return jax.jit(advance), jax.jit(test)


def measure(
    condition: str, seed: int, steps: int, data: Mapping[str, Sequence]
) -> dict[str, float]:
    """Trains a network on the scenes of a condition and tests it.

    Returns:
        Mean end-point error in pixels on each data set, and on "scenes", drawn.
    """
    advance, test = programs(steps)
    model = make_model(seed)
    optimiser = scale_shared.make_optimiser(steps, scale_shared.Args().peak_rate)
    state = train.init(model, optimiser, seed=seed)
    on = switches(condition)
    pictures = bank(on)
    for _ in range(steps // STRIDE):
        state = advance(state, on, pictures)
    # The average of the recipe is over 500 steps, more than these.
    train.finish(model, state)
    keys = jax.random.split(jax.random.key(scale_shared.HELD_OUT + seed), TESTED)
    base = switches(BASE)
    found = {"scenes": float(test(nnx.state(model), keys, base, bank(base)))}
    for name, pairs in data.items():
        found[name] = evaluate.evaluate_flow(model, pairs)["epe"]
    return found


def open_data(words: Sequence[str]) -> dict[str, Sequence]:
    """Reads the pairs of each NAME=DIR.

    Raises:
        ValueError: If a word is not that, or the folder holds no pairs of the layout.
    """
    data = {}
    for word in words:
        name, equals, root = word.partition("=")
        if not equals or name not in folders.LAYOUTS:
            raise ValueError(
                f"--data: give NAME=DIR, NAME one of {', '.join(folders.LAYOUTS)}; "
                f"got {word!r}"
            )
        data[name] = list(folders.Folder(name, root))
    return data


def above(errors: Mapping[str, float], base: Mapping[str, float]) -> dict[str, float]:
    """Returns by how many per cent errors are above others, group by group.

    "pairs" is the mean over the groups of real pairs.
    """
    more = {name: 100 * (errors[name] / base[name] - 1) for name in base}
    real = [value for name, value in more.items() if name != "scenes"]
    return {"pairs": float(np.mean(real)) if real else math.nan, **more}


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns how far each condition's errors are above the base's, as Markdown.

    The base's are its mean errors, and how far each seed of it is above its mean.
    """
    errors: dict[str, dict[int, dict[str, float]]] = {}
    for row in rows:
        errors.setdefault(row["condition"], {})[row["seed"]] = row["epe"]
    base = errors.get(BASE, {})
    if not base:
        return "no line of the base yet"
    groups = list(next(iter(base.values())))
    mean = {
        name: float(np.mean([one[name] for one in base.values()])) for name in groups
    }
    head = ["scenes", "pairs, %", "each seed", *(f"{name}, %" for name in groups)]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for condition in (name for name in CONDITIONS if name in errors):
        own = errors[condition]
        seeds = sorted(seed for seed in own if seed in base)
        found = [
            above(own[seed], mean if condition == BASE else base[seed])
            for seed in seeds
        ]
        each = ", ".join(f"{one['pairs']:+.1f}" for one in found)
        cells = [
            f"{np.mean([one[n] for one in found]):+.1f}" for n in ("pairs", *groups)
        ]
        if condition == BASE:
            cells = ["0", *(f"{mean[name]:.2f} px" for name in groups)]
        lines.append(f"| {' | '.join([condition, cells[0], each, *cells[1:]])} |")
    return "\n".join(lines)


def read(path: pathlib.Path, steps: int) -> list[dict[str, Any]]:
    """Reads the whole lines of runs of so many steps; one cut off wrote half."""
    rows = []
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return [row for row in rows if row["steps"] == steps]


def main(args: Args) -> list[dict[str, Any]]:
    """Runs what is missing, a line each, and prints the table.

    Returns:
        All lines of so many steps.

    Raises:
        ValueError: If `steps` is no positive multiple of 25, or `data` is not right.
    """
    if args.steps < 1 or args.steps % STRIDE:
        raise ValueError(f"--steps: give a multiple of {STRIDE}; got {args.steps}")
    data = open_data(args.data)
    targets.check_target("--folder", args.folder)
    args.folder.mkdir(parents=True, exist_ok=True)
    path = args.folder / "scene_ablations.jsonl"
    rows = read(path, args.steps)
    cut_off = path.is_file() and not path.read_text().endswith("\n")
    done = {(row["condition"], row["seed"]) for row in rows}
    wanted = [(c, s) for c in fnmatch.filter(CONDITIONS, args.only) for s in args.seeds]
    for condition, seed in () if args.table else wanted:
        if (condition, seed) in done:
            continue
        began = time.process_time()
        found = measure(condition, seed, args.steps, data)
        row = {
            "condition": condition,
            "seed": seed,
            "steps": args.steps,
            "epe": {name: round(value, 4) for name, value in found.items()},
            "seconds": round(time.process_time() - began, 1),
            "machine": f"{jax.default_backend()}, {platform.machine()}, "
            f"jax {jax.__version__}",
        }
        with path.open("a") as file:
            file.write("\n" * cut_off + json.dumps(row) + "\n")
        cut_off = False
        print(json.dumps(row), flush=True)
        rows.append(row)
    print(table(rows))
    return rows


if __name__ == "__main__":
    with common.quiet_if_unread():
        main(tyro.cli(Args, description=__doc__))
