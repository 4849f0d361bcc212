"""Trains the flow networks that come with the package, on scenes drawn on the device.

    python experiments/flow/scale_shared.py --workdir runs/fast
    python experiments/flow/scale_shared.py --model jaxflow_accurate --steps 60 \
        --sizes 192 256 --noise 0.01 --start runs/fast/jaxflow_fast.safetensors \
        --workdir runs/accurate

The network is `jaxflow.models.flow.scale_shared`; the scenes are the preset "world" of
`jaxflow.data.synthetic`, painted with dead leaves, noise and the photographs that
scikit-image ships. No real pair with known flow is seen. Every scene teaches twice,
forwards and backwards in time, at one of several sizes in turn.

With --start the network is kept as it is, and only the two weights of the variational
refinement behind it learn. Stopped at any time, the same command goes on where the last
checkpoint was written. The averaged weights are written to WORKDIR/MODEL.safetensors at
the end.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import recipe
from optax import contrib

import jaxflow
from jaxflow import averaging, checkpoint, metrics, ops, train
from jaxflow.data import photometric, synthetic, textures
from jaxflow.io import folders

# Training draws from keys of seeds below this one, measuring from keys of seeds above.
HELD_OUT = 1_000_000


@dataclasses.dataclass(frozen=True)
class Args:
    """What can be set from the command line.

    Attributes:
        workdir: Folder of the run.
        model: Variant to train.
        start: Weights of "jaxflow_fast", which are kept; only the refinement learns.
        steps: Steps in all.
        scenes: Scenes a step; each gives two pairs.
        sizes: Height and width of the scenes, in turn.
        peak_rate: Largest learning rate.
        noise: Largest standard deviation of the noise of a scene.
        pictures: Pictures in the bank.
        save_every: Steps between checkpoints.
        seed: Of the initial weights and of the data.
    """

    workdir: str = "runs/scale_shared"
    model: str = "jaxflow_fast"
    start: str | None = None
    steps: int = 6000
    scenes: int = 2
    sizes: tuple[tuple[int, int], ...] = (
        (128, 192),
        (192, 256),
        (128, 192),
        (256, 320),
    )
    peak_rate: float = 2e-3
    noise: float = 0.04
    pictures: int = 64
    save_every: int = 250
    seed: int = 0


def make_optimiser(steps: int, peak_rate: float) -> optax.GradientTransformation:
    """Returns Muon: a short rise, most of the steps at the peak, then a cosine down."""

    def rate(count):
        progress = jnp.asarray(count, jnp.float32) / steps
        rise = jnp.minimum(progress / 0.05, 1.0)
        fall = jnp.clip((progress - 0.6) / 0.4, 0.0, 1.0)
        return peak_rate * rise * (0.02 + 0.49 * (1 + jnp.cos(jnp.pi * fall)))

    def matrices(params):
        axes = contrib.MuonDimensionNumbers((0, 1, 2), (3,))
        return jax.tree.map(
            lambda x: axes if x.ndim == 4 and x.shape[-1] > 2 else None, params
        )

    muon = contrib.muon(
        rate,
        consistent_rms=0.2,
        weight_decay=0.01,
        muon_weight_dimension_numbers=matrices,
    )
    return averaging.averaged(
        optax.chain(optax.clip_by_global_norm(1.0), muon), decay=0.998
    )


def only_refinement(optimiser: optax.GradientTransformation):
    """Returns an optimiser that leaves everything but the refinement as it is."""

    def labels(params):
        kept = jax.tree.map(lambda _: False, params)
        return kept | {"refinement": jax.tree.map(lambda _: True, params["refinement"])}

    return optax.partition({True: optimiser, False: optax.set_to_zero()}, labels)


def blur(image: jax.Array) -> jax.Array:
    """Takes the binomial mean of 3x3 pixels of (B, H, W, 3), as lenses do."""
    return ops.separable_filter(image, (0.25, 0.5, 0.25), (0.25, 0.5, 0.25))


def worsen(
    keys: jax.Array,
    first: jax.Array,
    second: jax.Array,
    *,
    noise: float | jax.Array,
    softest: float | jax.Array = 1.0,
    chroma: float | jax.Array = 0.5,
) -> tuple[jax.Array, jax.Array]:
    """Worsens frames, (B, H, W, 3), as cameras do: blur, colour, noise.

    Args:
        keys: Three random keys.
        first: Frames 1.
        second: Frames 2.
        noise: Largest standard deviation of the noise.
        softest: Largest share of what `blur` takes.
        chroma: Strength of the changes of colour.
    """
    scenes = len(first)
    softness = softest * jax.random.uniform(keys[0], (scenes, 1, 1, 1))
    first, second = (x + softness * (blur(x) - x) for x in (first, second))
    colours = functools.partial(photometric.change_chroma, strength=chroma)
    first, second = jax.vmap(colours)(jax.random.split(keys[1], scenes), first, second)
    add_noise = functools.partial(photometric.add_noise, largest=noise)
    return jax.vmap(add_noise)(jax.random.split(keys[2], scenes), first, second)


def both_ways(
    first: jax.Array, second: jax.Array, batch: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
    """Shows each scene forwards and backwards in time, with the flow of `batch`."""
    return {
        "image1": jnp.concatenate([first, second]),
        "image2": jnp.concatenate([second, first]),
        "flow": jnp.concatenate([batch["flow"], batch["flow_backward"]]),
    }


def draw(
    key: jax.Array,
    *,
    bank: jax.Array,
    scenes: int,
    size: tuple[int, int],
    noise: float,
) -> dict[str, jax.Array]:
    """Draws scenes, worsens their frames as cameras do, and shows each both ways."""
    keys = jax.random.split(key, 4)
    batch = synthetic.flow_batch(
        keys[0], preset="world", batch_size=scenes, size=size, textures=bank
    )
    frames = worsen(keys[1:], batch["image1"], batch["image2"], noise=noise)
    return both_ways(*frames, batch)


def robust(error: jax.Array) -> jax.Array:
    """Returns the mean of |error|^0.8: what is nearly right counts more than with 1."""
    square = jnp.sum(jnp.square(error), axis=-1)
    return jnp.mean((square + 1e-4) ** 0.4)


def loss(model: Any, batch: Mapping[str, jax.Array]):
    """Returns the loss of all levels, coarser ones less, and the error in pixels."""
    *coarse, fine = model(batch["image1"], batch["image2"]).predictions
    target = batch["flow"]
    total = robust(fine - target)
    for rank, found in enumerate(reversed(coarse)):
        cell = target.shape[1] // found.shape[1]
        mean = ops.avg_pool(target, cell, strides=cell)
        total += 0.4 * 0.7**rank * robust(cell * found - mean)
    return total, {"epe": jnp.mean(metrics.epe(fine, target))}


def make_step(model: Any, optimiser: Any, args: Args) -> train.Step:
    """Compiles a step for each size; one call takes the next in turn."""
    bank = textures.bank(jax.random.key(7), count=args.pictures)
    # Every scene is shown both ways.
    mesh = recipe.core.device_mesh(2 * args.scenes)
    steps = [
        train.make_step(
            model,
            loss,
            optimiser,
            draw=functools.partial(
                draw,
                bank=jnp.asarray(bank),
                scenes=args.scenes,
                size=size,
                noise=args.noise,
            ),
            mesh=mesh,
        )
        for size in args.sizes
    ]

    def run(state: train.TrainState):
        return steps[int(state.step) % len(steps)].run(state)

    return steps[0]._replace(run=run)


def main(args: Args) -> dict[str, float]:
    """Trains, measures on held-out scenes, and writes the averaged weights.

    Returns:
        The error on held-out scenes, and that over the error of zero flow.
    """
    folders.check_target("--workdir", args.workdir)
    model: Any = jaxflow.create_model(args.model, seed=args.seed)
    # First estimates near zero flow warp little, and training takes off sooner.
    kernel = model.decoder.predict_flow.kernel
    kernel[...] = 0.1 * kernel[...]
    optimiser = make_optimiser(args.steps, args.peak_rate)
    if args.start:
        fast: Any = jaxflow.load_weights(
            jaxflow.create_model("jaxflow_fast"), args.start
        )
        model.encoder, model.decoder = fast.encoder, fast.decoder
        learner = only_refinement(optax.adam(0.02))
        optimiser = averaging.averaged(learner, decay=0.9)
    step = make_step(model, optimiser, args)
    scenes = jax.jit(
        functools.partial(synthetic.flow_batch, preset="world", batch_size=16,
                          size=(192, 256))
    )(jax.random.key(HELD_OUT + args.seed))  # fmt: skip
    zero = float(jnp.mean(jnp.linalg.norm(scenes["flow"], axis=-1)))

    def evaluate(state: train.TrainState) -> dict[str, float]:
        weights = {
            "params": averaging.average_of(state.opt_state),
            "stats": state.stats,
        }
        # The model is free to run on other devices than those that train it.
        weights = jax.tree.map(jnp.asarray, jax.device_get(weights))
        checkpoint.fill(model, weights)
        found = jaxflow.estimate_flow(model, scenes["image1"], scenes["image2"])
        error = float(np.mean(np.linalg.norm(found - scenes["flow"], axis=-1)))
        return {"held_out_epe": error, "held_out_ratio": error / zero}

    state = train.fit(
        step,
        train.init(model, optimiser, seed=args.seed),
        steps=args.steps,
        workdir=args.workdir,
        log_every=50,
        save_every=args.save_every,
        evaluate=evaluate,
        best="held_out_epe",
        config=recipe.core.identity(args),
        defaults=recipe.core.defaults(args),
    )
    result = evaluate(state)
    path = pathlib.Path(args.workdir) / f"{args.model}.safetensors"
    jaxflow.save_weights(model, path)
    print(f"{path}: {result}")
    return result


if __name__ == "__main__":
    recipe.core.command(main, Args, __doc__)
