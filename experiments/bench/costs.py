"""Measures what a call costs beside its arithmetic: compilation, dispatch, memory.

Compilation starts from nothing: no cache on disk is read. Its processor time is that of
all threads, which is no less than what the clock shows on a machine without other work.
"""

import functools
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

from experiments.bench import runner, tables

PIXELS = ((256, 256), (256, 512), (512, 512), (512, 1024), (1024, 1024), (1024, 2048))


def without_cache():
    """Turns the cache of compiled programs off."""
    import jax

    jax.config.update("jax_enable_compilation_cache", False)


def clocks(call):
    """Returns the processor and the clock's seconds of a call."""
    cpu, wall = time.process_time(), time.perf_counter()
    call()
    return time.process_time() - cpu, time.perf_counter() - wall


def first_call(prepare):
    """Measures the first call of what is prepared, and its memory."""
    import jax

    without_cache()
    call = prepare()
    cpu, wall = clocks(call)
    next_cpu, next_wall = clocks(call)
    compiled = jax.jit(call.function).lower(*call.arrays)
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lines = compiled.as_text().count("\n")
    return {
        "first_cpu_s": round(cpu, 2),
        "first_wall_s": round(wall, 2),
        "next_cpu_s": round(next_cpu, 3),
        "next_wall_s": round(next_wall, 3),
        "program_lines": lines,
        "peak_gib": round(kilobytes / 2**20, 2),
    }


def first_network(name, arrays, options=None):
    """Measures the first call of a network, in evaluation mode."""
    from experiments.bench import networks

    return first_call(functools.partial(networks.ours, name, arrays, options or {}))


def first_step():
    """Measures the first gradient of PWC-Net's loss."""
    from experiments.bench import training

    return first_call(training.our_pwcnet)


def demo():
    """Measures how long the demo takes until it has made its first step."""
    without_cache()
    import jax

    from jaxflow import train
    from jaxflow.demo import flow

    def ready():
        model = flow.build(0)
        mesh = train.data_mesh(jax.devices()[:1])
        optimiser = flow.optax.inject_hyperparams(flow.make_optimiser)(total=1000.0)
        step = train.make_step(model, flow.loss, optimiser, draw=flow.draw, mesh=mesh)
        state = train.init(model, optimiser, seed=0)
        flow.relative_error(model, flow.held_out_scenes(2, 0))(state.params)
        train.fit(step, state, steps=1, progress=False)

    cpu, wall = clocks(ready)
    return {"ready_cpu_s": round(cpu, 1), "ready_wall_s": round(wall, 1)}


def command(*words):
    """Measures a command of jaxflow, from its start to its end."""
    took = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "jaxflow.cli", *words],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        wall = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = sum(
            getattr(after, kind) - getattr(before, kind)
            for kind in ("ru_utime", "ru_stime")
        )
        took.append((cpu, wall))
    cpu, wall = (round(statistics.median(each), 2) for each in zip(*took, strict=True))
    return {"cpu_s": cpu, "wall_s": wall}


def dispatch():
    """Measures `estimate_flow` on a tiny pair against its bare compiled program."""
    import jax
    from flax import nnx

    import jaxflow

    model = jaxflow.create_model("pwcnet")
    frames = np.random.default_rng(0).random((2, 64, 64, 3), dtype=np.float32)
    graph, state = nnx.split(model)

    @jax.jit
    def bare(state, one, two):
        return nnx.merge(graph, state, copy=True)(one[None], two[None]).flow

    calls = {
        "estimate": lambda: jaxflow.estimate_flow(model, *frames),
        "bare": lambda: np.asarray(bare(state, *frames)),
    }
    found = {name: [] for name in calls}
    for _ in range(60):
        for name, call in calls.items():
            found[name].append(1e3 * clocks(call)[0])
    medians = {name: statistics.median(taken[5:]) for name, taken in found.items()}
    return {
        "estimate_cpu_ms": round(medians["estimate"], 3),
        "bare_cpu_ms": round(medians["bare"], 3),
        "more_cpu_ms": round(medians["estimate"] - medians["bare"], 3),
    }


def growth_of_pwcnet():
    """Measures how the time and memory of PWC-Net grow with the number of pixels."""
    from experiments.bench import networks

    def prepare(size):
        arrays = functools.partial(networks.images, 2, *size)
        return networks.ours("pwcnet", arrays, {})

    return growth(prepare, PIXELS, [height * width for height, width in PIXELS])


def growth_of_raft(iterations=(2, 4, 8, 16)):
    """Measures how RAFT's time grows with its iterations."""
    from experiments.bench import networks

    arrays = functools.partial(networks.images, 2, 256, 256)

    def prepare(count):
        return networks.ours("raft_large", arrays, {"iterations": count})

    return growth(prepare, iterations, iterations)


