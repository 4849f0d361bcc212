"""Tests for jaxflow.ops.conv."""

import importlib
import re

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest
from jax import export

from jaxflow import ops

# The package's attribute of that name is the function.
module = importlib.import_module("jaxflow.ops.conv")


def normal(rng, *shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


def windows_of(x, window, strides, sides, dilation, fill=0.0):
    """Every window of (B, *spatial, C), in float64: (B, *out, C, *window)."""
    axes = range(1, 1 + len(window))
    x = np.pad(
        np.asarray(x, np.float64), [(0, 0), *sides, (0, 0)], constant_values=fill
    )
    extents = [d * (k - 1) + 1 for d, k in zip(dilation, window, strict=True)]
    found = np.lib.stride_tricks.sliding_window_view(x, extents, axis=tuple(axes))
    stepped = (slice(None), *(slice(None, None, s) for s in strides), slice(None))
    return found[(*stepped, *(slice(None, None, d) for d in dilation))]


def numpy_conv(x, kernel, strides, sides, dilation, groups):
    """A convolution of any number of axes, straight from the definition."""
    *window, per_group, _ = kernel.shape
    found = windows_of(x, window, strides, sides, dilation)
    found = np.moveaxis(found, len(window) + 1, -1)
    parts = [
        np.tensordot(
            found[..., g * per_group : (g + 1) * per_group],
            np.asarray(part, np.float64),
            axes=len(window) + 1,
        )
        for g, part in enumerate(np.split(kernel, groups, axis=-1))
    ]
    return np.concatenate(parts, axis=-1)


CASES_2D = {
    "plain": ((3, 3), {}),
    "same": ((3, 3), {"padding": 1}),
    "strided": ((5, 3), {"strides": (2, 3), "padding": (2, 1)}),
    "one side": ((3, 2), {"padding": ((2, 0), (0, 3)), "strides": 2}),
    "dilated": ((3, 3), {"dilation": (2, 3), "padding": (2, 3)}),
    "pointwise": ((1, 1), {}),
    "pointwise, strided": ((1, 1), {"strides": 2}),
    "pointwise, padded": ((1, 1), {"padding": 1}),
    "grouped": ((3, 3), {"groups": 2, "padding": 1}),
    "depthwise": ((3, 3), {"groups": 4, "padding": 1, "strides": (1, 2)}),
    "depthwise, dilated": ((2, 3), {"groups": 4, "dilation": 2}),
}
CASES_3D = {
    "same": ((3, 3, 3), {"padding": 1}),
    "in time": ((3, 1, 1), {"padding": (1, 0, 0), "strides": (2, 1, 1)}),
    "in time, strided in space": ((3, 1, 1), {"strides": (1, 2, 2)}),
    "in space": ((1, 3, 3), {"padding": (0, 1, 1), "strides": (1, 2, 2)}),
    "strided": ((3, 3, 3), {"padding": 1, "strides": 2}),
    "dilated": (
        (2, 3, 2),
        {"dilation": (3, 2, 1), "padding": ((2, 1), (2, 2), (0, 1))},
    ),
    "grouped": ((3, 3, 3), {"groups": 2, "padding": 1}),
    "depthwise": ((3, 3, 3), {"groups": 4, "padding": 1, "strides": (1, 2, 2)}),
    "depthwise in time": ((3, 1, 1), {"groups": 4, "padding": (1, 0, 0)}),
}
CASES = [
    pytest.param(window, settings, id=f"{len(window)}d {name}")
    for cases in (CASES_2D, CASES_3D)
    for name, (window, settings) in cases.items()
]


def example(rng, window, settings):
    """The function, an input, a kernel and the settings that NumPy needs."""
    axes = len(window)
    function = ops.conv if axes == 2 else ops.conv3d
    groups = settings.get("groups", 1)
    x = normal(rng, 2, *(7, 9, 8)[-axes:], 4)
    kernel = normal(rng, *window, 4 // groups, 6 if groups < 4 else 4)
    spelled = (
        module.per_axis(settings.get("strides", 1), axes),
        module.per_side(settings.get("padding", 0), axes),
        module.per_axis(settings.get("dilation", 1), axes),
        groups,
    )
    return lambda x, k: function(x, k, **settings), x, kernel, spelled


@pytest.mark.parametrize(("window", "settings"), CASES)
def test_convolution_is_its_definition(rng, window, settings):
    function, x, kernel, spelled = example(rng, window, settings)
    # Up to 108 products of order 1 in float32.
    np.testing.assert_allclose(
        jax.jit(function)(x, kernel), numpy_conv(x, kernel, *spelled), atol=2e-5
    )


def assert_gradients_are_adjoint(function, rng, *inputs):
    """For f linear in each input, <cotangent, f(.. d ..)> = <gradient, d>."""
    function = jax.jit(function)
    out, pull = jax.vjp(function, *inputs)
    cotangent = normal(rng, *out.shape)
    for position, gradient in enumerate(pull(cotangent)):
        direction = normal(rng, *inputs[position].shape)
        moved = list(inputs)
        moved[position] = direction
        expected = np.vdot(cotangent, function(*moved))
        scale = np.linalg.norm(gradient) * np.linalg.norm(direction)
        # Rounding of sums in float32, against the size of what is summed.
        assert abs(np.vdot(gradient, direction) - expected) < 1e-5 * scale


@pytest.mark.parametrize(("window", "settings"), CASES)
def test_gradients_are_adjoint_to_the_convolution(rng, window, settings):
    function, x, kernel, _ = example(rng, window, settings)
    assert_gradients_are_adjoint(function, rng, x, kernel)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)], ids=str)
