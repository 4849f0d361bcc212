"""Pure functions on arrays, built from `jax.lax`."""

from jaxflow.ops.all_pairs import all_pairs_correlation as all_pairs_correlation
from jaxflow.ops.all_pairs import correlation_pyramid as correlation_pyramid
from jaxflow.ops.all_pairs import lookup as lookup
from jaxflow.ops.all_pairs import lookup_on_demand as lookup_on_demand
from jaxflow.ops.conv import conv as conv
from jaxflow.ops.conv import conv3d as conv3d
from jaxflow.ops.conv import conv_transpose as conv_transpose
from jaxflow.ops.correlation import correlation_volume as correlation_volume
from jaxflow.ops.correlation import local_correlation as local_correlation
from jaxflow.ops.flowfield import compose as compose
from jaxflow.ops.flowfield import (
    forward_backward_occlusion as forward_backward_occlusion,
)
from jaxflow.ops.flowfield import forward_interpolate as forward_interpolate
from jaxflow.ops.flowfield import invert as invert
from jaxflow.ops.padding import pad_to_multiple as pad_to_multiple
from jaxflow.ops.padding import unpad as unpad
from jaxflow.ops.pool import avg_pool as avg_pool
from jaxflow.ops.pool import max_pool as max_pool
from jaxflow.ops.pyramid import gaussian_blur as gaussian_blur
from jaxflow.ops.pyramid import gaussian_pyramid as gaussian_pyramid
from jaxflow.ops.pyramid import pyramid_down as pyramid_down
from jaxflow.ops.resize import convex_upsample as convex_upsample
from jaxflow.ops.resize import resize as resize
from jaxflow.ops.resize import resize_flow as resize_flow
from jaxflow.ops.resize import resize_opencv_uint8 as resize_opencv_uint8
from jaxflow.ops.roi import roi_align as roi_align
from jaxflow.ops.splat import average_splat as average_splat
from jaxflow.ops.splat import forward_splat as forward_splat
from jaxflow.ops.splat import softmax_splat as softmax_splat
from jaxflow.ops.stencil import divergence as divergence
from jaxflow.ops.stencil import gaussian_kernel as gaussian_kernel
from jaxflow.ops.stencil import laplacian as laplacian
from jaxflow.ops.stencil import separable_filter as separable_filter
from jaxflow.ops.stencil import spatial_gradient as spatial_gradient
from jaxflow.ops.stencil import structure_tensor as structure_tensor
from jaxflow.ops.warp import backward_warp as backward_warp
from jaxflow.ops.warp import bicubic_sample as bicubic_sample
from jaxflow.ops.warp import bilinear_sample as bilinear_sample
from jaxflow.ops.warp import pixel_grid as pixel_grid
from jaxflow.ops.warp import sampling_mask as sampling_mask
from jaxflow.ops.windows import extract_windows as extract_windows
