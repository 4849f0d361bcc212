"""The model zoo.

A model is one file. It defines `Model`, an `nnx.Module` built as
``Model(config, rngs=rngs)``, and hands over a `RECORD`, a `spec.Record` that lists its
variants. Its name appears nowhere else: the functions below find it by reading the
files.
"""

import dataclasses
import functools
import importlib
import pkgutil
import types
import warnings
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxflow import _checks, spec
from jaxflow.layers import precision

TASKS = ("flow", "video", "generation")


def list_models(task: str | None = None) -> list[str]:
    """Returns the name of every variant of every model, sorted.

    Args:
        task: "flow", "video" or "generation"; None lists all of them.

    Raises:
        ValueError: If there is no such task.

    Examples:
        >>> [name for name in jaxflow.list_models("flow") if name.startswith("raft")]
        ['raft_large', 'raft_small']
    """
    if task is not None and task not in TASKS:
        raise ValueError(f"`task` must be one of {TASKS}; got {task!r}")
    return sorted(
        name
        for name, module in _modules().items()
        if task is None or task_of(module) == task
    )


def create(
    name: str, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs, **overrides
) -> nnx.Module:
    """Builds a model with fresh weights, in evaluation mode.

    Args:
        name: One of `list_models()`.
        dtype: What it computes in, as for `create_model`.
        rngs: Source of the initial weights.
        **overrides: Fields of the variant's config to replace.

    Raises:
        ValueError: If no model has that name, its config has no such field, its fields
            make no network together, or there is no such `dtype`.
    """
    name = current(name)
    module = find(name)
    config = module.RECORD.variants[name]
    fields = [field.name for field in dataclasses.fields(config)]
    for field in overrides:
        if field not in fields:
            raise ValueError(f"{name} has no config field {field!r}; it has {fields}")
    config = dataclasses.replace(config, **overrides)
    try:
        model = module.RECORD.model(config, rngs=rngs)
    except (ArithmeticError, LookupError) as error:
        # Fields that are each allowed, and no network together.
        given = ", ".join(f"{field}={value!r}" for field, value in overrides.items())
        raise ValueError(f"{name} cannot be built with {given}: {error}") from error
    precision.set_dtype(model, dtype)
    model.eval()
    return model


def create_model(
    name: str, *, seed: int = 0, dtype: DTypeLike = jnp.float32, **overrides
) -> nnx.Module:
    """Builds a model with fresh weights, in evaluation mode.

    Args:
        name: One of `list_models()`.
        seed: Seed of the initial weights. They are drawn with JAX's "rbg" generator,
            whose numbers are the same on every machine of one kind (CPU, GPU or TPU).
        dtype: What it computes features in, whatever the type of its input: float32,
            bfloat16 or float16. Parameters, flow, scores and all else that
            `jaxflow.layers.precision` names are float32 nevertheless.
        **overrides: Fields of the variant's config to replace.

    Raises:
        ValueError: If no model has that name, its config has no such field, its fields
            make no network together, there is no such `dtype`, or `seed` is none.

    Examples:
        >>> model = jaxflow.create_model("jaxflow_fast")
        >>> type(model).__module__
        'jaxflow.models.flow.scale_shared'
    """
    if not isinstance(seed, jax.Array):  # which may be traced
        _checks.seed("seed", seed)
    rngs = nnx.Rngs(jax.random.key(seed, impl="rbg"))
    return create(name, dtype=dtype, rngs=rngs, **overrides)


def describe(name: str, **overrides: Any) -> nnx.Module:
    """Returns a model without its weights: shapes only.

    Args:
        name: One of `list_models()`.
        **overrides: Fields of the variant's config to replace; and `dtype`.

    Raises:
        ValueError: As `create`.
    """
    return described(lambda rngs: create(name, rngs=rngs, **overrides))


def described(build: Callable[[nnx.Rngs], nnx.Module]) -> nnx.Module:
    """Returns what `build` returns, without its weights: shapes only.

    Args:
        build: Random streams -> model.
    """
    streams = cast(nnx.Rngs, _OneKey())
    return nnx.eval_shape(lambda: build(streams))


class _OneKey:
    """Random streams that are one constant key, for shapes that nobody fills.

    The counters of `nnx.Rngs` take most of the time of building a traced network.
    """

    def __init__(self):
        key = jax.random.key(0)
        self.params = lambda: key

    def __getattr__(self, name: str) -> Any:
        return getattr(nnx.Rngs(0), name)


def find(name: str) -> types.ModuleType:
    """Returns the module that defines the variant called `name`.

    Raises:
        ValueError: If no model has that name.
    """
    name = current(name)
    if name not in _modules():
        advice = _checks.nearest(name, _modules(), "`jaxflow models`")
        raise ValueError(f"no model is named {name!r}; {advice}")
    return _modules()[name]


def current(name: str) -> str:
    """Returns the name that a variant has now, and warns if `name` is an earlier one.

    Args:
        name: Any text; what no variant was ever called is returned as it is.

    Raises:
        ValueError: If it is no text.
    """
    _checks.text("name", name, "`jaxflow models`")
    now = _renamed().get(name, name)
    if now != name:
        warnings.warn(
            f"the model {name!r} is now called {now!r}", FutureWarning, stacklevel=3
        )
    return now


def task_of(module: types.ModuleType) -> str:
    """Returns the task of a model's module: the folder that its file is in."""
    return module.__name__.split(".")[-2]


@functools.cache
def _renamed() -> dict[str, str]:
    """Maps each name that a variant once had to its name."""
    found = {}
    for module in set(_modules().values()):
        found |= cast(Any, module).RECORD.renamed
    return found


@functools.cache
def _modules() -> dict[str, types.ModuleType]:
    """Maps each variant to the module that defines it."""
    found = {}
    for info in pkgutil.walk_packages(__path__, prefix=f"{__name__}."):
        module = importlib.import_module(info.name)
        for name in getattr(module, "RECORD", spec.Record()).variants:
            if name in found:
                raise ValueError(f"{module} and {found[name]} both define {name!r}")
            found[name] = module
    return found