def test_takes_any_number_of_batch_axes(rng, batch):
    x, kernel = normal(rng, *batch, 5, 6, 4), normal(rng, 3, 3, 4, 2)
    stamp = normal(rng, 4, 4, 4, 2)
    clip = normal(rng, *batch, 4, 5, 6, 4)
    cases = (
        (lambda: ops.conv(x, kernel), (3, 4, 2)),
        (lambda: ops.conv_transpose(x, stamp, padding=1), (10, 12, 2)),
        (lambda: ops.conv3d(clip, kernel[None]), (4, 3, 4, 2)),
        (lambda: ops.max_pool(clip, (2, 2, 2)), (2, 2, 3, 4)),
        (lambda: ops.avg_pool(x, 2), (2, 3, 4)),
    )
    for function, shape in cases:
        assert jax.eval_shape(function).shape == (*batch, *shape)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_sums_in_single(rng, dtype):
    # 2304 ones per output pixel: a float16 sum would stop at 2048.
    x, kernel = jnp.ones((4, 4, 256), dtype), jnp.ones((3, 3, 256, 2), dtype)
    for out in (
        ops.conv(x, kernel),
        ops.conv3d(x[None], kernel[None])[0],
        ops.conv_transpose(x, kernel.swapaxes(0, 1), strides=1, padding=2),
    ):
        assert out.dtype == dtype
        np.testing.assert_array_equal(out.astype(jnp.float32), 2304)
    gradients = jax.grad(lambda x, k: ops.conv(x, k).sum(), (0, 1))(x, kernel)
    assert [g.dtype for g in gradients] == [dtype, dtype]


