"""Checks and times jaxflow on the device that is there, in at most eight minutes.

    make accelerator                                   # or, with options:
    python experiments/bench/accelerator.py [--small] [--minutes 8] [--only PATTERN]
    python experiments/bench/accelerator.py --table    # the results, as Markdown

First the tests of the contract for some networks and those against the published code
(float32 with products of the highest precision, where the test data are there), then
what bfloat16 changes, then times: of networks, and of every operation and training step
that `python -m experiments.bench --device gpu` compares with PyTorch. Each is a JSON
line, which is appended
to results/DEVICE.jsonl beside this file; commit it.

`ms` is the median of calls that are compiled and whose arrays are on the device.
`matrix` is the share of the rate of a large matrix product of the same type that the
convolutions and products of the call reach; `bandwidth` is the share of the rate of a
large copy that its arguments and results reach, each moved once. Both rates are
measured in the same run. `load` is that of the machine when the line was measured: on a
CPU with other work, times mean little. With --small networks are tiny and so are
arrays: that tries the program, not the device.
"""

import argparse
import datetime
import fnmatch
import functools
import itertools
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[2]
RESULTS = pathlib.Path(__file__).resolve().parent / "results"
CONTRACT = ("tests/models/test_contract.py", "-k", "pwcnet or raft or repflow")
PARITY = (
    *("tests/models/flow/test_pwcnet.py", "tests/models/flow/test_raft.py"),
    *("tests/models/flow/test_flownet2.py", "tests/models/video/test_slowfast.py"),
    *("-k", "published_code or official"),
)
COLUMNS = ("ms", "gflop", "matrix", "bandwidth", "load", "date", "jax")


def main():
    """Measures and appends lines, or prints the table of those there are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="tiny networks and arrays")
    parser.add_argument("--minutes", type=float, default=8.0, help="when to stop")
    parser.add_argument("--only", default="*", help="cases whose names match")
    parser.add_argument("--table", action="store_true", help="print results, and end")
    arguments = parser.parse_args()
    if arguments.table:
        print(table(read(RESULTS)))
        return
    deadline = time.monotonic() + 60 * arguments.minutes
    # Before JAX is imported: a TPU serves one process at a time.
    tested = [
        line
        for name, words in (("contract", CONTRACT), ("parity, float32", PARITY))
        if fnmatch.fnmatch(name, arguments.only)
        for line in [run_tests(name, words, deadline)]
    ]
    about = describe(arguments.small)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{slug(about['device'])}.jsonl"
    with path.open("a") as file:
        for line in itertools.chain(tested, measure(arguments, deadline)):
            print(json.dumps(line), flush=True)
            if "skipped" not in line:
                load = round(os.getloadavg()[0], 1)
                file.write(json.dumps({**line, "load": load, **about}) + "\n")
                file.flush()
    print(f"wrote {path}")


def describe(small: bool) -> dict[str, Any]:
    """Returns what every line says of the device, the versions and the day."""
    import flax
    import jax

    import jaxflow

    device = jax.devices()[0]
    return {
        "device": device.device_kind,
        "platform": device.platform,
        "jax": jax.__version__,
        "flax": flax.__version__,
        "jaxflow": jaxflow.__version__,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "small": small,
    }


def slug(device: str) -> str:
    """Returns a device's name as a file's."""
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")


def run_tests(name: str, words: tuple[str, ...], deadline: float) -> dict[str, Any]:
    """Runs tests in a process of their own, for a quarter of the time left."""
    began = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", *words]
    try:
        run = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=max(1.0, (deadline - began) / 4),
        )
        found = counts(run.stdout)
    except subprocess.TimeoutExpired as ended:
        done = (ended.stdout or b"").decode()
        found = {"passed": done.count("."), "failed": done.count("F"), "cut": True}
    return {"case": name, **found, "s": round(time.monotonic() - began, 1)}


def counts(output: str) -> dict[str, int]:
    """Reads how many tests passed, failed or were skipped from pytest's last line."""
    last = output.strip().splitlines()[-1] if output.strip() else ""
    found = {word: int(n) for n, word in re.findall(r"(\d+) (\w+)", last)}
    kinds = ("passed", "failed", "error", "errors", "skipped")
    return {kind: found[kind] for kind in kinds if kind in found} or {"error": 1}


