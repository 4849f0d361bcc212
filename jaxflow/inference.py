"""The pure core of inference: frames in, flow out, inside any other program.

    fit -> network -> unfit

Everything here is a pure function of arrays and works under `jax.jit`, `jax.vmap` and
`jax.grad`; `jaxflow.estimate_flow` is a shell of NumPy around it. A gradient with
respect to the weights is taken through `nnx.split` and `nnx.merge`:

    graphdef, weights = nnx.split(model)

    def loss(weights):
        model = nnx.merge(graphdef, weights, copy=True)
        return jnp.mean(inference.flow(model, frame1, frame2) ** 2)
"""

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxflow import _checks, _shapes, classical, models, ops, spec


def flow(
    model: nnx.Module | str, frame1: jax.Array, frame2: jax.Array, **options: Any
) -> jax.Array:
    """Estimates the motion from frame 1 to frame 2, whole frames at once.

    The frames are resized or padded as the model's official script does, and the flow
    is brought back to their size. The network runs in evaluation mode whatever its
    mode is; `model` itself is left as it is.

    Args:
        model: A flow network, or the name of a classical method.
        frame1: Frame 1, (*B, H, W, 3): uint8, or floating in [0, 1].
        frame2: Frame 2, alike.
        **options: Keywords of the model's call or of the classical method. An array
            of two axes or more, of which the first are *B, has a value for each pair.
            An `initial_flow` of (*B, H, W, 2), in pixels of the frames, is resized or
            padded with them; one without batch axes is for all pairs.

    Returns:
        Flow (u, v) in pixels of the frames, (*B, H, W, 2), float32. NaN in a frame
        spreads as far as the estimator looks.

    Raises:
        ValueError: If `model` is neither, or the frames are not such pictures or not
            alike.
    """
    _shapes.check_equal(frame1=frame1, frame2=frame2)
    for name, frame in (("frame1", frame1), ("frame2", frame2)):
        _check_levels(name, frame)
    batch = frame1.shape[:-3]
    if isinstance(model, str):
        run = functools.partial(_classical_flow, method_of(model))
    else:
        run = functools.partial(_network_flow, evaluated(model))
    start = options.get("initial_flow")
    if start is not None:
        shape = (*batch, *start.shape[-3:])
        options["initial_flow"] = jnp.broadcast_to(start, shape)
    flat = {name: _flat(value, batch) for name, value in options.items()}
    one, two = _flat(frame1, batch), _flat(frame2, batch)
    found = run(one, two, flat)
    return found.reshape(*batch, *found.shape[-3:])


def _check_levels(name: str, frame: jax.Array) -> None:
    """Raises ValueError unless a frame holds bytes or floats."""
    if frame.dtype != jnp.uint8 and not jnp.issubdtype(frame.dtype, jnp.floating):
        raise ValueError(
            f"`{name}` must be uint8, or floating in [0, 1]; got {frame.dtype}: cast "
            "numbers up to 255 by .astype(jnp.uint8)"
        )


def evaluated(model: nnx.Module) -> Any:
    """Returns a copy of a flow network in evaluation mode; its weights are shared.

    Args:
        model: The network, in any mode.

    Raises:
        ValueError: If it is no flow network.
    """
    check_model(model)
    copied = nnx.merge(*nnx.split(model), copy=True)
    copied.eval()
    return copied


def check_model(model: Any) -> None:
    """Raises ValueError unless `model` is a flow network."""
    if not isinstance(getattr(model, "frames", None), spec.Frames):
        raise ValueError(
            f"`model` must be a flow network or the name of a classical method; got "
            f"{type(model).__module__}.{type(model).__name__}"
        )


