"""Pure functions on arrays, built from `jax.lax`."""

from jaxflow.ops.warp import backward_warp as backward_warp
from jaxflow.ops.warp import bicubic_sample as bicubic_sample
from jaxflow.ops.warp import bilinear_sample as bilinear_sample
from jaxflow.ops.warp import pixel_grid as pixel_grid
from jaxflow.ops.warp import sampling_mask as sampling_mask
