"""TVNet: Fan, Huang, Gan, Ermon, Gong, Huang (CVPR 2018), flow that learns unlabelled.

    python experiments/video/tvnet.py --workdir runs/tvnet
    python experiments/video/tvnet.py --data ucf101/train.txt --workdir runs/tvnet_ucf

The same command run again goes on where it was stopped. Without --data, scenes are
drawn on the device, whose flow only the test looks at. New weights are TV-L1 itself;
what is trained are its filters of the flow, iteration by iteration.

    loss (Eq. 9): lambda mean |I2 warped - I1| + mean |gradient of the flow|

    EPE, 200 scenes of "translation" at 64x64     TV-L1      trained
    --steps 300                                   not run yet

Published numbers are of classifiers of this flow (TVNet-50: one scale, one warp, 50
iterations); their schedule is not known to us. SGD with momentum 0.9 at 1e-4, gradients
clipped to norm 1, is ours, as are the scenes.
"""

import dataclasses
import functools
import json
import pathlib
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import recipe
from flax import nnx

from jaxflow import checkpoint, metrics, train
from jaxflow.data import synthetic
from jaxflow.io import folders
from jaxflow.models.flow import tvnet


@dataclasses.dataclass(frozen=True, kw_only=True)
class Args:
    """Options of the recipe.

    Attributes:
        workdir: Folder for checkpoints and logs.
        preset: Synthetic scenes to train and test on.
        data: Videos to take pairs of frames from: see `jaxflow.data.clips.list_videos`.
        steps: Number of steps.
        rate: Learning rate.
        batch_size: Pairs in a batch.
        size: Height and width of the frames.
        seed: Of the data.
        workers: Processes that decode `data`.
        save_every: Steps between checkpoints.
    """

    workdir: pathlib.Path
    preset: Literal["chairs", "things", "sdhom", "translation"] = "translation"
    data: pathlib.Path | None = None
    steps: int = 2000
    rate: float = 1e-4
    batch_size: int = 8
    size: int = 64
    seed: int = 0
    workers: int = 0
    save_every: int = 500


def loss(model: tvnet.Model, batch: dict[str, jax.Array]) -> jax.Array:
    """Returns how badly the flow explains the pairs (Eq. 9)."""
    if "clip" in batch:
        return model.loss(batch["clip"][:, 0], batch["clip"][:, 1])
    return model.loss(batch["image1"], batch["image2"])


def batches_of(args: Args):
    """Returns an iterator over pairs of consecutive frames."""
    from jaxflow.data import clips

    loader = clips.clip_loader(
        clips.Videos(args.data),
        batch_size=args.batch_size // jax.process_count(),
        num_frames=2,
        stride=1,
        size=args.size,
        short_side=(args.size, args.size * 5 // 4),
        seed=args.seed,
        shard=(jax.process_index(), jax.process_count()),
        workers=args.workers,
    )
    return iter(loader)


def error(model: tvnet.Model, args: Args, *, scenes: int = 200) -> float:
    """Returns the mean end-point error on scenes that no training draws."""
    graph, weights = nnx.split(model)

    @jax.jit
    def one_batch(key):
        batch = synthetic.flow_batch(
            key, preset=args.preset, batch_size=20, size=(args.size, args.size)
        )
        found = nnx.merge(graph, weights, copy=True)(batch["image1"], batch["image2"])
        return jnp.mean(metrics.epe_map(found.flow, batch["flow"]))

    keys = jax.random.split(jax.random.key(1_000_000 + args.seed), scenes // 20)
    return float(np.mean([one_batch(key) for key in keys]))


def main(args: Args, config: tvnet.Config = tvnet.Config()) -> train.TrainState:  # noqa: B008
    """Trains, or goes on training, prints both errors, and returns the last state."""
    folders.check_target("--workdir", args.workdir)
    model = tvnet.Model(config, rngs=nnx.Rngs(0))
    model.eval()
    result: dict[str, Any] = {"tvl1": error(model, args)}
    optimiser = optax.chain(
        optax.clip_by_global_norm(1.0), optax.sgd(args.rate, momentum=0.9)
    )
    draw = functools.partial(
        synthetic.flow_batch,
        preset=args.preset,
        batch_size=args.batch_size,
        size=(args.size, args.size),
    )
    step = train.make_step(
        model,
        loss,
        optimiser,
        draw=draw if args.data is None else None,
        mesh=recipe.core.device_mesh(args.batch_size),
    )
    state = train.fit(
        step,
        train.init(model, optimiser, seed=args.seed),
        None if args.data is None else batches_of(args),
        steps=args.steps,
        workdir=args.workdir,
        save_every=args.save_every,
        config=recipe.core.identity(args),
        defaults=recipe.core.defaults(args),
    )
    result["trained"] = error(train.finish(model, state), args)
    checkpoint.save(args.workdir / "model", model)
    print(json.dumps(result))
    return state


if __name__ == "__main__":
    recipe.core.command(main, Args, __doc__)
