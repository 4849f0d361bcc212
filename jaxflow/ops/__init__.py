"""Pure functions on arrays, built from `jax.lax`."""
