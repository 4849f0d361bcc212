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
