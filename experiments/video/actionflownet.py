"""ActionFlowNet: Ng, Choi, Neumann, Davis (WACV 2018), actions and flow at once.

    python experiments/video/actionflownet.py --data ucf101/train.txt \
        --test ucf101/test.txt --workdir runs/actionflownet
    python experiments/video/actionflownet.py --task motion8 --width 8 \
        --workdir runs/small

Runs ucf101 in its folder of --workdir; run again, it goes on where it was stopped.
Without --data, clips are drawn on the device. A shorter --steps shrinks the schedule.

    loss: cross entropy + 0.1 end-point error, of the flow at half the size

    UCF101, split 1, top-1     we got
    from scratch, with flow    not run yet

The authors publish no code, and what we know of the paper does not settle the schedule:
SGD with momentum 0.9, rate 0.01 for 32 clips, a tenth after 20 and 40 of 50 epochs, is
ours. The teacher is TV-L1 of each two frames, run inside the step; theirs is EpicFlow.
"""

import functools
from typing import Any

import jax
import recipe
from recipe import core

from jaxflow import classical, ops, train
from jaxflow.models.video import actionflownet

UCF101 = recipe.Stage(
    sets=("ucf101",), epochs=50, rate=0.01, batch_size=32, drops=(20, 40)
)
STAGES = {"ucf101": UCF101}
TEACHER = functools.partial(
    classical.tvl1.tvl1, levels=3, step=0.5, warps=2, outer_iterations=1
)


def teach(clip: jax.Array) -> jax.Array:
    """Returns the flow from each frame to the next, at half the size and in its pixels.

    Args:
        clip: (B, T, H, W, 3), RGB in [0, 1].

    Returns:
        (B, T - 1, H / 2, W / 2, 2), sizes rounded up.
    """
    one, two = (x.reshape(-1, *clip.shape[2:]) for x in (clip[:, :-1], clip[:, 1:]))
    flow = TEACHER(one, two)
    height, width = (-(-side // 2) for side in clip.shape[2:4])
    flow = ops.resize_flow(flow, (height, width))
    return flow.reshape(clip.shape[0], clip.shape[1] - 1, height, width, 2)


def loss(model: Any, batch: dict[str, jax.Array]):
    """Returns the sum of both losses, and the share of clips that are right."""
    flow = jax.lax.stop_gradient(teach(batch["clip"]))
    outputs = model.both(batch["clip"])
    total = actionflownet.multi_task_loss(outputs, batch["label"], flow)
    entropy, metrics = recipe.classification(outputs[0], batch["label"])
    return total, metrics | {"flow_error": (total - entropy) / 0.1}


def main(args: recipe.Args, config: Any = None) -> train.TrainState:
    """Trains, or goes on training, and returns the last state."""
    config = config or actionflownet.VARIANTS["actionflownet"]
    return recipe.run(args, STAGES, actionflownet.Model, config, loss=loss)


if __name__ == "__main__":
    core.command(main, recipe.Args, __doc__)
