"""Tests for jaxflow.ops.conv."""

import importlib
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
        module._each(settings.get("strides", 1), axes),
        module._sides(settings.get("padding", 0), axes),
        module._each(settings.get("dilation", 1), axes),
        groups,
    )
    return lambda x, k: function(x, k, **settings), x, kernel, spelled


@pytest.fixture
def scan_everything(monkeypatch):
    """Lets small arrays take the path that is meant for large ones."""
    monkeypatch.setattr(module, "_LEAST_CHANNELS", 1)
    monkeypatch.setattr(module, "_LEAST_PIXELS", 1)
    monkeypatch.setattr(module, "_BLOCK_PIXELS", 20)


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


@pytest.mark.parametrize("case", ["plain", "same", "one side", "dilated"], ids=str)
def test_scanned_gradient_is_adjoint_to_the_convolution(rng, scan_everything, case):
    function, x, kernel, spelled = example(rng, *CASES_2D[case])
    assert "_conv_scanned" in str(jax.make_jaxpr(function)(x, kernel))
    assert_gradients_are_adjoint(function, rng, x, kernel)
    np.testing.assert_allclose(
        function(x, kernel), numpy_conv(x, kernel, *spelled), atol=2e-5
    )


def test_scanned_gradient_is_xlas_at_full_size(rng):
    x, kernel = normal(rng, 2, 37, 61, 64), normal(rng, 3, 3, 64, 128)

    def loss(conv):
        return lambda k: (conv(x, k) ** 2).sum()

    def direct(x, k):
        return module._conv_direct(x, k, (1, 1), ((2, 2), (2, 2)), (2, 2), 1)

    def ours(x, k):
        return ops.conv(x, k, padding=2, dilation=2)

    assert "_conv_scanned" in str(jax.make_jaxpr(ours)(x, kernel))
    actual, expected = (jax.jit(jax.grad(loss(f)))(kernel) for f in (ours, direct))
    # 4514 products each, in another order.
    np.testing.assert_allclose(actual, expected, atol=1e-5 * jnp.abs(expected).max())


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


