"""Pure functions on arrays, built from `jax.lax`."""

from jaxflow.ops.resize import convex_upsample as convex_upsample
from jaxflow.ops.resize import pad_to_multiple as pad_to_multiple
from jaxflow.ops.resize import resize as resize
from jaxflow.ops.resize import resize_flow as resize_flow
from jaxflow.ops.resize import resize_opencv_uint8 as resize_opencv_uint8
from jaxflow.ops.resize import unpad as unpad
from jaxflow.ops.warp import backward_warp as backward_warp
from jaxflow.ops.warp import bicubic_sample as bicubic_sample
from jaxflow.ops.warp import bilinear_sample as bilinear_sample
from jaxflow.ops.warp import pixel_grid as pixel_grid
from jaxflow.ops.warp import sampling_mask as sampling_mask
