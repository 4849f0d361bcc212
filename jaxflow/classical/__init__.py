"""Motion estimation without weights.

`METHODS` maps the name of every dense estimator to a function (frame1, frame2) -> flow
on (*B, H, W, 3) RGB frames in [0, 1]; the modules hold them with all their options.
"""

import functools
from collections.abc import Callable

import jax

from jaxflow.classical import applications as applications
from jaxflow.classical import brox as brox
from jaxflow.classical import coarse_to_fine as coarse_to_fine
from jaxflow.classical import constraint as constraint
from jaxflow.classical import dynamic_image as dynamic_image
from jaxflow.classical import features as features
from jaxflow.classical import horn_schunck as horn_schunck
from jaxflow.classical import lucas_kanade as lucas_kanade
from jaxflow.classical import median as median
from jaxflow.classical import registration as registration
from jaxflow.classical import structure as structure
from jaxflow.classical import template as template
from jaxflow.classical import trajectories as trajectories
from jaxflow.classical import tvl1 as tvl1


def registration_flow(
    frame1: jax.Array, frame2: jax.Array, *, motion: registration.Motion = "affine"
) -> jax.Array:
    """Explains the frame by one motion of few parameters, as a flow.

    Args:
        frame1: (*B, H, W, 3 or 1), floating, in [0, 1].
        frame2: Like `frame1`.
        motion: See `registration.register`.

    Returns:
        Flow, (*B, H, W, 2), in pixels; 0 where there is nothing to register.

    Raises:
        ValueError: As `registration.register`.
    """
    found = registration.register(frame1, frame2, motion=motion, method="ecc")
    return registration.matrix_flow(found.matrix, frame1.shape[-3:-1])


METHODS: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "lucas_kanade": lucas_kanade.lucas_kanade,
    "horn_schunck": horn_schunck.horn_schunck,
    "brox": brox.brox,
    "block_matching": template.block_matching,
    "phase_correlation": template.phase_correlation_flow,
    "affine": functools.partial(registration_flow, motion="affine"),
    "homography": functools.partial(registration_flow, motion="homography"),
    "tvl1": tvl1.tvl1,
    **{
        f"tvl1_{name}": functools.partial(tvl1.tvl1, **options)
        for name, options in tvl1.PRESETS.items()
        if options
    },
}
