"""Meshes of devices, and several processes that work as one.

    mesh.start_processes()             # first line of a program; nothing on one machine
    two_by_four = mesh.data_mesh(height=4)
    step = train.make_step(model, loss, optimiser, mesh=two_by_four, shard_params=True)

A mesh has the axis "data", over which the first axis of every array of a batch is
split, and it may have "height", over which the rows of pictures are. Everything else is
JAX's own: the compiler puts in what devices have to tell each other.
"""

import glob
import json
import os
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

_AXES = ("data", "height")
_Result = TypeVar("_Result")


def start_processes(
    coordinator: str | None = None,
    *,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> bool:
    """Joins the processes of one program, of which each machine runs the same.

    Call it before anything else touches a device. Without arguments it finds out by
    itself on Cloud TPU and under SLURM's `srun`, and does nothing elsewhere.

    Args:
        coordinator: "host:port" of process 0, which all can reach.
        num_processes: How many there are.
        process_id: Which of them this is, from 0.

    Returns:
        Whether there are several processes.

    Raises:
        ValueError: If only some of the arguments are given, or one is out of range.
        RuntimeError: If a device was used before, or the others do not answer.
    """
    given = (coordinator, num_processes, process_id)
    if all(value is None for value in given):
        if _is_cluster():
            _prepare_cpu()
            jax.distributed.initialize()
        return jax.process_count() > 1
    if coordinator is None or num_processes is None or process_id is None:
        raise ValueError(
            "`coordinator`, `num_processes` and `process_id` belong together; got "
            f"{coordinator!r}, {num_processes} and {process_id}"
        )
    if not 0 <= process_id < num_processes:
        raise ValueError(
            f"`process_id` must be 0 to {num_processes - 1}; got {process_id}"
        )
    if ":" not in coordinator:
        raise ValueError(f"`coordinator` must be host:port; got {coordinator!r}")
    _prepare_cpu()
    jax.distributed.initialize(coordinator, num_processes, process_id)
    return jax.process_count() > 1


def _is_cluster() -> bool:
    """Tells whether this is one of several processes, or on a TPU, which JAX asks."""
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        return True
    on_tpu = bool(glob.glob("/dev/accel[0-9]*")) and "COLAB_RELEASE_TAG" not in (
        os.environ
    )
    return on_tpu or "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")


def _prepare_cpu() -> None:
    """Lets processes without accelerators talk to each other."""
    jax.config.update("jax_cpu_collectives_implementation", "gloo")


def data_mesh(
    devices: list | None = None, *, height: int = 1, batch_size: int | None = None
) -> Mesh:
    """Returns a mesh with the axis "data", and "height" if that is more than 1.

    Args:
        devices: The devices; all there are if None.
        height: Over how many devices the rows of a picture are split. They must belong
            to one process.
        batch_size: Takes only as many devices along "data", from the first, as it
            divides over. With several processes it must divide over all.

    Raises:
        ValueError: If the devices do not divide by `height`, or those of several
            processes do not divide `batch_size`.
    """
    found = np.array(jax.devices() if devices is None else devices)
    if height < 1 or found.size % height:
        raise ValueError(
            f"`height` must divide the number of devices, {found.size}; got {height}"
        )
    rows = found.reshape(-1, height)
    if batch_size is not None:
        count = max(n for n in range(1, len(rows) + 1) if batch_size % n == 0)
        if count < len(rows) and len({d.process_index for d in found.flat}) > 1:
            raise ValueError(
                f"`batch_size` must be a multiple of {len(rows)}, the devices of all "
                f"processes; got {batch_size}"
            )
        rows = rows[:count]
    return Mesh(rows[:, 0], _AXES[:1]) if height == 1 else Mesh(rows, _AXES)


