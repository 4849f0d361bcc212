"""Pure functions on arrays, built from `jax.lax`."""

from jaxflow.ops.conv import avg_pool as avg_pool
from jaxflow.ops.conv import conv as conv
from jaxflow.ops.conv import conv3d as conv3d
from jaxflow.ops.conv import conv_transpose as conv_transpose
from jaxflow.ops.conv import max_pool as max_pool
from jaxflow.ops.correlation import all_pairs_correlation as all_pairs_correlation
from jaxflow.ops.correlation import correlation_pyramid as correlation_pyramid
from jaxflow.ops.correlation import correlation_volume as correlation_volume
from jaxflow.ops.correlation import local_correlation as local_correlation
from jaxflow.ops.correlation import lookup as lookup
from jaxflow.ops.correlation import lookup_on_demand as lookup_on_demand
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
from jaxflow.ops.windows import extract_windows as extract_windows
