"""The arrays that a network holds, replaced while a program is traced."""

import jax
from flax import nnx


def replace(variable: nnx.Variable[jax.Array], value: jax.Array) -> None:
    """Gives a variable another array of its shape and type.

    ``variable[...] = value`` does so, too. But it asks both arrays where they are, and
    an array that is traced refuses with a message that tells where it comes from: JAX
    walks through the whole program so far, twice for each variable.

    Args:
        variable: Of a module; it is changed.
        value: Of the shape and type that the variable's own array has.

    Raises:
        ValueError: If it is not.

    Examples:
        >>> from flax import nnx
        >>> scale = nnx.Param(jnp.ones(2))
        >>> jaxflow.layers.variables.replace(scale, jnp.zeros(2))
        >>> scale[...].tolist()
        [0.0, 0.0]
    """
    own = variable[...]
    if (own.shape, own.dtype) != (value.shape, value.dtype):
        raise ValueError(
            f"`value` must be {own.dtype} of {own.shape}, as the variable is; got "
            f"{value.dtype} of {value.shape}"
        )
    if hasattr(variable, "set_value"):
        variable.set_value(value)
    else:  # Flax before 0.12.
        variable[...] = value
