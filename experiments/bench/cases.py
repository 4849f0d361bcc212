"""All cases by name, and the bars that we want to stay below."""

from experiments.bench import (
    classical,
    conv,
    conv3d,
    correlation,
    costs,
    fields,
    networks,
    repflow,
    runner,
    training,
    unet3d,
    warp,
)

_GROUPS = {
    "correlation": correlation,
    "warp": warp,
    "conv": conv,
    "conv3d": conv3d,
    "fields": fields,
    "networks": networks,
    "training": training,
    "diffusion": unet3d,
    "repflow": repflow,
    "classical": classical,
    "costs": costs,
}
CASES: dict[str, runner.Rivals | runner.Alone] = {
    f"{group}/{name}": case
    for group, module in _GROUPS.items()
    for name, case in module.CASES.items()
}


def moves(name: str) -> bool:
    """Tells whether a case means something on a device that is not a CPU."""
    case = CASES[name]
    return name.startswith("costs/first") or (
        isinstance(case, runner.Rivals) and case.needs == "torch"
    )


def _each(group: str, ending: str, most: float) -> dict[str, float]:
    return {
        name: most
        for name in CASES
        if name.startswith(f"{group}/") and name.endswith(ending)
    }


# The largest ratio, or a figure's name and its largest value.
BARS: dict[str, float | tuple[str, float]] = {
    **_each("correlation", "forward", 0.35),
    **_each("correlation", "gradient", 0.25),
    **_each("warp", "forward", 0.6),
    **_each("warp", "gradient", 1.2),
    "networks/pwcnet 448x1024 / ptlflow": 0.6,
    "networks/pwcnet 448x1024 / ptlflow, fair correlation": 0.9,
    "training/pwcnet step 4x256x256 / ptlflow": 0.65,
    "training/pwcnet step 4x256x256 / ptlflow, fair correlation": 1.0,
    "networks/raft_large 448x1024, 12 iterations / torchvision": 0.7,
    "networks/raft_small 448x1024, 12 iterations / torchvision": 0.75,
    "networks/slowfast_4x16_r50 32x224x224 / pytorchvideo": 1.0,
    **_each("repflow", "forward", 0.15),
    **_each("repflow", "iterations, gradient", 0.45),
    "classical/TV-L1 436x1024 equal work": 0.12,
    "classical/TV-L1 388x584 equal work": 0.12,
    "classical/TV-L1 436x1024 defaults": 0.2,
    "costs/estimate_flow beside its program": ("more_cpu_ms", 0.3),
    "costs/jaxflow models": ("cpu_s", 1.0),
    "costs/first call of pwcnet 448x1024": ("first_cpu_s", 4.0),
    "costs/first step of pwcnet 4x256x256": ("first_cpu_s", 12.0),
    "costs/first call of flownet2 384x512": ("first_cpu_s", 8.0),
    "costs/first call of slowfast_4x16_r50": ("first_cpu_s", 10.0),
    "costs/demo, until it has made a step": ("ready_cpu_s", 20.0),
    "costs/growth of pwcnet with pixels": ("exponent", 1.05),
    "costs/memory of raft_large with pixels": ("on_demand_exponent", 1.05),
}