def as_flow(found: Any, batch: int) -> spec.Flow:
    """Returns what a call of a flow network returned, as `spec.Flow`.

    Args:
        found: A `spec.Flow`; or bare flow, (B, h, w, 2), which may be smaller than the
            frames and is in pixels of its own grid.
        batch: Number of pairs B that the network was given.

    Raises:
        ValueError: If it is neither.
    """
    flow = found.flow if isinstance(found, spec.Flow) else found
    shape = flow.shape if _is_array(flow) else ()
    if len(shape) != 4 or (shape[0], shape[-1]) != (batch, 2):
        raise ValueError(
            "`model` must return spec.Flow(flow, predictions), or flow as an array of "
            f"({batch}, h, w, 2); got {shape or type(flow).__name__}"
        )
    return found if isinstance(found, spec.Flow) else spec.Flow(found, (found,))


def method_of(name: str) -> Callable[..., jax.Array]:
    """Returns the classical method of that name.

    Raises:
        ValueError: If there is none.
    """
    if name in models.list_models("flow"):
        raise ValueError(
            f"`model` {name!r} names a network, and weights are needed too: pass "
            f"jaxflow.load_weights(jaxflow.create_model({name!r}), path)"
        )
    if name not in classical.METHODS:
        known = [*classical.METHODS, *models.list_models("flow")]
        raise ValueError(
            "`model` must be a network, or the name of a classical method; got "
            f"{name!r}; {_checks.nearest(name, known, '`jaxflow models`')}"
        )
    return classical.METHODS[name]


def takes(model: nnx.Module | str, option: str) -> bool:
    """Tells whether an estimator's call has a keyword.

    Args:
        model: A flow network, or the name of a classical method.
        option: The keyword.
    """
    parameters = _parameters(model)
    kinds = {parameter.kind for parameter in parameters.values()}
    return option in parameters or inspect.Parameter.VAR_KEYWORD in kinds


def options_of(model: nnx.Module | str) -> list[str]:
    """Returns the keywords of an estimator's call.

    Args:
        model: A flow network, or the name of a classical method.
    """
    return [
        name
        for name, parameter in _parameters(model).items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    ]


def _parameters(model: nnx.Module | str) -> Mapping[str, inspect.Parameter]:
    call = method_of(model) if isinstance(model, str) else type(model).__call__
    return inspect.signature(call).parameters


