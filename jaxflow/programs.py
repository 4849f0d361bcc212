"""The compiled program of an estimator of flow, and the options that it is given.

A program is compiled once for frames of one shape and for the options that are numbers,
text or tuples. Options that are arrays are given to it with the frames.
"""

import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxflow import inference, splitting, spreading
from jaxflow.layers import precision as precisions
from jaxflow.tiles import Arrays, Runner

# How far 255 times a float32 frame may be from integers: rounding, and nothing else.
_BYTE_SLACK = 1e-3


def runner(
    model: nnx.Module | str, options: Mapping[str, Any] | None, precision: str
) -> tuple[Runner, Arrays]:
    """Returns the function of (B, H, W, 3) frames and arrays that estimates flow.

    Also the arrays among the options, as they were given.
    """
    compiled, known, arrays = bind(model, options)
    frames = getattr(model, "frames", None)

    def run(
        frame1: np.ndarray, frame2: np.ndarray, arrays: Arrays
    ) -> jax.Array | np.ndarray:
        if frames is not None and frames.method == "opencv_uint8":
            frame1, frame2 = _as_bytes(frame1, frame2)
        with precisions.of_products(precision):
            examples = (frame1, frame2, arrays)
            return spreading.call(compiled, known, examples, len(frame1))

    return run, arrays


def bind(
    model: nnx.Module | str, options: Mapping[str, Any] | None
) -> tuple[jax.stages.Wrapped, tuple, dict[str, Any]]:
    """Returns a jitted function, its arguments before the frames, and array options.

    The function takes the frames and the array options behind those arguments.
    """
    fixed, arrays = _part(by_name(options))
    if isinstance(model, str):
        inference.method_of(model)
        check_options(model, options)
        return _run_classical, (model, fixed), arrays
    inference.check_model(model)
    check_options(model, options)
    return _run_network, (*splitting.split(model), fixed), arrays


def per_pair(
    name: str, value: np.ndarray, batch: tuple[int, ...], size: tuple[int, int]
) -> np.ndarray:
    """Returns an array option with one axis for the pairs, if it has batch axes."""
    if name == "initial_flow":
        if value.ndim < 3 or value.shape[-1] != 2:
            raise ValueError(
                f"`options`: initial_flow must be (…, H, W, 2); got {value.shape}"
            )
        given = value.shape[:-3]
        if given not in ((), batch) or any(
            n > whole for n, whole in zip(value.shape[-3:-1], size, strict=True)
        ):
            raise ValueError(
                f"`options`: initial_flow must be {(*batch, *size, 2)} as the frames "
                f"are; got {value.shape}"
            )
        value = np.broadcast_to(value, (*batch, *value.shape[-3:]))
    if value.shape[: len(batch)] != batch:
        return value
    return value.reshape(math.prod(batch), *value.shape[len(batch) :])


def by_name(options: Any) -> Mapping[str, Any]:
    """Returns options, none for None; raises ValueError if they are no mapping."""
    if not isinstance(options, Mapping | None):
        raise ValueError(
            "`options` must be a dict of keywords, such as {'iterations': 32}; got "
            f"{type(options).__name__}"
        )
    return options or {}


def check_options(model: nnx.Module | str, options: Mapping[str, Any] | None) -> None:
    """Raises ValueError if there is an option that the estimator does not have."""
    for name in by_name(options):
        if not inference.takes(model, name):
            raise ValueError(
                f"`options` holds {name!r}, which this estimator does not have; it has "
                f"{inference.options_of(model)}"
            )


def _part(options: Mapping[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """Parts options into what a program is compiled for, and arrays it is given."""
    fixed, arrays = {}, {}
    for name, value in options.items():
        if isinstance(value, (np.ndarray, jax.Array)) and value.ndim:
            arrays[name] = _check_array(name, value)
            continue
        value = _plain(value)
        try:
            hash(value)
        except TypeError:
            raise ValueError(
                f"`options`: {name} must be a number, text, a tuple or an array; got "
                f"{type(value).__name__}"
            ) from None
        fixed[name] = value
    return tuple(sorted(fixed.items())), arrays


def _plain(value: Any) -> Any:
    """Returns lists as tuples, and arrays without axes as numbers."""
    if isinstance(value, (list, tuple)):
        return tuple(map(_plain, value))
    return value.item() if isinstance(value, (np.ndarray, jax.Array)) else value


def _check_array(name: str, value: Any) -> np.ndarray:
    """Returns an array option as float32 or as it is, if it is finite."""
    array = np.asarray(value)
    if jnp.issubdtype(array.dtype, jnp.floating):
        array = array.astype(np.float32)
        if not np.isfinite(array).all():
            raise ValueError(f"`options`: {name} must be finite; it contains NaN")
    return array


@functools.partial(jax.jit, static_argnums=(0, 1))
def _run_classical(
    name: str,
    options: tuple,
    frame1: jax.Array,
    frame2: jax.Array,
    arrays: dict[str, jax.Array],
) -> jax.Array:
    return inference.flow(name, frame1, frame2, **dict(options), **arrays)


@functools.partial(jax.jit, static_argnums=(0, 2))
def _run_network(
    structure: splitting.Structure,
    leaves: list[jax.Array],
    options: tuple,
    frame1: jax.Array,
    frame2: jax.Array,
    arrays: dict[str, jax.Array],
) -> jax.Array:
    model = structure.model(leaves)
    return inference.flow(model, frame1, frame2, **dict(options), **arrays)


def _as_bytes(frame1: np.ndarray, frame2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns uint8 frames if both are of 8 bits, whatever their dtype."""
    found = []
    for frame in (frame1, frame2):
        if frame.dtype != np.uint8:
            # Most frames that are not of 8 bits show it in their first row.
            if not (_is_of_bytes(frame[:, :1]) and _is_of_bytes(frame)):
                return frame1, frame2
            frame = np.rint(frame * 255).astype(np.uint8)
        found.append(frame)
    return found[0], found[1]


def _is_of_bytes(frame: np.ndarray) -> bool:
    levels = frame * 255
    return bool(np.abs(levels - np.rint(levels)).max() <= _BYTE_SLACK)
