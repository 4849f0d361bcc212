"""Programs that run for a moment, compiled without LLVM's optimisation.

It is half of the time that XLA takes. What XLA itself makes of a program, its fusions
and its order of sums, is the same.
"""

import jax

from jaxflow.layers import conv

# Without optimisation a network of ten million weights is drawn in 20 seconds, not 2.
_draw = jax.jit(
    conv._draw.__wrapped__,
    static_argnames="length",
    compiler_options={
        "xla_backend_optimization_level": 2,
        "xla_llvm_disable_expensive_passes": False,
    },
)


def switch(on: bool) -> None:
    """Compiles what comes from now on cheaply, or as users do."""
    jax.config.update("jax_disable_most_optimizations", on)
    conv._draw = _draw
