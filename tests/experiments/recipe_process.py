"""A recipe, run as from the command line with a small network; test_first_steps.py.

    python -m tests.experiments.recipe_process NAME STAGES [OPTION ...]

NAME is one of `CASES`, STAGES are some of its stages in order, with commas, or "all".
The options are those of the recipe. Batches, data and devices are what the recipe takes
by itself; frames are small. A line of JSON tells of each stage: on how many devices
its weights were, its last step, and the most memory that the process has had so far.
"""

import dataclasses
import importlib
import json
import pathlib
import resource
import sys
from typing import Any

import jax

from jaxflow.models.flow import (
    flownet2,
    flownetc,
    flownets,
    hd3,
    irr_pwc,
    liteflownet,
    pwcnet,
    raft,
    spynet,
    tvnet,
    vcn,
)
from jaxflow.models.video import (
    actionflownet,
    c3d,
    i3d_inception,
    mfnet,
    r3d,
    repflow,
    resnet3d,
)
from tests import cheaply

FOLDER = pathlib.Path(__file__).parents[2] / "experiments"
# Less to compile than TINY.
HD3 = hd3.Config(
    encoder="vgg", planes=(4, 4, 4, 4, 8, 8), decoder="resnet", hidden=8, radius=1
)
BOXES = dataclasses.replace(
    resnet3d.TINY, regions="aligned", head_mode="sigmoid_mean", temporal_pool=False
)
VCN = dataclasses.replace(vcn.TINY, levels=(3,), hypotheses=(4,))
SPYNET = spynet.Config(networks=2, max_levels=2, features=(4, 4), kernel_size=3)

_PAIRS = "--steps 2 --size 64 64 --save-every 1 --held-out 1"
_CLIPS = "--steps 2 --size 32 --save-every 1 --held-out 8 --views 1 1"


@dataclasses.dataclass(frozen=True)
class Case:
    """A recipe, a small network for it, and what is published of its stages.

    Attributes:
        recipe: Folder and file of the recipe.
        config: Of the network.
        batches: Published batch by stage.
        options: Of the command line.
    """

    recipe: str
    config: Any
    batches: dict[str, int]
    options: str = _PAIRS


def _numbered(name, numbers, batch):
    return {f"{name}{number}": batch for number in numbers}


CASES = {
    "flownets": Case("flow/flownet", flownets.TINY, {"short": 8, "long": 8, "fine": 4}),
    "flownetc": Case(
        "flow/flownet",
        flownetc.TINY,
        {"short": 8, "long": 8, "fine": 4},
        f"{_PAIRS} --variant flownetc",
    ),
    "pwcnet": Case(
        "flow/pwcnet",
        pwcnet.TINY,
        {
            **{"chairs": 8, "things": 4},
            **_numbered("sintel", (1, 2, 3, 4, 5), 4),
            **_numbered("kitti", (1, 2, 3, 4), 4),
        },
    ),
    "raft": Case(
        "flow/raft",
        raft.TINY,
        {"chairs": 10, "things": 6, "sintel": 6, "kitti": 6},
        f"{_PAIRS} --size 128 128",
    ),
    "irr_pwc": Case("flow/irr_pwc", irr_pwc.TINY, {"chairs": 4, "things": 4}),
    "hd3": Case(
        "flow/hd3",
        HD3,
        {"chairs": 32, "things": 32},
        f"{_PAIRS} --variant hd3_vgg_resnet",
    ),
    "vcn": Case(
        "flow/vcn", VCN, {"chairs": 16, "things": 16, "sintel": 16, "kitti": 16}
    ),
    "unsupervised_pwcnet": Case(
        "flow/unsupervised", pwcnet.TINY, {"plain": 1, "masked": 1}
    ),
    "unsupervised_spynet": Case(
        "flow/unsupervised",
        SPYNET,
        {"plain": 1, "masked": 1},
        f"{_PAIRS} --variant spynet",
    ),
    "unsupervised_tvnet": Case(
        "flow/unsupervised",
        tvnet.TINY,
        {"plain": 1, "masked": 1},
        f"{_PAIRS} --variant tvnet",
    ),
    "liteflownet": Case(
        "flow/liteflownet",
        liteflownet.TINY,
        {**_numbered("level", (6, 5, 4, 3, 2), 8), "joint": 8, "things": 4},
    ),
    "flownet2": Case(
        "flow/flownet2",
        flownet2.TINY,
        {
            **{"c_chairs": 8, "c_things": 4, "cs_chairs": 8, "cs_things": 4},
            **{"css_chairs": 8, "css_things": 4, "css_ft_sd": 4, "sd": 8},
            "fusion": 4,
        },
    ),
    "spynet": Case("flow/spynet", SPYNET, {"level0": 32, "level1": 32}),
    "slowfast": Case(
        "video/slowfast",
        resnet3d.TINY,
        {"scratch": 64, "steps": 64, "imagenet": 64},
        f"{_CLIPS} --model slow_r50 --precise-batches 1",
    ),
    "repflow": Case(
        "video/repflow", repflow.TINY, {"kinetics": 32, "hmdb": 32}, _CLIPS
    ),
    "c3d": Case("video/c3d", c3d.TINY, {"ucf101": 30}, _CLIPS),
    "r3d": Case("video/r3d", r3d.TINY, {"kinetics": 24}, _CLIPS),
    "i3d": Case(
        "video/i3d", i3d_inception.TINY, {"kinetics": 384}, f"{_CLIPS} --frames 9"
    ),
    "charades": Case(
        "video/charades",
        resnet3d.TINY,
        {"charades": 16},
        f"{_CLIPS} --model slow_r50 --precise-batches 1",
    ),
    "ava": Case(
        "video/ava",
        BOXES,
        {"ava": 64},
        # Without --views: a clip is seen whole.
        "--steps 2 --size 32 --save-every 1 --held-out 8 --model slow_4x16_r50_ava",
    ),
    "multigrid": Case(
        "video/multigrid",
        resnet3d.TINY,
        {"multigrid": 64},
        f"{_CLIPS} --model slow_r50 --precise-batches 1",
    ),
    "finetune": Case(
        "video/finetune", resnet3d.TINY, {"ucf101": 64, "hmdb51": 64}, _CLIPS
    ),
    "mfnet": Case("video/mfnet", mfnet.TINY, {"something": 128}, _CLIPS),
    "actionflownet": Case(
        "video/actionflownet",
        actionflownet.TINY,
        {"ucf101": 32},
        f"{_CLIPS} --frames 4",
    ),
}


def run(case: Case, stages: list[str], options: list[str]) -> None:
    """Runs stages of a recipe, one command after the other."""
    path = FOLDER / f"{case.recipe}.py"
    sys.path.insert(0, str(path.parent))
    module = importlib.import_module(path.stem)
    kind = "Options" if case.recipe.startswith("flow") else "Args"
    told = getattr(module, kind, None) or getattr(module.recipe, kind)

    def main(options):
        state = module.main(options, case.config)
        weights = jax.tree.leaves(state.params)[0]
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        line = {
            "stage": options.stage,
            "devices": len(weights.sharding.device_set),
            "step": int(state.step),
            "mib": most // 1024,
        }
        print(json.dumps(line), flush=True)

    for stage in stages:
        sys.argv = [str(path), *case.options.split(), "--stage", stage, *options]
        module.core.command(main, told, module.__doc__)


if __name__ == "__main__":
    cheaply.switch(True)
    name, wanted, *rest = sys.argv[1:]
    chosen = list(CASES[name].batches) if wanted == "all" else wanted.split(",")
    run(CASES[name], chosen, rest)
