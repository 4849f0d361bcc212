"""Derivatives of every public op: all ways to compute them agree.

Forward mode, linearisation, forward over reverse and reverse over reverse are compared
with reverse mode to 1e-5, and with central differences to 1e-4, in double precision.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow import ops
from jaxflow.layers import feature_flow, representation_flow
from tests import test_api

# Results are integers, booleans, or depend on no array; boxes have no gradient.
CONSTANT = {
    "forward_backward_occlusion",
    "pixel_grid",
    "resize_opencv_uint8",
    "roi_align",
    "sampling_mask",
}
# Others have another case of these that always runs, or are made of them.
TWINS = {
    "average_splat",
    "backward_warp",
    "bicubic_sample",
    "bilinear_sample",
    "conv",
    "conv3d",
    "conv_transpose",
    "gaussian_pyramid",
    "invert",
    "local_correlation",
    "lookup",
    "max_pool",
}


def floats(tree):
    return [
        leaf
        for leaf in jax.tree.leaves(tree)
        if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
    ]


def along(slopes, directions):
    return sum(jnp.vdot(s, d) for s, d in zip(slopes, directions, strict=True))


def derivatives(function, inputs, directions, *, step):
    """Returns what must be equal: name -> (found, expected)."""

    def loss(*inputs):
        return sum(jnp.mean(jnp.sin(leaf)) for leaf in floats(function(*inputs)))

    every = tuple(range(len(inputs)))
    gradient = jax.grad(loss, argnums=every)
    moved = [
        jnp.stack([x - step * d, x, x + step * d])
        for x, d in zip(inputs, directions, strict=True)
    ]
    values, slopes = jax.lax.map(
        lambda x: jax.value_and_grad(loss, argnums=every)(*x), tuple(moved)
    )
    first = along([slope[1] for slope in slopes], directions)
    second = jax.grad(lambda *x: along(gradient(*x), directions), argnums=every)(
        *inputs
    )
    _, linear = jax.linearize(loss, *inputs)
    return {
        "jvp": (jax.jvp(loss, inputs, directions)[1], first),
        "linearize": (linear(*directions), first),
        "forward over reverse": (jax.jvp(gradient, inputs, directions)[1], second),
        "differences": ((values[2] - values[0]) / (2 * step), first),
        "differences of slopes": (
            tuple((slope[2] - slope[0]) / (2 * step) for slope in slopes),
            second,
        ),
    }


def assert_derivatives_agree(function, inputs, rng):
    inputs = tuple(jnp.asarray(x, jnp.float64) for x in inputs)
    directions = tuple(jnp.asarray(rng.normal(size=x.shape)) for x in inputs)
    many = sum(x.size for x in inputs) > 10_000
    # What depends on many numbers bends sharply along a direction that moves them all.
    step = 1e-7 if many else 1e-6
    compiled = jax.jit(lambda *x: derivatives(function, x, directions, step=step))
    found = compiled(*inputs)
    if many:
        # Among many numbers one always crosses a threshold, and its slope jumps.
        del found["differences of slopes"]
    for name, (actual, expected) in found.items():
        pairs = zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True)
        for one, other in pairs:
            assert one.dtype == jnp.float64, name
            assert np.isfinite(one).all() and np.isfinite(other).all(), name
            # A step crosses few thresholds, and is rounded by 1e-10.
            few, bar = (0.999, 1e-4) if "differences" in name else (1, 1e-5)
            error = np.quantile(np.abs(one - other), few)
            assert error <= bar * max(float(jnp.abs(other).max()), 1e-5), name


def uniform(rng, *shape):
    return rng.uniform(0.3, 3.6, size=shape)


def points(rng, *shape, size):
    """Draws points in and around an image, away from the edges of its cells."""
    whole = rng.integers(-3, [size[1] + 2, size[0] + 2], size=(*shape, 2))
    return whole + rng.uniform(0.1, 0.9, size=(*shape, 2))


def flows(rng, *size):
    """Draws flow that ends at such points."""
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in size[::-1])), axis=-1)
    return points(rng, *size, size=size) - grid


def sampled(sample, size, channels, count=40, **options):
    return lambda rng: (
        functools.partial(sample, **options),
        (rng.normal(size=(*size, channels)), points(rng, count, size=size)),
    )


def warped(size, channels, **options):
    return lambda rng: (
        functools.partial(ops.backward_warp, **options),
        (rng.normal(size=(*size, channels)), flows(rng, *size)),
    )


def of_image(op, size, *arguments, **options):
    """Makes a case of an op of one image, or clip."""
    return lambda rng: (
        lambda image: op(image, *arguments, **options),
        (rng.normal(size=size),),
    )


def splatted(op, size, channels):
    def case(rng):
        arrays = rng.normal(size=(*size, channels)), flows(rng, *size)
        return op, (*arrays, rng.uniform(0.5, 2, size=size))

    return case


def iterated(size, **options):
    """Makes a case of TV-L1 on smooth features, whose thresholds are far from all."""

    def case(rng):
        layer = representation_flow.FlowLayer(size[-1], iterations=3, **options)
        names = list(feature_flow.initial_filters(layer.variant))
        names += ["theta", "lam", "tau"]

        graph, state = nnx.split(layer)
        state = jax.tree.map(lambda x: x.astype(jnp.float64), state)

        def run(first, second, *weights):
            layer = nnx.merge(graph, state, copy=True)
            for name, weight in zip(names, weights, strict=True):
                getattr(layer, name)[...] = weight
            return layer(first, second)

        frames = 20 * rng.normal(size=(2, 2, *size))
        weights = [np.asarray(getattr(layer, name)[...]) for name in names]
        return run, (*frames, *weights)

    return case


def splat(values, flow, weights):
    return ops.forward_splat(values, flow, weights=weights)


SMALL, LARGE = (5, 6), (48, 64)
MODES = {
    f"{sample.__name__}, {padding}, {channels} channels": sampled(
        sample, SMALL, channels, padding=padding
    )
    for sample in (ops.bilinear_sample, ops.bicubic_sample)
    for padding in ("zeros", "border")
    for channels in (2, 9)
}
MODES |= {
    f"{sample.__name__}, {padding}, large": sampled(
        sample, LARGE, 12, count=5000, padding=padding
    )
    for sample in (ops.bilinear_sample, ops.bicubic_sample)
    for padding in ("zeros", "border")
}
MODES |= {
    f"warp, {padding}, {mask}, {'large' if size is LARGE else 'small'}": warped(
        size, 3, padding=padding, mask=mask
    )
    for padding in ("zeros", "border")
    for mask in (None, "inside", "strict", 0.999)
    for size in (SMALL, LARGE)
}
# Sizes are one program here, and not two forms of it.
MODES |= {
    f"tvl1, {variant}, {border}": iterated((5, 6, 2), variant=variant, border=border)
    for variant in representation_flow.VARIANTS
    for border in ("first", "second")
    if border == "first" or variant != "paper"
}
MODES["tvl1, large"] = iterated((40, 56, 24), variant="hmdb_release", border="first")
MODES |= {
    f"resize, {method}, {size}, {options}": of_image(
        ops.resize, (*start, 3), size, method=method, **options
    )
    for method in ("bilinear", "bicubic")
    for start, size in (((5, 6), (9, 4)), ((96, 128), (9, 30)), ((30, 40), (96, 128)))
    for options in ({}, {"align_corners": True}, {"antialias": True})
}
MODES["resize, nearest"] = of_image(ops.resize, (5, 6, 3), (9, 4), method="nearest")
MODES |= {
    f"filter, {border}, {size}": of_image(
        ops.separable_filter, size, [1.0, 3, -2, 0.5, 1], [1.0, -2, 0.5], border=border
    )
    for border in ("edge", "reflect", "symmetric", "zeros")
    for size in ((5, 6, 2), (96, 128, 9))
}
MODES |= {
    f"gradient, {kernel}": of_image(ops.spatial_gradient, (6, 7, 2), kernel=kernel)
    for kernel in ("central", "sobel", "scharr", "five_point", "forward", "backward")
}
MODES |= {
    "laplacian, horn_schunck": of_image(
        ops.laplacian, (5, 6, 2), kernel="horn_schunck"
    ),
    "structure tensor, window": of_image(
        ops.structure_tensor, (9, 8, 9), window=3, border="reflect"
    ),
    "blur, large": of_image(ops.gaussian_blur, (96, 128, 3), 4.0, border="zeros"),
    "pyramid, large": of_image(ops.gaussian_pyramid, (96, 128, 3), 4),
    "pyramid, unblurred": of_image(
        ops.gaussian_pyramid, (40, 30, 3), 3, scale=0.6, sigma=0
    ),
}
MODES |= {
    f"{op.__name__}, {window}, {options}": of_image(op, size, window, **options)
    for op in (ops.max_pool, ops.avg_pool)
    for size, window, options in (
        ((7, 8, 3), 3, {"strides": 2, "padding": 1}),
        ((7, 8, 3), 2, {"ceil_mode": True, "strides": 3}),
        ((40, 50, 3), (19, 23), {"strides": (3, 5)}),
        ((5, 20, 24, 2), (2, 17, 3), {}),
    )
}
MODES |= {
    f"{op.__name__}, {'large' if size is LARGE else 'small'}": splatted(op, size, 3)
    for op in (splat, ops.average_splat, ops.softmax_splat)
    for size in (SMALL, LARGE)
    if op is not ops.average_splat
}
MODES |= {
    "windows, border": of_image(ops.extract_windows, (5, 6, 2), 3, padding="border"),
    "pad, constant": of_image(ops.pad_to_multiple, (5, 6, 2), 4, mode="constant"),
    "convex, large": lambda rng: (
        ops.convex_upsample,
        (rng.normal(size=(12, 16, 2)), rng.normal(size=(12, 16, 576))),
    ),
    "all pairs, large": lambda rng: (
        ops.all_pairs_correlation,
        tuple(rng.normal(size=(2, 12, 16, 64))),
    ),
    "volume, two radii": lambda rng: (
        functools.partial(ops.correlation_volume, radius=(1, 2)),
        tuple(rng.normal(size=(2, 5, 6, 3))),
    ),
    "lookup, large": lambda rng: (
        lambda volume, at: ops.lookup(ops.correlation_pyramid(volume, 3), at, radius=4),
        (rng.normal(size=(6, 8, 24, 32)), points(rng, 6, 8, size=(24, 32))),
    ),
    "lookup on demand, large": lambda rng: (
        lambda one, two, at: ops.lookup_on_demand(
            one, [two, ops.avg_pool(two, 2)], at, radius=3
        ),
        (
            *(rng.normal(size=(2, 12, 16, 32))),
            points(rng, 12, 16, size=(12, 16)) + 0.01,
        ),
    ),
    "inverse, fixed point": lambda rng: (
        functools.partial(ops.invert, method="fixed_point", iterations=4),
        (0.4 * rng.uniform(0.1, 0.9, size=(5, 6, 2)),),
    ),
    "composition, zeros": lambda rng: (
        functools.partial(ops.compose, padding="zeros"),
        (flows(rng, 5, 6), rng.normal(size=(5, 6, 2))),
    ),
    "boxes, ratio": lambda rng: (
        lambda features: ops.roi_align(
            features,
            jnp.array([[1.0, 2.0, 9.0, 12.0], [0.0, 0.0, 5.0, 4.0]]),
            jnp.array([1, 0]),
            size=(3, 4),
            sampling_ratio=2,
            aligned=False,
        ),
        (rng.normal(size=(2, 12, 14, 3)),),
    ),
}
QUICK = {
    "bilinear_sample, zeros, large",
    "bicubic_sample, border, large",
    "warp, zeros, None, small",
    "warp, border, 0.999, large",
    "resize, bicubic, (9, 30), {'antialias': True}",
    "filter, reflect, (96, 128, 9)",
    "max_pool, (19, 23), {'strides': (3, 5)}",
    "splat, large",
    "lookup, large",
    "boxes, ratio",
}


def parameters(names, slow):
    return [
        pytest.param(name, marks=[pytest.mark.slow] * (name in slow)) for name in names
    ]


OPS = [name for name in test_api.ROWS if name not in CONSTANT]


@pytest.mark.parametrize("name", parameters(OPS, TWINS))
def test_derivatives_of_every_op_agree(name, rng, double):
    call, shapes = test_api.ROWS[name]
    assert_derivatives_agree(call, [uniform(rng, *shape) for shape in shapes], rng)


@pytest.mark.parametrize("name", parameters(MODES, {*MODES} - QUICK))
def test_derivatives_in_every_mode_and_size_agree(name, rng, double):
    assert_derivatives_agree(*MODES[name](rng), rng)
