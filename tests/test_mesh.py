"""Tests for jaxflow.mesh: axes and shardings here; processes below are real ones."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from jaxflow import mesh
from tests import training_process


def test_a_mesh_has_one_axis_or_two():
    assert dict(mesh.data_mesh().shape) == {"data": 8}
    assert dict(mesh.data_mesh(jax.devices()[:3]).shape) == {"data": 3}
    assert dict(mesh.data_mesh(height=4).shape) == {"data": 2, "height": 4}
    with pytest.raises(ValueError, match=r"`height` must divide .* 8; got 3"):
        mesh.data_mesh(height=3)


def test_other_axes_are_refused():
    devices = np.array(jax.devices())
    for names in (("batch",), ("data", "model")):
        shape = (8,) if len(names) == 1 else (2, 4)
        with pytest.raises(ValueError, match="`mesh` must have the axis 'data'"):
            mesh.checked(Mesh(devices.reshape(shape), names))
    assert mesh.checked(mesh.data_mesh(height=2)) == mesh.data_mesh(height=2)


def test_pictures_are_split_by_rows_and_everything_by_its_first_axis():
    both = mesh.data_mesh(height=4)
    batch = {
        "pictures": np.zeros((4, 8, 5, 3)),
        "clips": np.zeros((2, 3, 8, 5, 3)),
        "labels": np.zeros(6, np.int32),
        "masks": np.zeros((2, 7, 5)),
    }
    found = mesh.shard_batch(batch, both)
    shards = {name: x.addressable_shards[0].data.shape for name, x in found.items()}
    assert shards == {
        **{"pictures": (2, 2, 5, 3), "clips": (1, 3, 2, 5, 3)},
        **{"labels": (3,), "masks": (1, 7, 5)},
    }
    for name, array in found.items():
        np.testing.assert_array_equal(array, batch[name])


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3, 8, 5, 3), "a batch of 3 does not divide over 2 devices"),
        ((2, 6, 5, 3), "a height of 6 does not divide over 4 devices"),
        ((), "must have a first axis"),
    ],
)
def test_what_does_not_divide_is_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        mesh.shard_batch({"x": np.zeros(shape)}, mesh.data_mesh(height=4))


def test_a_state_is_split_along_the_longest_axis_that_divides():
    state = {
        "kernel": jnp.zeros((3, 3, 8, 16)),
        "equal": jnp.zeros((8, 8)),
        "odd": jnp.zeros((9, 12)),
        "bias": jnp.zeros(7),
        "step": jnp.zeros(()),
        "key": jax.random.key(0),
        "keys": jax.random.split(jax.random.key(0), 4),
    }
    quarter = mesh.data_mesh(jax.devices()[:4])
    found = mesh.state_shardings(state, quarter)
    whole = PartitionSpec()
    assert {name: each.spec for name, each in found.items()} == {
        "kernel": PartitionSpec(None, None, None, "data"),
        "equal": PartitionSpec("data"),
        "odd": PartitionSpec(None, "data"),
        **dict.fromkeys(("bias", "step", "key", "keys"), whole),
    }
    placed = mesh.place(state, found)
    assert placed["kernel"].addressable_shards[0].data.shape == (3, 3, 8, 4)
    assert placed["key"].is_fully_replicated
    assert mesh.on_host(placed["odd"]).shape == (9, 12)


def test_alone_a_process_waits_for_nobody():
    mesh.barrier("here")
    assert mesh.gather({"a": 1}) == [{"a": 1}]
    assert mesh.together(lambda: 5, ValueError) == 5
    with pytest.raises(ZeroDivisionError):
        mesh.together(lambda: 1 // 0, ValueError)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"coordinator": "a:1"}, "belong together"),
        ({"num_processes": 2, "process_id": 0}, "belong together"),
        (dict(coordinator="a:1", num_processes=2, process_id=2), "must be 0 to 1"),
        (dict(coordinator="a", num_processes=2, process_id=0), "must be host:port"),
    ],
)
def test_processes_are_described_in_full(arguments, message):
    with pytest.raises(ValueError, match=message):
        mesh.start_processes(**arguments)


def test_on_one_machine_starting_processes_does_nothing(monkeypatch):
    for name in ("SLURM_STEP_NUM_TASKS", "TPU_WORKER_HOSTNAMES"):
        monkeypatch.delenv(name, raising=False)
    assert not mesh.start_processes()


@pytest.mark.parametrize(
    "name_and_value", [("SLURM_STEP_NUM_TASKS", "4"), ("TPU_WORKER_HOSTNAMES", "a,b")]
)
def test_clusters_are_noticed(monkeypatch, name_and_value):
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *a: calls.append(a))
    monkeypatch.setattr(mesh, "_prepare_cpu", lambda: None)
    monkeypatch.setenv(*name_and_value)
    mesh.start_processes()
    assert calls == [()]


ROOT = pathlib.Path(__file__).parent.parent


def start(count, folder, steps, *options, dies=None):
    """Starts processes that train together; process 1 may die before a step."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*sys.path, str(ROOT)]),
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
    }
    return [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.training_process"),
                *map(str, (rank, count, port, folder, steps, *options)),
                *([f"dies={dies}"] if dies and rank == 1 else []),
            ],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(count)
    ]


def finish(processes):
    """Waits for processes that shall succeed."""
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output[-3000:]


def kill(processes, died):
    """Waits until one dies; ends the others, which cannot go on."""
    code = processes[died].wait(timeout=300)
    for process in processes:
        process.kill()
    outputs = [process.communicate()[0] for process in processes]
    assert code == -signal.SIGKILL, outputs[died][-3000:]


def losses(folder):
    rows = map(json.loads, (folder / "metrics.jsonl").open())
    return [row["loss"] for row in rows]


def assert_same_run(folder, state, alone, expected):
    np.testing.assert_allclose(losses(folder), losses(alone), rtol=0, atol=1e-4)
    # Sums over the batch are taken in another order.
    for a, b in zip(
        jax.tree.leaves(state[1:3]), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Folder, and weights and statistics, of twenty steps in this process."""
    folder = tmp_path_factory.mktemp("alone")
    _, state = training_process.run(folder, 20, devices=jax.devices()[:1])
    return folder, state[1:3]


def test_two_processes_are_one_run_also_after_one_was_killed(tmp_path, alone):
    kill(start(2, tmp_path, 20, dies=12), died=1)
    # That of step 10 may be half written.
    assert (tmp_path / "checkpoints" / "5").is_dir()
    finish(start(2, tmp_path, 20))
    # One process takes over what two have saved.
    _, state = training_process.run(tmp_path, 20, devices=jax.devices()[:1])
    assert_same_run(tmp_path, state, *alone)


@pytest.mark.slow
def test_four_processes_with_a_part_of_the_weights_each(tmp_path, alone):
    kill(start(4, tmp_path, 20, "shards", dies=7), died=1)
    finish(start(4, tmp_path, 15, "shards"))
    finish(start(2, tmp_path, 20))
    _, state = training_process.run(tmp_path, 20, devices=jax.devices()[:8])
    assert_same_run(tmp_path, state, *alone)
