"""What a model costs: parameters, and multiply-adds counted from its program."""

import dataclasses
import functools
import json
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import nnx

from jaxflow import models, spec
from jaxflow.io import files
from jaxflow.ops import bilinear

TABLE = pathlib.Path(__file__).with_name("costs.json")
"""What every network costs; ``jaxflow models --measure`` writes it."""


def count_parameters(model: nnx.Module) -> int:
    """Returns the number of trained parameters of a model."""
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


describe = models.describe


def published(name: str) -> spec.Published | None:
    """Returns what others say that a model costs, if its file has it in `PUBLISHED`."""
    name = models.current(name)
    return models.find(name).RECORD.published.get(name)


def video_cost(
    name: str,
    *,
    num_frames: int | None = None,
    crop_size: int | None = None,
    **overrides: Any,
) -> tuple[int, int]:
    """Counts what a recognition network costs, without running it.

    Args:
        name: One of `models.list_models("video")`.
        num_frames: Frames of the clip; the config's by default.
        crop_size: Height and width of the clip; the config's by default.
        **overrides: Fields of the variant's config to replace.

    Returns:
        Parameters, and multiply-adds for one clip.
    """
    model = describe(name, **overrides)
    config = cast(Any, model).config
    side = crop_size or config.crop_size
    frames = num_frames or config.num_frames
    shape = (1, frames, side, side, getattr(config, "in_features", 3))
    graph, state = nnx.split(model)

    def run(state, clip):
        return nnx.merge(graph, state, copy=True)(clip)

    clip = jax.ShapeDtypeStruct(shape, jnp.float32)
    return count_parameters(model), multiply_adds(run, state, clip)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """What a network costs, as `jaxflow models` lists it.

    Attributes:
        parameters: Number of trained parameters.
        multiple: Of a flow network, what height and width must be multiples of.
        multiply_adds: Of a recognition network, those of one clip.
        num_frames: Frames of that clip.
        crop_size: Height and width of that clip.
    """

    parameters: int
    multiple: int | None = None
    multiply_adds: int | None = None
    num_frames: int | None = None
    crop_size: int | None = None


def measured(name: str) -> Cost:
    """Counts what a network costs, which takes about a second, without running it.

    A clip has the size at which the published figure is given, if there is one, and
    else that of the config.

    Args:
        name: One of `models.list_models()`.

    Raises:
        ValueError: If no model has that name.
    """
    name = models.current(name)
    module = models.find(name)
    if models.task_of(module) != "video":
        model = describe(name)
        frames = getattr(model, "frames", None)
        multiple = frames.multiple if frames else None
        return Cost(parameters=count_parameters(model), multiple=multiple)
    known, config = published(name), module.RECORD.variants[name]
    size = {
        "num_frames": (known and known.num_frames) or config.num_frames,
        "crop_size": (known and known.crop_size) or config.crop_size,
    }
    parameters, products = video_cost(name, **size)
    return Cost(parameters=parameters, multiply_adds=products, **size)


def listed(name: str) -> Cost:
    """Returns what `measured` does, at once: from the table that the package holds.

    A network that is not in the table is measured.

    Args:
        name: One of `models.list_models()`.

    Raises:
        ValueError: If no model has that name.
    """
    name = models.current(name)
    models.find(name)
    return read_table().get(name) or measured(name)


@functools.cache
def read_table() -> dict[str, Cost]:
    """Reads the package's table of costs; it is empty where the file is missing."""
    try:
        rows = json.loads(TABLE.read_text())
    except FileNotFoundError:
        return {}
    return {name: Cost(**row) for name, row in rows.items()}


def write_table(costs: Mapping[str, Cost]) -> None:
    """Writes the package's table of costs: sorted, and a line for each network.

    Args:
        costs: Name -> cost, as `measured` returns it.

    Raises:
        OSError: If the package's folder cannot be written to.
    """
    lines = []
    for name in sorted(costs):
        fields = dataclasses.asdict(costs[name])
        row = {field: value for field, value in fields.items() if value is not None}
        lines.append(f"{json.dumps(name)}: {json.dumps(row)}")
    files.write_bytes(TABLE, ("{\n" + ",\n".join(lines) + "\n}\n").encode())
    read_table.cache_clear()


def multiply_adds(function: Callable, *arguments: Any) -> int:
    """Counts the multiply-adds of the convolutions and matrix products of a function.

    As in the papers, all else (normalisation, activations, pooling) counts nothing, and
    products with zeros of a margin count. A scan counts as often as it runs, a
    `while_loop` once. Of the branches of a `cond` the dearest counts; of those of
    `lax.platform_dependent`, the one that is for no platform in particular.

    Args:
        function: What to count; it is traced, not run.
        *arguments: Its arguments, or `jax.ShapeDtypeStruct`s.

    Returns:
        A number.
    """
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr)


def _count(jaxpr) -> int:
    total = 0
    platform = set()
    for equation in jaxpr.eqns:
        name, parameters = equation.primitive.name, equation.params
        if name == "platform_index":
            platform.add(equation.outvars[0])
        elif name == "conv_general_dilated":
            total += _convolution(equation)
        elif name == "dot_general":
            total += _product(equation)
        elif name == "cond":
            branches = [_count(branch.jaxpr) for branch in parameters["branches"]]
            chosen = _depends_on(jaxpr, equation.invars[0], platform)
            total += branches[-1] if chosen else max(branches)
        elif name == "scan":
            total += parameters["length"] * _count(parameters["jaxpr"].jaxpr)
        elif isinstance(equation.primitive, bilinear.Bilinear):
            plain = bilinear.run(equation.primitive.plain, **parameters)
            total += multiply_adds(plain, *(v.aval for v in equation.invars))
        elif name.startswith("custom_jvp"):
            total += _count(parameters["call_jaxpr"].jaxpr)
        else:
            total += sum(_count(inner) for inner in _inner(parameters))
    return total


def _convolution(equation) -> int:
    """An output element takes one product with each weight of its channel."""
    kernel = equation.invars[1].aval.shape
    features = equation.params["dimension_numbers"].rhs_spec[0]
    return math.prod(equation.outvars[0].aval.shape) * (
        math.prod(kernel) // kernel[features]
    )


def _product(equation) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return math.prod(equation.outvars[0].aval.shape) * math.prod(
        left[axis] for axis in contracted
    )


def _depends_on(jaxpr, variable, roots: set) -> bool:
    """Tells whether a variable is one of `roots`, or cast or clamped from one."""
    if hasattr(variable, "val"):  # A literal.
        return False
    if variable in roots:
        return True
    for equation in jaxpr.eqns:
        if variable in equation.outvars:
            return any(_depends_on(jaxpr, source, roots) for source in equation.invars)
    return False


def _inner(parameters: dict):
    """Yields the programs that an equation calls."""
    for value in parameters.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            inner = getattr(item, "jaxpr", item)
            if hasattr(inner, "eqns"):
                yield inner