def measure(arguments, deadline: float) -> Iterator[dict[str, Any]]:
    """Yields a line for each case, as long as there is time."""
    small = arguments.small
    rates = {}
    for dtype in ("float32", "bfloat16"):
        rates[dtype] = matrix_rate(dtype, 512 if small else 8192)
        yield {
            "case": f"matrix product, {dtype}",
            "tflops": rounded(rates[dtype] / 1e12),
        }
    copy = copy_rate(2**24 if small else 2**30)
    yield {"case": "copy", "gb_s": rounded(copy / 1e9)}
    for name, prepare in {**parities(), **cases(small)}.items():
        if not fnmatch.fnmatch(name, arguments.only):
            continue
        if time.monotonic() > deadline:
            yield {"case": name, "skipped": "no time was left"}
            continue
        dtype = "bfloat16" if "bfloat16" in name else "float32"
        try:
            found = prepare()
            if not isinstance(found, dict):
                found = timed(*found, rates[dtype], copy)
        except Exception as error:  # One that fails must not take the others along.
            said = " ".join(str(error).split())[:200]
            found = {"failed": f"{type(error).__name__}: {said}"}
        yield {"case": name, **found}


def seconds(call: Callable[[], Any]) -> float:
    """Returns the median time of a call that waits for its result."""
    call()
    taken, end = [], time.perf_counter() + 1.0
    while len(taken) < 5 or (time.perf_counter() < end and len(taken) < 100):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def rounded(value: float) -> float:
    """Returns a number with the three digits that a measurement has."""
    return float(f"{value:.3g}")


def matrix_rate(dtype: str, size: int) -> float:
    """Measures operations a second of a square matrix product."""
    import jax
    import jax.numpy as jnp

    a = jnp.ones((size, size), dtype)
    product = jax.jit(lambda a: a @ a)
    return 2 * size**3 / seconds(lambda: jax.block_until_ready(product(a)))


def copy_rate(size: int) -> float:
    """Measures bytes a second that are read and written, of `size` bytes each."""
    import jax
    import jax.numpy as jnp

    x = jnp.ones(size // 4, jnp.float32)
    copy = jax.jit(lambda x: x + 1)
    return 2 * size / seconds(lambda: jax.block_until_ready(copy(x)))


def timed(function, arrays, matrix: float, copy: float) -> dict[str, Any]:
    """Times a function of arrays, and compares with what the device can do."""
    import jax

    from jaxflow import cost

    compiled = jax.jit(function)
    arrays = jax.block_until_ready(jax.device_put(arrays))
    taken = seconds(lambda: jax.block_until_ready(compiled(*arrays)))
    results = jax.eval_shape(compiled, *arrays)
    moved = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves((arrays, results)))
    work = 2 * cost.multiply_adds(function, *arrays)
    return {
        "ms": rounded(1e3 * taken),
        "gflop": rounded(work / 1e9),
        "matrix": rounded(work / taken / matrix),
        "bandwidth": rounded(moved / taken / copy),
    }


def parities() -> dict[str, Callable]:
    """Returns what compares networks in bfloat16 with the same ones in float32."""
    folder = pathlib.Path(os.environ.get("JAXFLOW_TEST_DATA", ROOT.parent / "shared"))
    if not (folder / "golden" / "flow").is_dir():
        return {}
    names = ("pwcnet", "raft_small")
    return {
        f"parity of {name}, bfloat16": functools.partial(parity, folder, name)
        for name in names
    }


def parity(folder: pathlib.Path, name: str) -> dict[str, float]:
    """Returns how far bfloat16 moves the flow of float32, in pixels of the frames."""
    import jax.numpy as jnp
    import numpy as np

    sys.path.insert(0, str(ROOT))
    from jaxflow.layers import precision
    from tests import golden

    model, arrays = golden.filled(folder / "golden" / "flow", name)
    frames = [jnp.float32(arrays[key][None]) / 255 for key in ("image1", "image2")]
    exact = np.asarray(golden.run(model, *frames).flow)
    precision.set_dtype(model, jnp.bfloat16)
    half = golden.run(model, *frames).flow
    error = np.linalg.norm(np.asarray(half, np.float32) - exact, axis=-1)
    size = np.linalg.norm(exact, axis=-1)
    return {
        "px_mean": rounded(error.mean()),
        "px_99": rounded(np.quantile(error, 0.99)),
        "flow_99": rounded(np.quantile(size, 0.99)),
    }


def cases(small: bool) -> dict[str, Callable]:
    """Returns name -> () -> (function, its arrays)."""
    found: dict[str, Callable] = {}
    for dtype in ("float32",) if small else ("float32", "bfloat16"):
        size = (64, 128) if small else (448, 1024)
        part = functools.partial
        found |= {
            f"pwcnet, {dtype}": part(flow_network, "pwcnet", size, dtype, small),
            f"raft_large, {dtype}": part(
                flow_network, "raft_large", (128, 128) if small else size, dtype, small
            ),
            f"flownet2, {dtype}": part(flow_network, "flownet2", size, dtype, small),
            f"slowfast_4x16_r50, {dtype}": part(
                video_network, "slowfast_4x16_r50", dtype, small
            ),
            f"repflow_resnet50, {dtype}": part(
                video_network, "repflow_resnet50", dtype, small
            ),
            f"correlation of radius 4, {dtype}": part(correlation, dtype, small),
            f"warp, {dtype}": part(warp, dtype, small),
        }
    found["training step of pwcnet, float32"] = functools.partial(training, small)
    return found if small else found | of_the_bench()


