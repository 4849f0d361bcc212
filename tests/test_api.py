"""What holds for every public op: signature, docstring, jit, vmap, dtype, gradient.

A new op adds one row to `ROWS`.
"""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow import ops

IMAGE, PAIR, FLOW, MAP = (6, 7, 3), (6, 7, 4), (6, 7, 2), (6, 7)
KERNEL2D, KERNEL3D = np.ones((3, 3, 3, 2)) / 27, np.ones((3, 3, 3, 3, 2)) / 81

# Op -> (a call on arrays of one example, the shapes of those arrays). Arrays shared by
# all examples, and settings, are closed over.
ROWS = {
    "all_pairs_correlation": (ops.all_pairs_correlation, [PAIR, PAIR]),
    "average_splat": (ops.average_splat, [IMAGE, FLOW]),
    "avg_pool": (lambda x: ops.avg_pool(x, 2), [IMAGE]),
    "backward_warp": (
        functools.partial(ops.backward_warp, padding="border", mask=0.9999),
        [IMAGE, FLOW],
    ),
    "bicubic_sample": (ops.bicubic_sample, [IMAGE, (5, 2)]),
    "bilinear_sample": (ops.bilinear_sample, [IMAGE, (5, 2)]),
    "compose": (ops.compose, [FLOW, FLOW]),
    "conv": (
        lambda x: ops.conv(x, jnp.asarray(KERNEL2D, x.dtype), padding=1),
        [IMAGE],
    ),
    "conv3d": (
        lambda x: ops.conv3d(x, jnp.asarray(KERNEL3D, x.dtype), padding=1),
        [(4, 5, 6, 3)],
    ),
    "conv_transpose": (
        lambda x: ops.conv_transpose(x, jnp.asarray(KERNEL2D, x.dtype), padding=1),
        [IMAGE],
    ),
    "convex_upsample": (
        functools.partial(ops.convex_upsample, factor=2),
        [FLOW, (6, 7, 36)],
    ),
    "correlation_pyramid": (
        lambda volume: ops.correlation_pyramid(volume, 2),
        [(3, 2, 6, 7)],
    ),
    "correlation_volume": (
        functools.partial(ops.correlation_volume, radius=1),
        [PAIR, PAIR],
    ),
    "divergence": (ops.divergence, [IMAGE, IMAGE]),
    "extract_windows": (lambda x: ops.extract_windows(x, 3), [IMAGE]),
    "forward_backward_occlusion": (ops.forward_backward_occlusion, [FLOW, FLOW]),
    "forward_interpolate": (ops.forward_interpolate, [FLOW]),
    "forward_splat": (
        lambda values, flow, weights: ops.forward_splat(values, flow, weights=weights),
        [IMAGE, FLOW, MAP],
    ),
    "gaussian_blur": (lambda x: ops.gaussian_blur(x, 1.0), [IMAGE]),
    "gaussian_kernel": (functools.partial(ops.gaussian_kernel, radius=2), [()]),
    "gaussian_pyramid": (lambda x: ops.gaussian_pyramid(x, 2, scale=0.7), [IMAGE]),
    "invert": (ops.invert, [FLOW]),
    "laplacian": (ops.laplacian, [IMAGE]),
    "local_correlation": (
        functools.partial(ops.local_correlation, radius=1),
        [PAIR, PAIR],
    ),
    "lookup": (
        lambda level0, level1, points: ops.lookup([level0, level1], points, radius=1),
        [(3, 2, 6, 7), (3, 2, 3, 3), (3, 2, 2)],
    ),
    "lookup_on_demand": (
        lambda f1, level0, level1, points: ops.lookup_on_demand(
            f1, [level0, level1], points, radius=1
        ),
        [PAIR, PAIR, (3, 3, 4), FLOW],
    ),
    "max_pool": (lambda x: ops.max_pool(x, 2), [IMAGE]),
    "pad_to_multiple": (lambda x: ops.pad_to_multiple(x, 4)[0], [IMAGE]),
    "pixel_grid": (lambda: ops.pixel_grid(3, 4), []),
    "pyramid_down": (ops.pyramid_down, [IMAGE]),
    "resize": (lambda x: ops.resize(x, (4, 9)), [IMAGE]),
    "resize_flow": (lambda flow: ops.resize_flow(flow, (4, 9)), [FLOW]),
    "resize_opencv_uint8": (
        lambda x: ops.resize_opencv_uint8(jnp.round(50 * x).astype(jnp.uint8), (4, 9)),
        [IMAGE],
    ),
    "roi_align": (
        lambda features, boxes: ops.roi_align(
            features[None], boxes, jnp.zeros(2, jnp.int32), size=(2, 2)
        ),
        [IMAGE, (2, 4)],
    ),
    "sampling_mask": (lambda points: ops.sampling_mask(points, (3, 3)), [(5, 2)]),
    "separable_filter": (
        lambda x: ops.separable_filter(x, [1.0, 2.0, 1.0], [1.0]),
        [IMAGE],
    ),
    "softmax_splat": (ops.softmax_splat, [IMAGE, FLOW, MAP]),
    "spatial_gradient": (ops.spatial_gradient, [IMAGE]),
    "structure_tensor": (ops.structure_tensor, [IMAGE]),
    "unpad": (lambda x: ops.unpad(x, ((1, 0), (0, 2))), [IMAGE]),
}
PUBLIC = {name: f for name, f in vars(ops).items() if inspect.isfunction(f)}