def test_maps_over_kernels(rng, scan_everything):
    x, kernels = normal(rng, 5, 6, 4), normal(rng, 3, 3, 3, 4, 2)
    mapped = jax.vmap(lambda k: jax.grad(lambda k: (ops.conv(x, k) ** 2).sum())(k))
    one = jax.grad(lambda k: (ops.conv(x, k) ** 2).sum())(kernels[1])
    np.testing.assert_allclose(mapped(kernels)[1], one, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("axes", [2, 3])
def test_has_second_derivatives(rng, scan_everything, axes):
    function, x, kernel, _ = example(rng, (3, 3, 3)[:axes], {"padding": 1})

    def loss(kernel):
        return (function(x, kernel) ** 2).sum() / 2

    direction = normal(rng, *kernel.shape)
    # The loss is quadratic: the Hessian times d is K^T K d.
    product = jax.jit(jax.grad(lambda k: jnp.vdot(jax.grad(loss)(k), direction)))
    along = jax.jit(function)(x, direction)
    np.testing.assert_allclose(
        np.vdot(product(kernel), direction), np.vdot(along, along), rtol=1e-5
    )


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


@pytest.mark.parametrize("window", [(1, 1), (3, 3)], ids=str)
def test_scanned_gradient_works_in_half_precision(rng, scan_everything, window):
    x, kernel = normal(rng, 1, 9, 9, 8), normal(rng, *window, 8, 8)

    def gradient(dtype):
        def loss(k):
            return ops.conv(x.astype(dtype), k, padding=1).astype(jnp.float32).sum()

        return jax.grad(loss)(kernel.astype(dtype))

    actual = gradient(jnp.bfloat16)
    assert actual.dtype == jnp.bfloat16
    # Each of 81 terms has 8 bits.
    np.testing.assert_allclose(
        actual.astype(jnp.float32), gradient(jnp.float32), atol=0.2, rtol=0.02
    )


def test_the_forms_of_a_3d_convolution_agree(rng):
    x, kernel = normal(rng, 2, 6, 7, 8, 4), normal(rng, 3, 3, 3, 4, 6)
    settings = {"strides": (2, 1, 2), "sides": ((1, 1),) * 3, "dilation": (1, 1, 1)}
    for form in (module._conv3d_of_frames, module._conv3d_direct):
        np.testing.assert_allclose(
            form(x, kernel, groups=1, **settings),
            numpy_conv(x, kernel, *settings.values(), 1),
            atol=2e-5,
        )


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


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
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

    whole = up(golden["deconv_w"]) + golden["deconv_b"][:, None, None]
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

    strides = module._each(settings.get("strides", 2), 2)
    sides = module._sides(settings.get("padding", 0), 2)
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


POOLS = {
    "2d": ((2, 2), {}),
    "2d overlapping": ((3, 3), {"strides": 2, "padding": 1}),
    "2d, one side": ((3, 2), {"strides": (2, 1), "padding": ((0, 1), (1, 0))}),
    "3d in space": ((1, 3, 3), {"strides": (1, 2, 2), "padding": (0, 1, 1)}),
    "3d": ((2, 2, 2), {}),
    "2d, wide": ((1, 18), {"strides": (1, 2), "padding": (0, 6)}),
    "3d, like TensorFlow's SAME": (
        (3, 3, 3),
        {"strides": (2, 2, 2), "padding": ((1, 1), (0, 1), (0, 1))},
    ),
}


def pools(x, window, settings):
    """The largest of each window, its mean, and its mean without the margin."""

    @jax.jit
    def pool(x):
        return (
            ops.max_pool(x, window, **settings),
            ops.avg_pool(x, window, **settings),
            ops.avg_pool(x, window, count_include_pad=False, **settings),
        )

    return pool(x)


@pytest.mark.parametrize("case", POOLS)
def test_pooling_is_its_definition(rng, case):
    window, settings = POOLS[case]
    axes = len(window)
    x = normal(rng, 2, *(5, 8, 7)[-axes:], 3)
    strides = module._each(settings.get("strides", window), axes)
    sides = module._sides(settings.get("padding", 0), axes)
    inner = tuple(range(-axes, 0))

    def windows(x, fill):
        return windows_of(x, window, strides, sides, (1,) * axes, fill)

    largest, mean, mean_inside = pools(x, window, settings)
    np.testing.assert_array_equal(largest, windows(x, -np.inf).max(inner))
    np.testing.assert_allclose(mean, windows(x, 0).mean(inner), atol=1e-6)
    inside = windows(np.ones(x.shape), 0).sum(inner)
    np.testing.assert_allclose(
        mean_inside, windows(x, 0).sum(inner) / inside, atol=1e-6
    )


def torch_ceil_pool(row, size, step, margin, reduce):
    """Windows of a row in ceil mode, as torch documents them: a plain loop."""
    count = -(-(len(row) + 2 * margin - size) // step) + 1
    if (count - 1) * step >= len(row) + margin:
        count -= 1
    starts = [i * step - margin for i in range(count)]
    return [reduce(row, start, start + size) for start in starts]


@pytest.mark.parametrize(
    ("length", "size", "step", "margin"),
    [
        each
        for each in itertools.product((5, 6, 7), (2, 3), (1, 2, 3), (0, 1))
        if each[3] <= each[1] // 2
    ],
)
def test_ceil_mode_keeps_partial_windows(length, size, step, margin):
    row = np.arange(1.0, length + 1)
    x = jnp.asarray(row, jnp.float32)[None, :, None]
    settings = {
        "strides": (1, step),
        "padding": (0, margin),
        "ceil_mode": True,
    }

    def largest(row, start, stop):
        return row[max(start, 0) : stop].max()

    def mean(row, start, stop):
        # Zeros of the margin count, what lies beyond it does not.
        covered = min(stop, len(row) + margin) - start
        return row[max(start, 0) : stop].sum() / covered

    def mean_inside(row, start, stop):
        return row[max(start, 0) : stop].mean()

    found = pools(x, (1, size), settings)
    for actual, reduce in zip(found, (largest, mean, mean_inside), strict=True):
        expected = torch_ceil_pool(row, size, step, margin, reduce)
        np.testing.assert_allclose(actual[0, :, 0], expected, rtol=1e-6)


def test_the_gradient_of_a_maximum_goes_to_the_first_of_equals():
    x = jnp.zeros((2, 4, 4, 1))
    slope = jax.grad(lambda x: ops.max_pool(x, (2, 2, 2)).sum())(x)
    expected = np.zeros((2, 4, 4, 1))
    expected[0, ::2, ::2] = 1
    np.testing.assert_array_equal(slope, expected)


@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_a_nan_wins_its_windows_and_no_others(at):
    x = jnp.arange(8.0).reshape(1, 8, 1).at[0, at].set(jnp.nan)
    pooled = ops.max_pool(x, (1, 2))[0, :, 0]
    np.testing.assert_array_equal(jnp.isnan(pooled), np.arange(4) == at // 2)


def test_pools_integers_and_half_precision():
    bytes_ = jnp.arange(16, dtype=jnp.uint8).reshape(4, 4, 1)
    pooled = ops.max_pool(bytes_, 2, padding=1)
    np.testing.assert_array_equal(
        pooled[..., 0], [[0, 2, 3], [8, 10, 11], [12, 14, 15]]
    )
    assert pooled.dtype == jnp.uint8
    ones = jnp.ones((1, 4096, 1), jnp.float16)
    mean = ops.avg_pool(ones, (1, 4096))
    assert mean.dtype == jnp.float16
    assert mean == 1


def test_rejects_settings_that_do_not_fit():
    x, kernel = jnp.ones((5, 5, 2)), jnp.ones((3, 3, 2, 2))
    with pytest.raises(ValueError, match=r"2, one for each axis; got \(1, 1, 1\)"):
        ops.conv(x, kernel, strides=(1, 1, 1))
    with pytest.raises(ValueError, match=r"`padding` must .* 2 entries; got \(1,\)"):
        ops.conv(x, kernel, padding=(1,))
    with pytest.raises(AssertionError):
        ops.conv(x, kernel[:, :, :1])
    with pytest.raises(AssertionError):
        ops.conv_transpose(x, kernel[:, :, :1])
    with pytest.raises(AssertionError):
        ops.conv3d(x[None], kernel)
