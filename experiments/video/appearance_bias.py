"""How far a net trusts looks: motions whose tint gives them away, until it lies.

    python experiments/video/appearance_bias.py
    python experiments/video/appearance_bias.py --seeds 0 --nets rgb --steps 20

Four motions are to be told apart. In training each has a tint of its own, as each sport
has its field; the nets are those of `product.py`. They are tested on new clips with the
tint of training ("linked"), with any of the four tints ("any"), and with that of the
next class ("swapped"). Who goes by the looks is right always, once in four, and never.

A net that has been tested in a folder is not trained again there.

    test clips, chance is 25 %   seed   linked     any        swapped
    rgb                          0      100.0 %    25.0 %     0.0 %
                                 1      100.0 %    25.0 %     0.0 %
                                 2      100.0 %    25.0 %     0.0 %
    flow                         0      100.0 %    100.0 %    100.0 %
                                 1      100.0 %    100.0 %    100.0 %
                                 2      100.0 %    100.0 %    100.0 %
    late                         0      100.0 %    70.2 %     68.2 %
                                 1      100.0 %    62.8 %     66.2 %
                                 2      100.0 %    74.3 %     80.0 %
    conv                         0      100.0 %    68.8 %     91.8 %
                                 1      100.0 %    84.1 %     88.0 %
                                 2      100.0 %    80.6 %     72.0 %

400 clips are linked, 400 swapped, 1600 any. 150 steps of 32 clips; 170 seconds of CPU
time for these 12, compilation included, jax 0.10.2.
"""

import dataclasses
import pathlib
from typing import Any

import jax
import numpy as np
import product

from jaxflow.data import motion_classes

CLASSES = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Args(product.Args):
    """Options: those of `product.py`.

    Attributes:
        nets: Which to train and test; "late" is of "rgb" and "flow".
        test_clips: Clips to test with, of all tints: a quarter is linked, a quarter
            swapped.
        output: Folder for the weights and the JSON lines.
    """

    nets: tuple[str, ...] = ("rgb", "flow", "late", "conv")
    test_clips: int = 1600
    output: pathlib.Path = pathlib.Path("runs/appearance_bias")


def draw_linked(key: jax.Array, *, batch_size: int) -> dict[str, jax.Array]:
    """Draws clips of random motions, each in the tint of its class."""
    choose, draw = jax.random.split(key)
    label = jax.random.randint(choose, (batch_size,), 0, CLASSES)

    def one(key, label):
        return motion_classes.draw_clip(key, CLASSES * label + label, task="product")

    clip = jax.vmap(one)(jax.random.split(draw, batch_size), label)
    return {"clip": clip, "label": label}


def main(args: Args) -> list[dict[str, Any]]:
    """Trains and tests all nets with all seeds; a JSON line each."""
    data = motion_classes.load("test", args.test_clips, task="product")
    tint, motion = np.divmod(np.asarray(data["label"]), CLASSES)
    kinds = {
        "linked": tint == motion,
        "any": np.ones_like(tint, bool),
        "swapped": tint == (motion + 1) % CLASSES,
    }

    def draw(key):
        return draw_linked(key, batch_size=args.batch_size)

    def measure(best):
        right = best == motion
        return {kind: float(np.mean(right[chosen])) for kind, chosen in kinds.items()}

    return product.run_nets(args, CLASSES, draw, np.asarray(data["clip"]), measure)


if __name__ == "__main__":
    product.recipe.core.command(main, Args, __doc__)