HALF = {
    "conv": (ops.conv, (2, 8, 9, 16), (3, 3, 16, 8), {"padding": 1}),
    "pointwise": (ops.conv, (2, 8, 9, 16), (1, 1, 16, 8), {}),
    "strided": (ops.conv, (2, 8, 9, 16), (3, 3, 16, 8), {"strides": 2, "padding": 1}),
    "grouped": (ops.conv, (2, 8, 9, 16), (3, 3, 4, 8), {"groups": 4}),
    "depthwise": (ops.conv, (2, 8, 9, 16), (3, 3, 1, 16), {"groups": 16}),
    "transposed": (ops.conv_transpose, (2, 4, 5, 16), (4, 4, 16, 8), {"padding": 1}),
    "transposed, grouped": (
        ops.conv_transpose,
        (2, 4, 5, 16),
        (4, 4, 16, 2),
        {"padding": 1, "groups": 4},
    ),
    "conv3d": (ops.conv3d, (1, 4, 6, 7, 8), (3, 3, 3, 8, 4), {"padding": 1}),
    "conv3d, depthwise": (
        ops.conv3d,
        (1, 4, 6, 7, 8),
        (3, 3, 3, 1, 8),
        {"padding": 1, "groups": 8},
    ),
    "large": (ops.conv, (1, 48, 48, 96), (3, 3, 96, 96), {"padding": 1}),
}