def checked(mesh: Mesh) -> Mesh:
    """Returns a mesh whose axes leave the splitting of arrays to the compiler.

    Raises:
        ValueError: If it has other axes than "data" and "height", or one picture would
            be split over several processes.
    """
    if set(mesh.axis_names) not in ({"data"}, set(_AXES)):
        raise ValueError(
            f"`mesh` must have the axis 'data', and may have 'height'; got "
            f"{mesh.axis_names}"
        )
    if "height" in mesh.axis_names:
        rows = np.moveaxis(mesh.devices, mesh.axis_names.index("height"), -1)
        if any(len({device.process_index for device in row}) > 1 for row in rows):
            raise ValueError(
                "`mesh`: the devices along 'height' must belong to one process"
            )
    return Mesh(mesh.devices, mesh.axis_names)


def batch_sharding(mesh: Mesh, array: Any) -> NamedSharding:
    """Returns how an array of a batch is split: its first axis, and its rows.

    Args:
        mesh: With the axes "data" and perhaps "height".
        array: Anything with a shape. With four axes or more it is pictures,
            (B, …, H, W, C), whose H is split over "height".

    Raises:
        ValueError: If the array has no axes, or they do not divide over the devices.
    """
    shape = array.shape
    if not shape:
        raise ValueError(
            "each array of a batch must have a first axis, which is split over the "
            "devices; got a scalar"
        )
    parts: list[str | None] = ["data", *[None] * (len(shape) - 1)]
    if shape[0] % mesh.shape["data"]:
        raise ValueError(
            f"a batch of {shape[0]} does not divide over {mesh.shape['data']} devices;"
            " make it a multiple of that, or use a mesh of fewer devices, as `mesh="
            f"train.data_mesh(batch_size={shape[0]})` makes it"
        )
    if "height" in mesh.axis_names and len(shape) >= 4:
        if shape[-3] % mesh.shape["height"]:
            raise ValueError(
                f"a height of {shape[-3]} does not divide over "
                f"{mesh.shape['height']} devices; make it a multiple of that, or use a "
                "mesh with a shorter axis 'height'"
            )
        parts[-3] = "height"
    return NamedSharding(mesh, PartitionSpec(*parts))


def shard_batch(batch: Any, mesh: Mesh) -> Any:
    """Splits the first axis of each array over the mesh, and rows over its "height".

    Args:
        batch: Tree of NumPy arrays; this process's share if there are several.
        mesh: From `data_mesh`.

    Raises:
        ValueError: If an axis does not divide by the number of devices.
    """
    processes = len({device.process_index for device in mesh.devices.flat})

    def put(array: Any) -> jax.Array:
        array = np.asarray(array)
        shape = (*(n * processes for n in array.shape[:1]), *array.shape[1:])
        split = batch_sharding(mesh, jax.ShapeDtypeStruct(shape, array.dtype))
        return jax.make_array_from_process_local_data(split, array, shape)

    return jax.tree.map(put, batch)


def constrain_batch(batch: Any, mesh: Mesh) -> Any:
    """Splits a batch that is computed inside a jitted function, as `shard_batch`.

    Raises:
        ValueError: If an axis does not divide by the number of devices.
    """
    splits = jax.tree.map(lambda array: batch_sharding(mesh, array), batch)
    return jax.lax.with_sharding_constraint(batch, splits)


