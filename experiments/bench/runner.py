"""Times rival programs in processes of their own, in turns.

A case is a `Rivals`: two functions, ours and the peer's, that prepare the work and
return a call without arguments; or an `Alone`, a function that returns its own figures
and runs in a fresh process. The peer never shares a process with JAX, and gets
OMP_PROC_BIND=true: without it GNU OpenMP spins, which makes PyTorch look up to tens of
times slower than it is.

On a CPU both sides are bound to the same cores, and processor time counts, which a busy
machine disturbs less than the clock. On other devices the clock counts.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

Prepare = Callable[[], Callable[[], Any]]


class Rivals(NamedTuple):
    """Two programs for the same work.

    Attributes:
        ours: Prepares our call.
        peer: Prepares the peer's.
        needs: What the peer is made with: "torch", which the interpreter of --peers
            has, or "cv2", which ours has.
    """

    ours: Prepare
    peer: Prepare
    needs: str = "torch"


class Alone(NamedTuple):
    """What is measured without a peer.

    Attributes:
        measure: Returns the figures by name.
        every_core: Whether it gets all cores of this process.
    """

    measure: Callable[[], dict[str, Any]]
    every_core: bool = False


class Place(NamedTuple):
    """Where cases run.

    Attributes:
        device: "cpu", "gpu" or "tpu".
        peers: An interpreter that has PyTorch, or None.
        cores: Number of cores of both sides, on a CPU.
    """

    device: str
    peers: str | None
    cores: int

    def start(self, *words: str, needs: str | None = None, every_core: bool = False):
        """Starts this program in a process of its own."""
        python = self.peers if needs == "torch" else sys.executable
        command = [str(python), "-m", "experiments.bench", "--device", self.device]
        if self.device == "cpu":
            allowed = sorted(os.sched_getaffinity(0))
            used = allowed if every_core else allowed[-self.cores :]
            command = ["taskset", "-c", ",".join(map(str, used)), *command]
        return subprocess.Popen(
            [*command, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self.environment(),
            text=True,
            process_group=0,  # Ctrl-C is for the referee, who ends the others.
        )

    def exists(self) -> bool:
        """Tells whether JAX finds the device."""
        return not subprocess.call(
            [sys.executable, "-c", "import jax; jax.devices()"],
            env=self.environment(),
            stderr=subprocess.DEVNULL,
        )

    def environment(self) -> dict[str, str]:
        """Returns the environment of both sides."""
        platform = {"gpu": "cuda"}.get(self.device, self.device)
        kept = {"JAX_COMPILATION_CACHE_DIR": os.path.abspath(".jax_cache")}
        more = {"OMP_PROC_BIND": "true", "JAX_PLATFORMS": platform}
        return kept | os.environ | more


class Referee:
    """Asks rivals in turns; each is started when it is first needed.

    They are ended when a ``with`` block over the referee is left.
    """

    def __init__(self, place: Place):
        self.place = place
        self.processes: dict[str, subprocess.Popen] = {}

    def compare(self, name: str, case: Rivals, rounds: int) -> dict[str, Any]:
        """Returns the medians of both sides, and their ratio."""
        sides = {"ours": "ours", "peer": case.needs}
        if case.needs == "torch" and not self.place.peers:
            del sides["peer"]
        seen: dict[str, list[dict]] = {side: [] for side in sides}
        while len(seen["ours"]) < rounds:
            for side, needs in sides.items():
                seen[side].append(self._ask(side, needs, name))
            slowest = max(samples[0]["wall"] for samples in seen.values())
            rounds = min(rounds, 3) if slowest > 2 else rounds
        return _summary(seen, self.place.device)

    def _ask(self, side: str, needs: str, name: str) -> dict[str, Any]:
        if needs not in self.processes:
            wanted = None if needs == "ours" else needs
            self.processes[needs] = self.place.start("--rival", side, needs=wanted)
        process = self.processes[needs]
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(name + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        if not answer:
            del self.processes[needs]
            raise RuntimeError(f"the process of {needs} ended")
        found = json.loads(answer)
        if "failed" in found:
            raise RuntimeError(f"{needs}: {found['failed']}")
        return found

    def __enter__(self) -> "Referee":
        return self

    def __exit__(self, *_) -> None:
        for process in self.processes.values():
            process.kill()
            process.communicate()


def alone(place: Place, name: str, case: Alone) -> dict[str, Any]:
    """Measures a case in a fresh process."""
    process = place.start("--alone", name, every_core=case.every_core)
    try:
        out, _ = process.communicate()
    except KeyboardInterrupt:
        process.kill()
        raise
    if process.returncode:
        raise RuntimeError(f"ended with {process.returncode}")
    return json.loads(out.strip().splitlines()[-1])


def _summary(seen: dict[str, list[dict]], device: str) -> dict[str, Any]:
    line: dict[str, Any] = {}
    clocks = ("cpu", "wall") if device == "cpu" else ("wall",)
    for clock in clocks:
        medians = {
            side: statistics.median(sample[clock] for sample in samples)
            for side, samples in seen.items()
        }
        for side, seconds in medians.items():
            line[f"{side}_{clock}_ms"] = round(1e3 * seconds, 3)
        if "peer" in medians:
            line[f"{clock}_ratio"] = round(medians["ours"] / medians["peer"], 3)
    line["rounds"] = len(seen["ours"])
    return line | {side: samples[0]["version"] for side, samples in seen.items()}


def answer(cases: dict[str, Rivals | Alone], side: str, device: str) -> None:
    """Answers each name on standard input with the time of one round."""
    if side == "peer" and device == "gpu":
        import torch

        torch.set_default_device("cuda")
    prepared: dict[str, tuple[Callable, int]] = {}
    answers, sys.stdout = sys.stdout, sys.stderr  # Some peers print.
    for name in map(str.strip, sys.stdin):
        try:
            if name not in prepared:
                prepared.clear()  # An earlier case is not asked for again.
                prepared[name] = _prepare(getattr(cases[name], side))
            found = _round(*prepared[name])
        except Exception as error:  # One that fails must not take the others along.
            said = " ".join(str(error).split())[:300]
            found = {"failed": f"{type(error).__name__}: {said}"}
        print(json.dumps(found), flush=True, file=answers)
    sys.stdout = answers


def _prepare(prepare: Prepare) -> tuple[Callable, int]:
    """Returns a call that was made before, and how often a round repeats it."""
    call = prepare()
    call()
    taken = _round(call, 1)["wall"]
    return call, max(1, min(200, round(0.3 / taken)))


def _round(call: Callable, repeats: int) -> dict[str, Any]:
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(repeats):
        call()
    return {
        "cpu": (time.process_time() - cpu) / repeats,
        "wall": (time.perf_counter() - wall) / repeats,
        "version": versions(),
    }


def versions() -> str:
    """Names what this process has imported, with versions."""
    return ", ".join(
        f"{name} {sys.modules[name].__version__}"
        for name in ("jax", "torch", "torchvision", "cv2")
        if name in sys.modules
    )


def jax_call(function: Callable, *arrays) -> Callable:
    """Returns a call that runs a function under jit and waits for it."""
    import jax

    compiled = jax.jit(function)
    arrays = jax.block_until_ready(jax.device_put(arrays))

    def call():
        return jax.block_until_ready(compiled(*arrays))

    # What accelerator.py reads, to tell what share of the device a call uses.
    call.function, call.arrays = function, arrays
    return call


def jax_gradient_call(function: Callable, *arrays) -> Callable:
    """The same for the gradients, in all arrays, of the sum of squares."""
    import jax

    def loss(*arrays):
        return (function(*arrays) ** 2).sum()

    return jax_call(jax.grad(loss, argnums=tuple(range(len(arrays)))), *arrays)


def tensors(*arrays) -> list:
    """Puts arrays where PyTorch runs."""
    import torch

    return [torch.from_numpy(a).to(torch.get_default_device()) for a in arrays]


def waited(call: Callable) -> Callable:
    """Makes a call of PyTorch wait for what it started on a device."""
    import torch

    if torch.get_default_device().type == "cpu":
        return call

    def wait():
        call()
        torch.cuda.synchronize()

    return wait


def torch_call(function: Callable, *arrays) -> Callable:
    """Returns a call of a PyTorch function, without gradients."""
    import torch

    given = tensors(*arrays)

    def call():
        with torch.inference_mode():
            function(*given)

    return waited(call)


def torch_gradient_call(function: Callable, *arrays) -> Callable:
    """The same for the gradients, in all arrays, of the sum of squares."""
    import torch

    given = [array.requires_grad_() for array in tensors(*arrays)]

    def call():
        torch.autograd.grad((function(*given) ** 2).sum(), given)

    return waited(call)