@pytest.mark.parametrize(
    "dtype", [jnp.bfloat16, pytest.param(jnp.float16, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("case", HALF)
def test_gradients_in_half_precision_are_those_in_single(rng, case, dtype):
    function, shape, window, settings = HALF[case]
    inputs = [a.astype(dtype) for a in (normal(rng, *shape), normal(rng, *window))]

    @jax.jit
    def gradients(x, kernel, cotangent):
        y, pull = jax.vjp(lambda x, k: function(x, k, **settings), x, kernel)
        return y, *pull(cotangent.astype(y.dtype))

    struct = jax.eval_shape(lambda x, k: function(x, k, **settings), *inputs)
    cotangent = normal(rng, *struct.shape).astype(dtype).astype(jnp.float32)
    single = gradients(*(a.astype(jnp.float32) for a in inputs), cotangent)
    for half, expected in zip(gradients(*inputs, cotangent), single, strict=True):
        assert half.dtype == dtype
        # The sums are in single precision, and only the result is rounded: half an ulp.
        np.testing.assert_allclose(
            np.asarray(half, np.float32),
            expected,
            rtol=float(jnp.finfo(dtype).eps),
            atol=1e-5 * float(jnp.abs(expected).max()),
        )


def test_transposed_convolution_reproduces_torch(test_data):
    golden = np.load(test_data / "golden" / "flow" / "ops.npz")
    x = jnp.asarray(np.moveaxis(golden["deconv_x"], 1, -1))

    def up(weight, **settings):
        y = ops.conv_transpose(x, weight.transpose(2, 3, 0, 1), padding=1, **settings)
        return np.moveaxis(y, -1, 1)

    whole = up(golden["deconv_w"]) + golden["deconv_b"][None, :, None, None]
    # 80 products of order 1 in float32.
    np.testing.assert_allclose(whole, golden["deconv_k4s2p1"], atol=1e-5)
    grouped = up(golden["deconv_grouped_w"], groups=5)
    np.testing.assert_allclose(grouped, golden["deconv_grouped_k4s2p1"], atol=1e-5)


TRANSPOSED = {
    "doubling": ((4, 4), {"padding": 1}),
    "plain": ((3, 2), {"strides": (3, 1)}),
    "one side": ((4, 4), {"padding": ((1, 0), (2, 1))}),
    "grouped": ((4, 4), {"padding": 1, "groups": 2}),
    "depthwise": ((4, 4), {"padding": 1, "groups": 4}),
}


@pytest.mark.parametrize("case", TRANSPOSED)
def test_transposed_convolution_is_the_transpose_of_a_convolution(rng, case):
    window, settings = TRANSPOSED[case]
    groups = settings.get("groups", 1)
    x = normal(rng, 2, 3, 5, 4)
    kernel = normal(rng, *window, 4, 6 if groups < 4 else 1)

    def up(x, kernel):
        return ops.conv_transpose(x, kernel, **settings)

    strides = module.per_axis(settings.get("strides", 2), 2)
    sides = module.per_side(settings.get("padding", 0), 2)
    y = normal(rng, *up(x, kernel).shape)
    down = numpy_conv(y, kernel.swapaxes(2, 3), strides, sides, (1, 1), groups)
    np.testing.assert_allclose(
        jnp.vdot(up(x, kernel), y), np.vdot(x, down), rtol=1e-4, atol=1e-3
    )
    assert_gradients_are_adjoint(up, rng, x, kernel)


def test_an_impulse_stamps_the_kernel_unflipped(rng):
    kernel = normal(rng, 3, 3, 1, 1)
    impulse = jnp.zeros((2, 2, 1)).at[1, 0].set(1)
    out = ops.conv_transpose(impulse, kernel, strides=3)
    np.testing.assert_array_equal(out[3:, :3], kernel[..., 0])
    assert jnp.count_nonzero(out) == 9


def test_rejects_settings_that_do_not_fit():
    x, kernel = jnp.ones((5, 5, 2)), jnp.ones((3, 3, 2, 2))
    with pytest.raises(ValueError, match=r"2, one for each axis; got \(1, 1, 1\)"):
        ops.conv(x, kernel, strides=(1, 1, 1))
    with pytest.raises(ValueError, match=r"`padding` must .* 2 entries; got \(1,\)"):
        ops.conv(x, kernel, padding=(1,))
    with pytest.raises(ValueError):
        ops.conv(x, kernel[:, :, :1])
    with pytest.raises(ValueError):
        ops.conv_transpose(x, kernel[:, :, :1])
    with pytest.raises(ValueError):
        ops.conv3d(x[None], kernel)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strides": (1, 0)}, "`strides` must be at least 1; got 0"),
        ({"dilation": 0}, "`dilation` must be at least 1; got 0"),
        ({"groups": 0}, "`groups` must be at least 1; got 0"),
        ({"padding": ((0, -1), (0, 0))}, "`padding` must be at least 0; got -1"),
        (
            {"padding": (0, 1), "dilation": (3, 2)},
            r"smaller than the window \(7, 5\): it has the size \(5, 5\), with its "
            r"padding \(5, 7\)",
        ),
    ],
)
def test_numbers_that_leave_no_window_are_one_line(settings, message):
    channels = 2 * settings.get("groups", 1)
    with pytest.raises(ValueError, match=message):
        ops.conv(jnp.ones((5, 5, channels)), jnp.ones((3, 3, 2, 2)), **settings)


def test_a_clip_without_frames_is_one_line():
    clip, kernel = jnp.ones((0, 5, 5, 2)), jnp.ones((3, 3, 3, 2, 2))
    with pytest.raises(ValueError, match=r"with its padding \(2, 7, 7\)"):
        ops.conv3d(clip, kernel, padding=1)
    with pytest.raises(ValueError, match=r"cuts everything off.*size \(-1, 2\)"):
        ops.conv_transpose(clip[:, :1, :4], kernel[0], strides=1, padding=(2, 2))


@pytest.mark.parametrize(
    ("batch", "channels", "window", "groups"),
    [
        ((0,), 4, (3, 3), 1),
        ((2, 0), 4, (3, 3, 3), 1),
        ((0, 3), 4, (3, 1, 1), 2),
        ((2,), 0, (3, 3), 1),
        ((2,), 0, (3, 3, 3), 1),
        ((), 0, (1, 1), 1),
    ],
    ids=str,
)
def test_sums_of_nothing_are_zeros_with_zero_slopes(batch, channels, window, groups):
    x = jnp.ones((*batch, *[6] * len(window), channels))
    kernel = jnp.ones((*window, channels // groups, 8))
    function = ops.conv if len(window) == 2 else ops.conv3d

    def total(x, kernel):
        return function(x, kernel, groups=groups).sum()

    found = function(x, kernel, groups=groups)
    assert found.shape == (*batch, *[7 - taps for taps in window], 8)
    assert not np.asarray(found).any()
    slopes = jax.grad(total, (0, 1))(x, kernel)
    for slope, like in zip(slopes, (x, kernel), strict=True):
        assert slope.shape == like.shape and not np.asarray(slope).any()


DERIVED = [
    *CASES,
    pytest.param((3, 3), {"padding": 1, "sizes": (48, 48, 96)}, id="2d large"),
    pytest.param((3, 3, 3), {"padding": 1, "sizes": (3, 48, 48, 96)}, id="3d large"),
]


def assert_derivatives_agree(function, rng, *inputs):
    """Compares forward and reverse mode, of first and second order, to 1e-5."""
    directions = [normal(rng, *x.shape) for x in inputs]
    scale = 1 / float(np.sqrt(np.prod(inputs[1].shape[:-1])))

    def loss(*inputs):
        return jnp.mean(jnp.sin(scale * function(*inputs)))

    gradient = jax.grad(loss, argnums=(0, 1))

    def along(slopes):
        return sum(jnp.vdot(s, d) for s, d in zip(slopes, directions, strict=True))

    @jax.jit
    def both(*inputs):
        _, forward = jax.jvp(loss, inputs, tuple(directions))
        _, linear = jax.linearize(loss, *inputs)
        _, curved = jax.jvp(gradient, inputs, tuple(directions))
        reverse = jax.grad(lambda *x: along(gradient(*x)), argnums=(0, 1))(*inputs)
        slopes = gradient(*inputs)
        # How large a slope along a random direction usually is.
        usual = jnp.sqrt(sum(jnp.vdot(slope, slope) for slope in slopes))
        usual = 3 * usual  # a sum of a million numbers, rounded
        return (
            (forward, linear(*directions), *curved),
            (along(slopes), along(slopes), *reverse),
            (usual, usual, *(jnp.abs(x).max() for x in reverse)),
        )

    for actual, expected, reach in zip(*both(*inputs), strict=True):
        assert np.isfinite(actual).all()
        reach = max(float(reach), 1e-3)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * reach)


@pytest.mark.parametrize(
    ("window", "settings"),
    [
        # The compiler takes ten seconds for it.
        pytest.param(*case.values, id=case.id, marks=pytest.mark.slow)
        if case.id == "3d depthwise"
        else case
        for case in DERIVED
    ],
)
def test_forward_mode_and_second_derivatives_are_those_of_reverse_mode(
    rng, window, settings
):
    settings = dict(settings)
    sizes = settings.pop("sizes", None)
    function, x, kernel, _ = example(rng, window, settings)
    if sizes:
        x, kernel = normal(rng, 1, *sizes), normal(rng, *window, 96, 96)
    assert_derivatives_agree(function, rng, x, kernel)


@pytest.mark.parametrize("case", TRANSPOSED)
def test_transposed_convolution_has_all_derivatives(rng, case):
    window, settings = TRANSPOSED[case]
    groups = settings.get("groups", 1)
    kernel = normal(rng, *window, 4, 6 if groups < 4 else 1)

    def up(x, kernel):
        return ops.conv_transpose(x, kernel, **settings)

    assert_derivatives_agree(up, rng, normal(rng, 2, 3, 5, 4), kernel)


@pytest.mark.parametrize("axes", [2, 3])
def test_second_derivatives_are_those_of_a_quadratic(rng, axes):
    function, x, kernel, _ = example(rng, (3, 3, 3)[:axes], {"padding": 1})

    def loss(kernel):
        return (function(x, kernel) ** 2).sum() / 2

    direction = normal(rng, *kernel.shape)
    # The Hessian times d is K^T K d.
    product = jax.jit(jax.grad(lambda k: jnp.vdot(jax.grad(loss)(k), direction)))
    along = jax.jit(function)(x, direction)
    np.testing.assert_allclose(
        np.vdot(product(kernel), direction), np.vdot(along, along), rtol=1e-5
    )


def test_derivatives_are_those_of_differences(rng, double):
    x, kernel = (jnp.asarray(rng.normal(size=s)) for s in ((1, 5, 7, 4), (3, 3, 2, 4)))

    def loss(x, kernel):
        return jnp.sum(jnp.sin(ops.conv(x, kernel, strides=2, padding=1, groups=2)))

    jax.test_util.check_grads(jax.jit(loss), (x, kernel), order=2)


@pytest.mark.parametrize("function", [ops.conv, ops.conv3d])
def test_gradients_of_examples_are_those_of_each_alone(rng, function):
    axes = 2 if function is ops.conv else 3
    x, kernel = normal(rng, 3, *(4, 5, 6)[-axes:], 4), normal(rng, *[3] * axes, 4, 2)

    def loss(kernel, x):
        return (function(x, kernel) ** 2).sum()

    gradient = jax.jit(jax.grad(loss))
    each = jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(kernel, x)
    kernels = jnp.stack([kernel, 2 * kernel, -kernel])
    other = jax.jit(jax.vmap(jax.grad(loss)))(kernels, x)
    for k in range(3):
        np.testing.assert_allclose(
            each[k], gradient(kernel, x[k]), rtol=1e-4, atol=1e-3
        )
        np.testing.assert_allclose(
            other[k], gradient(kernels[k], x[k]), rtol=1e-4, atol=1e-3
        )


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("case", HALF)
def test_the_backward_pass_of_accelerators_stays_in_half_precision(case, platform):
    function, shape, window, settings = HALF[case]
    structs = [jax.ShapeDtypeStruct(s, jnp.bfloat16) for s in (shape, window)]

    def loss(x, kernel):
        return function(x, kernel, **settings).astype(jnp.float32).sum()

    gradient = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
    text = export.export(gradient, platforms=[platform])(*structs).mlir_module()
    found = [line for line in text.splitlines() if "stablehlo.convolution" in line]
    assert len(found) == 3
    assert not any("f32" in line for line in found)


def test_the_precision_of_products_is_that_of_where_it_is_called():
    def convolve(x, kernel):
        with jax.default_matmul_precision("tensorfloat32"):
            return ops.conv(x, kernel)

    structs = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((5, 5, 2), (3, 3, 2, 2))]
    text = export.export(jax.jit(convolve), platforms=["tpu"])(*structs).mlir_module()
    assert re.findall(r"\bHIGH\w*", text) == ["HIGH", "HIGH"]


def test_numpy_numbers_are_numbers(rng):
    x, kernel = normal(rng, 5, 5, 2), normal(rng, 3, 3, 1, 2)
    expected = ops.conv(x, kernel, strides=2, padding=1, groups=2)
    for padding in (np.int64(1), np.array([1, 1]), ((1, np.int8(1)), np.int64(1))):
        actual = ops.conv(
            x, kernel, strides=np.int64(2), padding=padding, groups=np.int64(2)
        )
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize(
    "padding",
    [1.5, "SAME", ((1,), (1,)), ((1, 1, 5), (1, 1, 7)), (0.5, 1), ((1, 1.5), 1), None],
    ids=str,
)
def test_padding_that_is_no_padding_is_one_line(padding):
    x, kernel = jnp.ones((5, 5, 2)), jnp.ones((3, 3, 2, 2))
    for convolve in (ops.conv, ops.conv_transpose):
        with pytest.raises(ValueError, match=r"`padding` must be a whole number.*got"):
            convolve(x, kernel, padding=padding)


@pytest.mark.parametrize("name", ["strides", "dilation", "groups"])
def test_a_number_that_is_not_whole_is_one_line(name):
    x, kernel = jnp.ones((5, 5, 2)), jnp.ones((3, 3, 2, 2))
    with pytest.raises(ValueError, match=rf"`{name}` must be a whole.*got 1\.5"):
        ops.conv(x, kernel, **{name: 1.5})


def test_channels_that_are_no_groups_are_one_line():
    kernel = jnp.ones((3, 3, 3, 3))
    with pytest.raises(ValueError, match=r"`groups` must divide .*of `x`, 3; got 2"):
        ops.conv_transpose(jnp.ones((5, 5, 3)), kernel, groups=2)
    with pytest.raises(ValueError, match=r"divide .*outputs of `kernel`, 3; got 2"):
        ops.conv(jnp.ones((5, 5, 6)), kernel, groups=2)