def everywhere(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of what every device has whole."""
    return NamedSharding(mesh, PartitionSpec())


def state_shardings(state: Any, mesh: Mesh) -> Any:
    """Returns how each array of a training state is split over the axis "data".

    One rule for weights, moments of the optimiser and averages: the longest axis that
    divides by the number of devices is split, the first of equals; what has none, and
    a random key, is on every device.

    Args:
        state: Tree of arrays, or of what has their shape and type.
        mesh: From `data_mesh`.
    """
    count = mesh.shape["data"]

    def rule(leaf: Any) -> NamedSharding:
        shape = () if _is_key(leaf) else leaf.shape
        fitting = [axis for axis, n in enumerate(shape) if n and n % count == 0]
        if not fitting:
            return everywhere(mesh)
        longest = max(fitting, key=lambda axis: (shape[axis], -axis))
        return NamedSharding(mesh, PartitionSpec(*[None] * longest, "data"))

    return jax.tree.map(rule, state)


def place(tree: Any, shardings: Any) -> Any:
    """Puts arrays, random keys among them, onto devices, also of other processes.

    Args:
        tree: Tree of arrays. Each process must give the same values.
        shardings: A sharding for all, or a tree of one for each.
    """
    if isinstance(shardings, Sharding):
        one = shardings
        return jax.tree.map(lambda leaf: _place(leaf, one), tree)
    return jax.tree.map(_place, tree, shardings)


def _place(leaf: Any, sharding: Sharding) -> jax.Array:
    if sharding.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    if _is_key(leaf):
        data = _place(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        return jax.jit(lambda x: x, out_shardings=sharding)(leaf)
    host = np.asarray(leaf)
    return jax.make_array_from_callback(host.shape, sharding, lambda part: host[part])


def on_host(tree: Any) -> Any:
    """Returns arrays that may be spread over devices and processes as NumPy arrays."""

    def fetch(leaf: jax.Array) -> np.ndarray:
        if not leaf.is_fully_addressable and not leaf.is_fully_replicated:
            whole = everywhere(leaf.sharding.mesh)  # type: ignore[attr-defined]
            leaf = jax.jit(lambda x: x, out_shardings=whole)(leaf)
        return np.asarray(leaf)

    return jax.tree.map(fetch, tree)


def is_used_up(tree: Any) -> bool:
    """Tells whether arrays of a tree were donated to a computation, and are gone."""
    leaves = jax.tree.leaves(tree)
    return any(leaf.is_deleted() for leaf in leaves if isinstance(leaf, jax.Array))


def blank(tree: Any) -> Any:
    """Returns zeros of the shapes and types of a tree of arrays and random keys."""

    def zeros(leaf: Any) -> jax.Array:
        if not _is_key(leaf):
            return jnp.zeros(leaf.shape, leaf.dtype)
        kind = jax.random.key_impl(leaf)
        one = jax.random.key_data(jax.random.key(0, impl=kind))
        data = jnp.zeros((*leaf.shape, *one.shape), one.dtype)
        return jax.random.wrap_key_data(data, impl=kind)

    return jax.tree.map(zeros, tree)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def barrier(name: str) -> None:
    """Waits until every process is here; `name` is the same in all."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def gather(value: Any) -> list:
    """Returns what each process gives, plain JSON values, in the order of processes."""
    if jax.process_count() == 1:
        return [value]
    raw = np.frombuffer(json.dumps(value).encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.int32(raw.size))
    padded = np.zeros(int(lengths.max()), np.uint8)
    padded[: raw.size] = raw
    rows = multihost_utils.process_allgather(padded)
    return [
        json.loads(bytes(row[:length]).decode())
        for row, length in zip(rows, lengths, strict=True)
    ]


def together(action: Callable[[], _Result], kind: type[Exception]) -> _Result:
    """Runs what may fail in one process only, so that all of them fail alike.

    Args:
        action: What each process does; it must not wait for the others.
        kind: The error that is told from all others.

    Returns:
        What `action` returned.

    Raises:
        kind: If it was raised somewhere, and nothing else was.
        OSError: If another process failed in another way; it says how.
        Exception: What `action` raised here.
    """
    result, error = None, None
    try:
        result = action()
    except Exception as raised:
        error = raised
    said = None if error is None else f"{type(error).__name__}: {error}"
    found = gather([said, isinstance(error, kind)])
    if error is not None and not isinstance(error, kind):
        raise error
    for process, (text, expected) in enumerate(found):
        if text is not None and not expected:
            raise OSError(f"process {process} failed: {text}")
    if error is not None:
        raise error
    for process, (text, _) in enumerate(found):
        if text is not None:
            raise kind(f"process {process}: {text}")
    return result  # type: ignore[return-value]