def of_the_bench() -> dict[str, Callable]:
    """Returns our side of what `python -m experiments.bench` compares with PyTorch.

    Networks are here already, at the same sizes.
    """
    sys.path.insert(0, str(ROOT))
    from experiments.bench import cases as bench
    from experiments.bench import runner

    def prepare(case):
        call = case.ours()
        if hasattr(call, "function"):
            return call.function, call.arrays
        return {"ms": rounded(1e3 * seconds(call))}

    return {
        name: functools.partial(prepare, case)
        for name, case in bench.CASES.items()
        if isinstance(case, runner.Rivals)
        and case.needs == "torch"
        and not name.startswith("networks/")
    }


def network(name: str, small: bool, dtype: str = "float32"):
    """Returns a network with fresh weights, in evaluation mode."""
    from flax import nnx

    from jaxflow import models
    from jaxflow.layers import precision

    if not small:
        return models.create_model(name, dtype=dtype)
    module = models.find(name)
    model = module.Model(module.TINY, rngs=nnx.Rngs(0))
    precision.set_dtype(model, dtype)
    model.eval()
    return model


def pure(model):
    """Returns a network as a function of its state and of arrays, and the state."""
    from flax import nnx

    graph, state = nnx.split(model)
    return lambda state, *arrays: nnx.merge(graph, state, copy=True)(*arrays), state


def flow_network(name: str, size: tuple[int, int], dtype: str, small: bool):
    """Prepares the flow of one pair."""
    call, state = pure(network(name, small, dtype))
    arrays = (state, *drawn((2, 1, *size, 3), "float32"))
    return (lambda *arrays: call(*arrays).flow), arrays


def video_network(name: str, dtype: str, small: bool):
    """Prepares the scores of one clip of the config's size."""
    model = network(name, small, dtype)
    frames, side = model.config.num_frames, model.config.crop_size
    function, state = pure(model)
    return function, (state, drawn((1, frames, side, side, 3), "float32"))


def correlation(dtype: str, small: bool):
    """Prepares a cost volume of 81 displacements."""
    from jaxflow import ops

    shape = (2, 1, 16, 32, 32) if small else (2, 1, 112, 256, 128)
    call = functools.partial(ops.local_correlation, radius=4)
    return call, tuple(drawn(shape, dtype))


def warp(dtype: str, small: bool):
    """Prepares backward warping; positions are float32."""
    from jaxflow import ops

    shape = (1, 64, 96, 32) if small else (4, 448, 1024, 32)
    flow = 6 * drawn((*shape[:-1], 2), "float32") - 3
    return ops.backward_warp, (drawn(shape, dtype), flow)


def training(small: bool):
    """Prepares a step: loss, gradient in all weights, Adam."""
    import optax

    from jaxflow import losses, train

    model, optimiser = network("pwcnet", small), optax.adam(1e-4)

    def loss(model, batch):
        flows = model(*batch["frames"]).predictions
        weights = (1.0,) * len(flows)
        return losses.multi_scale(flows, batch["flow"], weights=weights)

    step = functools.partial(
        train.train_step,
        rebuild=train.separate(model),
        loss=loss,
        optimiser=optimiser,
    )
    shape = (2, 64, 64) if small else (8, 384, 448)
    frames = tuple(drawn((2, *shape, 3), "float32"))
    batch = {"frames": frames, "flow": drawn((*shape, 2), "float32")}
    return step, (train.init(model, optimiser), batch)


def drawn(shape: tuple[int, ...], dtype: str):
    """Draws numbers in [0, 1)."""
    import jax

    return jax.random.uniform(jax.random.key(0), shape, dtype)


def read(folder: pathlib.Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Returns the newest line of each device and case."""
    found = {}
    for path in sorted(folder.glob("*.jsonl")):
        for text in path.read_text().splitlines():
            line = json.loads(text)
            device = line["device"] + (", small" if line["small"] else "")
            found[device, line["case"]] = line
    return found


def table(lines: dict[tuple[str, str], dict[str, Any]]) -> str:
    """Lays out results as a Markdown table."""
    rows = [("device", "case", *COLUMNS), ("---",) * (2 + len(COLUMNS))]
    for (device, case), line in lines.items():
        own = {k: v for k, v in line.items() if k not in ("small", "device", "case")}
        said = [
            f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in own.items()
            if key not in (*COLUMNS, "platform", "flax", "jaxflow")
        ]
        label = f"{case}: {', '.join(said)}" if said else case
        cells = (str(own.get(column, "-")) for column in COLUMNS)
        rows.append((device, label, *cells))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    main()
