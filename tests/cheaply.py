"""Programs that run for a moment, compiled without LLVM's optimisation.

It is half of the time that XLA takes. So are its newer emitters, which write MLIR for
a fusion; the older ones write LLVM's code at once. What XLA makes of a program before,
its fusions and its order of sums, is the same.
"""

import functools

import jax
from jax._src import compiler
from jax._src.interpreters import mlir

from jaxflow.layers import conv

_plain_draw = conv._draw
_optimised_draw = jax.jit(
    conv._draw.__wrapped__,
    static_argnames="length",
    compiler_options={
        "xla_backend_optimization_level": 2,
        "xla_llvm_disable_expensive_passes": False,
    },
)


def _draw(key, length):
    """Draws ten million weights in 2 seconds, which takes 20 without optimisation."""
    try:
        return _optimised_draw(key, length)
    except ValueError:  # Only a whole program has options, and not a part of one.
        return _plain_draw(key, length)


# JAX makes a context for each program that it lowers, be it an addition, and keeps it:
# a millisecond each, and half of the memory that a run of the tests takes.
_one_context = functools.cache(mlir.make_ir_context)
mlir.make_ir_context = _one_context


def forget() -> None:
    """Lets go of what was lowered, but for what JAX itself keeps."""
    _one_context.cache_clear()


_plain_options = compiler.get_compile_options


def _cheap_options(*arguments, env_options_overrides=None, **others):
    options = {"xla_cpu_use_fusion_emitters": False, **(env_options_overrides or {})}
    return _plain_options(*arguments, env_options_overrides=options, **others)


def switch(on: bool) -> None:
    """Compiles what comes from now on cheaply, or as users do."""
    jax.config.update("jax_disable_most_optimizations", on)
    compiler.get_compile_options = _cheap_options if on else _plain_options
    conv._draw = _draw if on else _plain_draw
