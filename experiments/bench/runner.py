"""Times rival programs in processes of their own, in turns.

A bench is a file with a dict of cases, each a pair of functions (ours, the peer's) that
prepare the work and return a call without arguments. Run as a script it prints one JSON
line a case:

    python experiments/bench/correlation.py [--rounds 5] [--cores 1] [--only PATTERN]

The environment variable JAXFLOW_PEER_PYTHON names an interpreter that has the peer
(PyTorch for the CPU, say); without it only our side runs. The peer never shares a
process with JAX, and gets OMP_PROC_BIND=true: without it GNU OpenMP spins, which makes
PyTorch look up to tens of times slower than it is.

Both sides are bound to the same cores. `*_cpu_ms` is the median over rounds of
processor time a call, which a busy machine disturbs less than `*_wall_ms`; a ratio
below 1 means that we are faster.
"""

import argparse
import fnmatch
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

Cases = dict[str, tuple[Callable, Callable]]


def main(cases: Cases):
    """Runs as the referee, or as one of the rivals that the referee starts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--only", default="*", help="cases whose names match")
    parser.add_argument("--rival", choices=("ours", "peer"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rival:
        _rival(cases, arguments.rival)
    else:
        chosen = fnmatch.filter(cases, arguments.only)
        _referee(chosen, arguments.rounds, arguments.cores)


def _referee(names, rounds, cores):
    rivals = {"ours": _start(sys.executable, "ours", cores)}
    if peer := os.environ.get("JAXFLOW_PEER_PYTHON"):
        rivals["peer"] = _start(peer, "peer", cores)
    for name in names:
        seen = {side: [] for side in rivals}
        for _ in range(rounds):
            for side, process in rivals.items():
                seen[side].append(_ask(process, name))
        print(json.dumps(_summary(name, seen, cores)), flush=True)
    for process in rivals.values():
        process.stdin.close()
        process.wait()


def _start(python, side, cores):
    allowed = sorted(os.sched_getaffinity(0))[-cores:]
    command = [python, os.path.abspath(sys.argv[0]), "--rival", side]
    environment = os.environ | {"OMP_PROC_BIND": "true", "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        ["taskset", "-c", ",".join(map(str, allowed)), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    )


def _ask(process, name):
    process.stdin.write(name + "\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    if not answer:
        raise RuntimeError(f"{process.args} ended while running {name!r}")
    return json.loads(answer)


def _summary(name, seen, cores):
    line = {"bench": os.path.basename(sys.argv[0]).removesuffix(".py"), "case": name}
    for clock in ("cpu", "wall"):
        medians = {
            side: statistics.median(sample[clock] for sample in samples)
            for side, samples in seen.items()
        }
        for side, seconds in medians.items():
            line[f"{side}_{clock}_ms"] = round(1e3 * seconds, 3)
        if "peer" in medians:
            line[f"{clock}_ratio"] = round(medians["ours"] / medians["peer"], 3)
    line |= {side: samples[0]["version"] for side, samples in seen.items()}
    return line | {"cores": cores, "machine": platform.processor() or "unknown"}


def _rival(cases, side):
    """Answers each name on standard input with the time of one round."""
    prepared = {}
    for name in map(str.strip, sys.stdin):
        if name not in prepared:
            call = cases[name][side == "peer"]()
            call()
            begin = time.perf_counter()
            call()
            once = time.perf_counter() - begin
            prepared[name] = call, max(1, min(200, round(0.3 / once)))
        call, repeats = prepared[name]
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(repeats):
            call()
        answer = {
            "cpu": (time.process_time() - cpu) / repeats,
            "wall": (time.perf_counter() - wall) / repeats,
            "version": _version(),
        }
        print(json.dumps(answer), flush=True)


def _version():
    return ", ".join(
        f"{name} {sys.modules[name].__version__}"
        for name in ("jax", "torch", "cv2")
        if name in sys.modules
    )


def jax_call(function: Callable, *arrays) -> Callable:
    """Returns a call that runs a function under jit and waits for it."""
    import jax

    compiled = jax.jit(function)
    arrays = jax.tree.map(jax.numpy.asarray, arrays)
    return lambda: jax.block_until_ready(compiled(*arrays))


def jax_gradient_call(function: Callable, *arrays) -> Callable:
    """The same for the gradients, in all arrays, of the sum of squares."""
    import jax

    def loss(*arrays):
        return (function(*arrays) ** 2).sum()

    return jax_call(jax.grad(loss, argnums=tuple(range(len(arrays)))), *arrays)


def torch_call(function: Callable, *arrays) -> Callable:
    """Returns a call of a PyTorch function, without gradients."""
    import torch

    tensors = [torch.from_numpy(array) for array in arrays]

    def call():
        with torch.inference_mode():
            function(*tensors)

    return call


def torch_gradient_call(function: Callable, *arrays) -> Callable:
    """The same for the gradients, in all arrays, of the sum of squares."""
    import torch

    tensors = [torch.from_numpy(array).requires_grad_() for array in arrays]

    def call():
        torch.autograd.grad((function(*tensors) ** 2).sum(), tensors)

    return call
