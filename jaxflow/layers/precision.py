"""The policy of precision: which numbers of a network have which type.

A network computes in its `dtype`, which is float32 unless `jaxflow.create_model` is
told otherwise (``dtype=jnp.bfloat16``). In bfloat16 and float16 it computes features:
what convolutions, matrix products and activations read and write. Float32 in every
network are

- parameters, running statistics, gradients and the state of the optimiser;
- images and clips, flow, coordinates, and what samples or compares images;
- the layers that predict flow, its up-sampling weights, scores of classes or noise;
- what makes the density or the scores that a best match is taken from (HD3's decoders,
  VCN's filters): a rounding there chooses another match;
- embeddings of diffusion time, and numbers of frames;
- correlation volumes; sums inside products; means, variances, softmax and losses;
- whatever a network returns.

A network widens its input to float32 at the door, be it bfloat16 or float64: the type
of an input never decides how a network computes. Layers follow the type of their
input, so a model casts to its `dtype` where features begin and to float32 where they
end.

How products of float32 numbers are computed is another question, which the `precision`
of `jaxflow.estimate_flow`, `jaxflow.classify_video` and their kin answers.
"""

import contextlib
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxflow import _checks

DTYPES = ("float32", "bfloat16", "float16")
"""Types that a network can compute in."""
PRECISIONS = ("highest", "high", "default")
"""How products of float32 numbers can be computed."""
Precision = Literal["highest", "high", "default"]


def set_dtype(model: nnx.Module, dtype: DTypeLike) -> None:
    """Sets the type that a model, and every model inside it, computes in.

    Args:
        model: Any model of `jaxflow.models`; its parameters stay what they are.
        dtype: float32, bfloat16 or float16. Float16 ends at 65504: what is larger
            becomes infinite.

    Raises:
        ValueError: If it is none of them, or the model has no `dtype`.
    """
    try:
        name = "None" if dtype is None else jnp.dtype(dtype).name
    except TypeError:
        name = dtype
    _checks.one_of("dtype", name, DTYPES)
    if hasattr(model, "dtype"):
        model.set_attributes(dtype=jnp.dtype(name))
    elif name != "float32":
        kind = type(model).__module__.rpartition(".")[2]
        raise ValueError(f"`dtype` must be 'float32' for {kind}; got {name!r}")


def of_products(precision: str) -> contextlib.AbstractContextManager:
    """Returns the context in which products of float32 have a precision.

    Args:
        precision: "highest" computes them in float32 on every device; "high" and
            "default" are faster and less exact on accelerators: on a GPU "default"
            rounds factors to TF32, on a TPU to bfloat16.

    Raises:
        ValueError: If there is no such precision.
    """
    _checks.one_of("precision", precision, PRECISIONS)
    return jax.default_matmul_precision(precision)