# Ops whose result is of another type than the input, by design.
KEEPS_NO_DTYPE = {
    "all_pairs_correlation",
    "correlation_pyramid",
    "forward_backward_occlusion",
    "gaussian_kernel",
    "local_correlation",
    "lookup",
    "lookup_on_demand",
    "pixel_grid",
    "resize_opencv_uint8",
    "sampling_mask",
}


def rows(*, without=()):
    names = [name for name in ROWS if name in PUBLIC and name not in without]
    return pytest.mark.parametrize("name", names)


def examples(name, rng, batch=()):
    """Positive numbers around 2: values, motions and positions that stay inside."""
    return [
        jnp.asarray(rng.uniform(0.3, 3.6, size=(*batch, *shape)), jnp.float32)
        for shape in ROWS[name][1]
    ]


def assert_trees_close(found, expected, **tolerance):
    leaves = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    for one, other in leaves:
        np.testing.assert_allclose(
            np.asarray(one, np.float64), np.asarray(other, np.float64), **tolerance
        )


def test_every_public_op_has_a_row():
    missing = set(PUBLIC) - set(ROWS)
    assert not missing, f"add a row to ROWS for {sorted(missing)}"


def test_every_row_has_a_public_op():
    assert set(ROWS) <= set(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_docstring_opens_with_a_sentence_and_explains_every_argument(name):
    doc = inspect.getdoc(PUBLIC[name])
    first = doc.split("\n", 1)[0]
    assert first[0].isupper() and first.endswith("."), first
    assert "Returns" in doc
    parameters = inspect.signature(PUBLIC[name]).parameters
    if len(first) < len(doc):
        for parameter in parameters:
            assert f"{parameter}:" in doc, f"{name} does not explain {parameter}"


@pytest.mark.parametrize("name", PUBLIC)
def test_only_keywords_have_defaults(name):
    for parameter in inspect.signature(PUBLIC[name]).parameters.values():
        assert parameter.kind in (
            parameter.POSITIONAL_OR_KEYWORD,
            parameter.KEYWORD_ONLY,
        )
        if parameter.default is not parameter.empty:
            assert parameter.kind == parameter.KEYWORD_ONLY, parameter.name


@pytest.mark.slow
@rows()
def test_compiled_equals_eager(name, rng):
    call, arrays = ROWS[name][0], examples(name, rng)
    # Fused sums may round otherwise: some ulps of numbers below 100.
    assert_trees_close(jax.jit(call)(*arrays), call(*arrays), rtol=1e-5, atol=1e-5)


@rows(without=("pixel_grid", "gaussian_kernel", "roi_align"))
def test_batch_axes_equal_vmap_and_a_loop(name, rng):
    call, arrays = ROWS[name][0], examples(name, rng, batch=(2,))
    together = jax.jit(call)(*arrays)
    mapped = jax.jit(jax.vmap(call))(*arrays)
    assert_trees_close(together, mapped, rtol=1e-5, atol=1e-5)
    compiled = jax.jit(call)
    for i in range(2):
        alone = compiled(*(array[i] for array in arrays))
        assert_trees_close(
            jax.tree.map(lambda leaf, i=i: leaf[i], together),
            alone,
            rtol=1e-5,
            atol=1e-5,
        )


@rows(without=("pixel_grid", "roi_align", "gaussian_kernel"))
def test_two_batch_axes_stay_in_front(name):
    call, shapes = ROWS[name]
    structs = [jax.ShapeDtypeStruct((2, 5, *shape), jnp.float32) for shape in shapes]
    alone = jax.eval_shape(
        call, *(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)
    )
    batched = jax.eval_shape(call, *structs)
    for one, many in zip(jax.tree.leaves(alone), jax.tree.leaves(batched), strict=True):
        assert many.shape == (2, 5, *one.shape)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@rows(without=KEEPS_NO_DTYPE)
def test_half_precision_comes_out_as_it_went_in(name, dtype):
    call, shapes = ROWS[name]
    out = jax.eval_shape(call, *(jax.ShapeDtypeStruct(s, dtype) for s in shapes))
    assert jax.tree.leaves(out)[0].dtype == dtype


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@rows()
def test_half_precision_is_accepted(name, dtype):
    call, shapes = ROWS[name]
    jax.eval_shape(call, *(jax.ShapeDtypeStruct(s, dtype) for s in shapes))


@rows(without=("pixel_grid", "resize_opencv_uint8"))
def test_gradients_are_finite(name, rng):
    call, arrays = ROWS[name][0], examples(name, rng)

    def total(*arrays):
        floats = [
            leaf
            for leaf in jax.tree.leaves(call(*arrays))
            if jnp.issubdtype(leaf.dtype, jnp.floating)
        ]
        return sum((jnp.sum(leaf**2) for leaf in floats), jnp.float32(0))

    gradient = jax.grad(total, argnums=tuple(range(len(arrays))))
    for one in jax.jit(gradient)(*arrays):
        assert np.isfinite(one).all()
