"""Each recipe takes its first steps with its published batch, whatever the devices."""

import itertools
import json
import os
import pathlib
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from tests.experiments import recipe_process

ROOT = pathlib.Path(__file__).parents[2]
CASES = recipe_process.CASES
# Case, stages and number of devices that the quick suite runs.
QUICK = [("flownets", ["fine"], 8)]
# Stages that differ from the one before by their learning rate alone.
REPEATED = {
    "pwcnet": ["sintel2", "sintel3", "sintel4", "sintel5", "kitti2", "kitti3", "kitti4"]
}


def command(name, stages, folder, *options, devices=1):
    """Starts a recipe in a process that sees so many devices."""
    if not recipe_process.FOLDER.is_dir():
        pytest.skip("installed without its experiments")
    pytest.importorskip("tyro")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*sys.path, str(ROOT)]),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
    }
    words = ["--workdir", str(folder), *options]
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.experiments.recipe_process"),
            *(name, ",".join(stages), *words),
        ],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def lines_of(process):
    """Waits for a process that shall succeed; what it printed, and what it told."""
    out, err = process.communicate(timeout=1800)
    assert process.returncode == 0, err[-3000:]
    # Gloo prints a line of its own.
    lines = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    return [line for line in lines if "devices" in line], err


def check(name, stages, folder, lines, *, devices):
    """Verifies that each stage took two steps, on as many devices as divide a batch."""
    assert [line["stage"] for line in lines] == stages
    for line in lines:
        batch = CASES[name].batches[line["stage"]]
        most = max(n for n in range(1, devices + 1) if batch % n == 0)
        assert (line["devices"], line["step"]) == (most, 2), line
        log = folder / line["stage"] / "metrics.jsonl"
        rows = [json.loads(row) for row in log.open()]
        assert [row["step"] for row in rows] == [1, 2]
        assert all(np.isfinite(row["loss"]) and row["grad_norm"] > 0 for row in rows)


def steps_are_taken(name, stages, folder, devices):
    process = command(name, stages, folder, devices=devices)
    lines, told = lines_of(process)
    check(name, stages, folder, lines, devices=devices)
    for stage in stages:
        batch = CASES[name].batches[stage]
        used = max(n for n in range(1, devices + 1) if batch % n == 0)
        idle = f"a batch of {batch} runs on {used} of {devices} devices; idle: "
        assert (idle in told) == (used < devices)


@pytest.mark.parametrize(("name", "stages", "devices"), QUICK)
def test_a_recipe_takes_its_first_steps(name, stages, devices, tmp_path):
    steps_are_taken(name, stages, tmp_path, devices)


def devices_of(name):
    """Returns on how many devices each stage of a recipe runs, by stage.

    The batch decides how it is split, so one stage for each batch runs on 8.
    """
    batches = {
        stage: batch
        for stage, batch in CASES[name].batches.items()
        if stage not in REPEATED.get(name, [])
    }
    first = {batch: stage for stage, batch in reversed(batches.items())}
    return {stage: 8 if stage in first.values() else 1 for stage in batches}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_every_stage_of_every_recipe_takes_its_first_steps(name, tmp_path):
    devices = devices_of(name)
    # In order, since a stage may begin with the weights of another.
    for count, stages in itertools.groupby(devices, devices.get):
        steps_are_taken(name, list(stages), tmp_path, count)
    if 1 not in devices.values():
        steps_are_taken(name, [next(iter(devices))], tmp_path / "alone", 1)


def test_every_recipe_and_every_stage_is_started():
    found = {
        f"{folder}/{path.stem}"
        for folder in ("flow", "video")
        for path in (recipe_process.FOLDER / folder).glob("*.py")
        if "core.command(main" in path.read_text()
    }
    # These train networks of their own, and have no stages.
    scripts = {"appearance_bias", "longclip", "motion8", "product", "tvnet"}
    others = {f"video/{name}" for name in scripts} | {"flow/scale_shared"}
    assert found - others == {case.recipe for case in CASES.values()}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "stage"), [("pwcnet", "chairs"), ("r3d", "kinetics")])
def test_two_processes_train_a_recipe_as_one_does(name, stage, tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    together, alone = tmp_path / "two", tmp_path / "one"
    processes = [
        command(
            *(name, [stage], together),
            *("--distributed", f"localhost:{port}", "2", str(rank)),
        )
        for rank in range(2)
    ]
    for lines, _ in map(lines_of, processes):
        check(name, [stage], together, lines, devices=2)
    lines, _ = lines_of(command(name, [stage], alone))
    check(name, [stage], alone, lines, devices=1)
    rows = [
        [json.loads(row) for row in (folder / stage / "metrics.jsonl").open()]
        for folder in (together, alone)
    ]
    for one, two in zip(*rows, strict=True):
        # Sums over the batch are taken in another order.
        for key in ("loss", "grad_norm"):
            np.testing.assert_allclose(one[key], two[key], rtol=1e-3)