def growth_with_frames(counts=(8, 16, 32)):
    """Measures how the time of R(2+1)D grows with the frames of a clip."""
    from experiments.bench import networks

    def prepare(frames):
        return networks.ours("r3d_18", lambda: [networks.clip(frames, 112)], {})

    return growth(prepare, counts, counts)


def growth(prepare, settings, sizes):
    """Returns times, memory beside arguments, and the exponents of both."""
    import jax

    seconds, temporary = [], []
    for setting in settings:
        call = prepare(setting)
        call()
        seconds.append(min(clocks(call)[0] for _ in range(3)))
        plan = jax.jit(call.function).lower(*call.arrays).compile().memory_analysis()
        temporary.append(plan.temp_size_in_bytes / 1e6)
    return {
        "exponent": round(tables.exponent(sizes, seconds), 3),
        "memory_exponent": round(tables.exponent(sizes, temporary), 3),
        **{f"cpu_s_{n}": round(x, 3) for n, x in zip(sizes, seconds, strict=True)},
        **{f"mb_{n}": round(x, 1) for n, x in zip(sizes, temporary, strict=True)},
    }


def memory_of_raft():
    """Measures how RAFT's memory grows with pixels, without a volume and with one."""
    import jax
    from flax import nnx

    from jaxflow import cost

    sizes = ((256, 256), (256, 512), (512, 512), (512, 1024))
    line = {}
    for kind in ("on_demand", "all_pairs"):
        graph, state = nnx.split(cost.describe("raft_large", correlation=kind))

        def run(state, one, two, graph=graph):
            return nnx.merge(graph, state, copy=True)(one, two, iterations=2).flow

        found = []
        for size in sizes:
            frame = jax.ShapeDtypeStruct((1, *size, 3), np.float32)
            plan = jax.jit(run).lower(state, frame, frame).compile().memory_analysis()
            found.append(plan.temp_size_in_bytes / 1e6)
            line[f"{kind}_mb_{size[0]}x{size[1]}"] = round(found[-1], 1)
        pixels = [height * width for height, width in sizes]
        line[f"{kind}_exponent"] = round(tables.exponent(pixels, found), 3)
    return line


def sampling():
    """Measures ten steps of DDIM by the factorised U-Net, a clip of 8x32x32."""
    import jaxflow
    from jaxflow.generation import settings

    model = jaxflow.create_model("lucid_unet3d")
    quick = settings.Settings(steps=10, sampler="ddim")

    def draw():
        return jaxflow.generate(model, length=8, size=(32, 32), settings=quick)

    draw()
    cpu, wall = zip(*(clocks(draw) for _ in range(3)), strict=True)
    return {"cpu_s": round(min(cpu), 3), "wall_s": round(min(wall), 3)}


def inputs(task):
    """Measures what the input gives against what a training step takes."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "experiments/bench/inputs.py", task]
        run = subprocess.run(
            command,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"TMPDIR": folder},
        )
    import json

    line = json.loads(run.stdout.splitlines()[-1])
    return {k: v for k, v in line.items() if isinstance(v, (int, float))}


def _pair(height, width):
    from experiments.bench import networks

    return networks.images(2, height, width)


def _clip():
    from experiments.bench import networks

    return [networks.clip(32, 224)]


_alone = functools.partial(runner.Alone, every_core=True)
CASES = {
    "estimate_flow beside its program": runner.Alone(dispatch),
    "jaxflow models": runner.Alone(functools.partial(command, "models")),
    "jaxflow --help": runner.Alone(functools.partial(command, "--help")),
    "first call of pwcnet 448x1024": _alone(
        functools.partial(first_network, "pwcnet", functools.partial(_pair, 448, 1024))
    ),
    "first step of pwcnet 4x256x256": _alone(first_step),
    "first call of flownet2 384x512": _alone(
        functools.partial(first_network, "flownet2", functools.partial(_pair, 384, 512))
    ),
    "first call of slowfast_4x16_r50": _alone(
        functools.partial(first_network, "slowfast_4x16_r50", _clip)
    ),
    "demo, until it has made a step": _alone(demo),
    "growth of pwcnet with pixels": runner.Alone(growth_of_pwcnet),
    "memory of raft_large with pixels": runner.Alone(memory_of_raft),
    "growth of raft_large with iterations": runner.Alone(growth_of_raft),
    "growth of r3d_18 with frames": runner.Alone(growth_with_frames),
    "sampling of lucid_unet3d, 10 steps": runner.Alone(sampling),
    **{
        f"input of {task}": runner.Alone(functools.partial(inputs, task))
        for task in ("flow", "video")
    },
}