def network_size(size: tuple[int, int], frames: spec.Frames) -> tuple[int, int]:
    """Returns the (height, width) that a network sees for frames of this size.

    Args:
        size: Height and width of the frames.
        frames: The network's policy.
    """
    step = frames.multiple
    least = tuple(_round_up(n, step) for n in frames.minimum)
    if frames.fit != "resize_nearest":
        height, width = (
            max(_round_up(n, step), low) for n, low in zip(size, least, strict=True)
        )
        return height, width
    # Of the multiples below and above, the pair whose aspect is closest, as in HD3.
    candidates = [
        (max(height, least[0]), max(width, least[1]))
        for height in (size[0] // step * step, (size[0] // step + 1) * step)
        for width in (size[1] // step * step, (size[1] // step + 1) * step)
    ]
    aspect = size[0] / size[1]
    return min(candidates, key=lambda found: abs(found[0] / found[1] - aspect))


def fit(frame: jax.Array, frames: spec.Frames) -> jax.Array:
    """Resizes or pads frames as a network's official script does.

    Args:
        frame: (B, H, W, 3): uint8, or floating in [0, 1].
        frames: The network's policy.

    Returns:
        (B, *network_size((H, W), frames), 3) float32 in [0, 1].
    """
    before = _size(frame)
    after = network_size(before, frames)
    if frames.fit == "pad":
        pads = ((0, 0), *_pads(before, after, frames), (0, 0))
        return jnp.pad(as_float(frame), pads, mode=frames.pad_mode)
    if before == after:
        return as_float(frame)
    if frames.method == "opencv_uint8" and frame.dtype == jnp.uint8:
        return as_float(ops.resize_opencv_uint8(frame, after))
    align = frames.method == "align_corners"
    return ops.resize(as_float(frame), after, align_corners=align)


def unfit(flow: jax.Array, size: tuple[int, int], frames: spec.Frames) -> jax.Array:
    """Brings a network's flow back to the frames that `fit` was given.

    Args:
        flow: The network's flow, (B, h, w, 2), in pixels of its own size.
        size: Height and width of the frames.
        frames: The network's policy.

    Returns:
        (B, *size, 2), in pixels of the frames.
    """
    if frames.fit != "pad":
        return _resize_flow(flow, size, frames)
    target = network_size(size, frames)
    return ops.unpad(_resize_flow(flow, target, frames), _pads(size, target, frames))


def as_float(frame: jax.Array | np.ndarray) -> jax.Array:
    """Returns a frame as float32 in [0, 1], be it that or uint8."""
    wide = jnp.asarray(frame).astype(jnp.float32)
    return wide / 255 if frame.dtype == jnp.uint8 else wide


def _network_flow(
    model: Any, frame1: jax.Array, frame2: jax.Array, options: dict[str, Any]
) -> jax.Array:
    """Fits (B, H, W, 3) frames to a network in evaluation mode; unfits its flow."""
    size = _size(frame1)
    start = options.get("initial_flow")
    if start is not None and start.shape[-3:-1] == size:
        options = options | {"initial_flow": _fit_flow(start, model.frames)}
    fitted = (fit(frame, model.frames) for frame in (frame1, frame2))
    found = as_flow(model(*fitted, **options), frame1.shape[0])
    finest = model.frames.flow_source == "finest"
    best = found.predictions[-1] if finest else found.flow
    return unfit(best.astype(jnp.float32), size, model.frames)


def _classical_flow(
    method: Callable, frame1: jax.Array, frame2: jax.Array, options: dict[str, Any]
) -> jax.Array:
    """Runs a classical method on every one of (B, H, W, 3) frames."""
    count = frame1.shape[0]
    each = {
        name: value
        for name, value in options.items()
        if _is_array(value) and value.shape[:1] == (count,) and value.ndim > 1
    }
    same = {name: value for name, value in options.items() if name not in each}

    def one(first, second, own):
        return method(first, second, **same, **own)

    return jax.vmap(one)(as_float(frame1), as_float(frame2), each).astype(jnp.float32)


def _fit_flow(flow: jax.Array, frames: spec.Frames) -> jax.Array:
    """Resizes or pads a flow with its frames."""
    size = _size(flow)
    target = network_size(size, frames)
    if frames.fit == "pad":
        return jnp.pad(flow, ((0, 0), *_pads(size, target, frames), (0, 0)), "edge")
    return ops.resize_flow(flow, target)


def _flat(value: Any, batch: tuple[int, ...]) -> Any:
    """Joins the batch axes of an array that has them."""
    if not _is_array(value) or value.ndim < 2 or value.shape[: len(batch)] != batch:
        return value
    return value.reshape(math.prod(batch), *value.shape[len(batch) :])


def _is_array(value: Any) -> bool:
    return isinstance(value, (jax.Array, np.ndarray))


def _resize_flow(
    flow: jax.Array, size: tuple[int, int], frames: spec.Frames
) -> jax.Array:
    if _size(flow) == size:
        return flow
    if frames.flow_method == "nearest":
        return ops.resize_flow(flow, size, method="nearest")
    align = frames.flow_method == "align_corners"
    return ops.resize_flow(flow, size, align_corners=align)


def _pads(
    size: tuple[int, int], target: tuple[int, int], frames: spec.Frames
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Returns how many rows and columns are added before and after."""
    rows, columns = (after - before for before, after in zip(size, target, strict=True))
    top = 0 if frames.pad == "bottom" else rows // 2
    return (top, rows - top), (columns // 2, columns - columns // 2)


def _size(images: jax.Array | np.ndarray) -> tuple[int, int]:
    """Returns the height and width of (…, H, W, C)."""
    height, width = images.shape[-3:-1]
    return height, width


def _round_up(number: int, step: int) -> int:
    return math.ceil(number / step) * step
