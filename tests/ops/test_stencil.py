"""Tests for jaxflow.ops.stencil."""

import cv2
import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest
import scipy.ndimage
import skimage.feature

from jaxflow import ops

spatial_gradient = jax.jit(ops.spatial_gradient, static_argnames=("kernel", "border"))
divergence = jax.jit(ops.divergence)
laplacian = jax.jit(ops.laplacian, static_argnames=("kernel", "border"))
structure_tensor = jax.jit(
    ops.structure_tensor, static_argnames=("sigma", "window", "kernel", "border")
)

CV2_BORDER = {
    "edge": cv2.BORDER_REPLICATE,
    "reflect": cv2.BORDER_REFLECT_101,
    "symmetric": cv2.BORDER_REFLECT,
    "zeros": cv2.BORDER_CONSTANT,
}
SCIPY_MODE = {
    "edge": "nearest",
    "reflect": "mirror",
    "symmetric": "reflect",
    "zeros": "constant",
}
KERNELS = ("central", "sobel", "scharr", "five_point", "forward", "backward")


@pytest.fixture
def image(rng):
    return rng.random((13, 17, 3), dtype=np.float32)


@pytest.mark.parametrize("border", CV2_BORDER)
def test_sobel_and_scharr_are_opencvs_per_pixel(border, image):
    flag = CV2_BORDER[border]
    for kernel, function, scale in (
        ("sobel", cv2.Sobel, 8),
        ("scharr", cv2.Scharr, 32),
    ):
        found = spatial_gradient(image, kernel=kernel, border=border)
        for one, order in zip(found, ((1, 0), (0, 1)), strict=True):
            expected = function(image, cv2.CV_32F, *order, borderType=flag) / scale
            np.testing.assert_allclose(one, expected, atol=1e-6)


@pytest.mark.parametrize("border", SCIPY_MODE)
@pytest.mark.parametrize("sides", [(1, 5), (3, 3), (7, 5)], ids=str)
def test_separable_filters_are_scipys_correlations(sides, border, image, rng):
    kernels = [rng.normal(size=side) for side in sides]
    expected = image.astype(np.float64)
    for axis, kernel in enumerate(kernels):
        expected = scipy.ndimage.correlate1d(
            expected, kernel, axis=axis, mode=SCIPY_MODE[border]
        )
    found = ops.separable_filter(jnp.asarray(image), *kernels, border=border)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_kernel_is_exact_on_a_linear_image(kernel):
    grid = ops.pixel_grid(9, 8)
    image = (2 * grid[..., :1] - 3 * grid[..., 1:]) / 8
    along_x, along_y = spatial_gradient(image, kernel=kernel)
    inner = np.s_[2:-2, 2:-2]
    np.testing.assert_allclose(along_x[inner], 2 / 8, rtol=1e-5)
    np.testing.assert_allclose(along_y[inner], -3 / 8, rtol=1e-5)


@pytest.mark.parametrize(
    "kernel, order", [("forward", 1), ("central", 2), ("scharr", 2), ("five_point", 4)]
)
def test_kernels_have_their_order_of_accuracy(kernel, order, double):
    errors = []
    for step in (0.2, 0.1):
        x = 0.7 + step * np.arange(-4, 5)
        image = jnp.asarray(np.sin(x))[None, :, None]
        found = ops.spatial_gradient(image, kernel=kernel)[0][0, 4, 0] / step
        errors.append(abs(float(found) - np.cos(0.7)))
    assert abs(np.log2(errors[0] / errors[1]) - order) < 0.15


def test_one_sided_differences_vanish_at_their_edge(image):
    forward = spatial_gradient(image, kernel="forward")
    backward = spatial_gradient(image, kernel="backward")
    assert (forward[0][:, -1] == 0).all() and (forward[1][-1] == 0).all()
    assert (backward[0][:, 0] == 0).all() and (backward[1][0] == 0).all()
    np.testing.assert_array_equal(forward[0][:, :-1], backward[0][:, 1:])
    np.testing.assert_array_equal(forward[1][:-1], image[1:] - image[:-1])


@pytest.mark.parametrize("size", [(6, 7), (1, 5), (4, 1)], ids=str)
def test_divergence_is_minus_the_adjoint_of_the_forward_gradient(size, rng):
    image, px, py = rng.normal(size=(3, *size, 2)).astype(np.float32)
    along_x, along_y = spatial_gradient(image, kernel="forward")
    left = np.vdot(along_x, px) + np.vdot(along_y, py)
    right = -np.vdot(image, divergence(px, py))
    np.testing.assert_allclose(left, right, atol=1e-4)


@pytest.mark.parametrize("border", CV2_BORDER)
def test_cross_laplacian_is_opencvs(border, image):
    expected = cv2.Laplacian(image, cv2.CV_32F, borderType=CV2_BORDER[border])
    np.testing.assert_allclose(laplacian(image, border=border), expected, atol=2e-6)


def test_horn_schunck_laplacian_is_three_times_the_mean_minus_the_pixel(image):
    mean = np.array([[1, 2, 1], [2, 0, 2], [1, 2, 1]]) / 12
    expected = 3 * (
        scipy.ndimage.correlate(image, mean[..., None], mode="nearest") - image
    )
    found = laplacian(image, kernel="horn_schunck")
    np.testing.assert_allclose(found, expected, atol=5e-6)


@pytest.mark.parametrize("kernel", ["cross", "horn_schunck"])
def test_laplacians_are_exact_on_quadratics(kernel):
    x, y = np.moveaxis(np.asarray(ops.pixel_grid(8, 8)), -1, 0)
    image = (x**2 - 3 * y**2 + x * y + 2 * x)[..., None]
    found = laplacian(image, kernel=kernel)[1:-1, 1:-1]
    np.testing.assert_allclose(found, -4, atol=1e-4)


def test_structure_tensor_is_skimages(image):
    gray = image[..., 0]
    # skimage differentiates with Sobel, without the factor 1/8 per derivative.
    rr, rc, cc = skimage.feature.structure_tensor(
        gray, sigma=1.5, mode="nearest", order="rc"
    )
    found = structure_tensor(gray[..., None], sigma=1.5, kernel="sobel")
    expected = np.stack([cc, rc, rr], axis=-1)
    scale = np.median(expected[..., 0]) / np.median(found[..., 0])
    np.testing.assert_allclose(found * scale, expected, atol=1e-4 * expected.max())


def test_structure_tensor_sums_channels_and_averages_a_box(image):
    along_x, along_y = map(np.asarray, spatial_gradient(image))
    for c, product in enumerate((along_x**2, along_x * along_y, along_y**2)):
        expected = scipy.ndimage.uniform_filter(product.sum(-1), 5, mode="nearest")
        found = structure_tensor(image, window=5)[..., c]
        np.testing.assert_allclose(found, expected, atol=1e-6)
    wide = np.concatenate([image] * 4, axis=-1)
    np.testing.assert_allclose(
        structure_tensor(wide), 4 * structure_tensor(image), rtol=1e-4, atol=1e-5
    )


def test_gaussian_kernels_agree_for_traced_and_plain_widths():
    plain = ops.gaussian_kernel(1.3, radius=4)
    traced = ops.gaussian_kernel(jnp.float32(1.3), radius=4)
    np.testing.assert_allclose(plain.sum(), 1)
    np.testing.assert_allclose(traced, plain, atol=1e-7)
    np.testing.assert_allclose(plain, cv2.getGaussianKernel(9, 1.3)[:, 0], atol=1e-12)


@pytest.mark.parametrize("border", CV2_BORDER)
def test_gradient_of_a_filter_is_its_adjoint(border, rng):
    image, other = rng.normal(size=(2, 6, 5, 2)).astype(np.float32)
    kernels = rng.normal(size=5), rng.normal(size=3)

    def smooth(x):
        return ops.separable_filter(x, *kernels, border=border)

    @jax.jit
    def products(image, other):
        out, pull = jax.vjp(smooth, image)
        tangent = jax.jvp(smooth, (image,), (image,))[1]
        return jnp.vdot(out, other), jnp.vdot(image, pull(other)[0]), tangent - out

    forward, backward, difference = products(image, other)
    np.testing.assert_allclose(forward, backward, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(difference, 0, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_sums_in_float32(dtype, image):
    narrow = jnp.asarray(image, dtype)
    wide = narrow.astype(jnp.float32)
    box = np.full(9, 1 / 9)
    found = ops.separable_filter(narrow, box, box)
    assert found.dtype == dtype
    np.testing.assert_array_equal(
        found, ops.separable_filter(wide, box, box).astype(dtype)
    )
    for out in (*spatial_gradient(narrow), laplacian(narrow), structure_tensor(narrow)):
        assert out.dtype == dtype


def test_a_nan_spoils_its_window():
    image = jnp.ones((9, 9, 1)).at[4, 4].set(jnp.nan)
    spoilt = np.isnan(spatial_gradient(image)[0][..., 0])
    # The central difference leaves the middle out.
    assert np.argwhere(spoilt).tolist() == [[4, 3], [4, 5]]


def test_rejects_what_it_cannot_do(image):
    image = jnp.asarray(image)
    with pytest.raises(ValueError, match="border"):
        ops.separable_filter(image, [1.0], [1.0], border="wrap")
    with pytest.raises(ValueError, match="odd"):
        ops.separable_filter(image, [1.0, 1.0], [1.0])
    with pytest.raises(ValueError, match="kernel"):
        ops.spatial_gradient(image, kernel="prewitt")
    with pytest.raises(ValueError, match="kernel"):
        ops.laplacian(image, kernel="square")
    with pytest.raises(ValueError, match="sigma"):
        ops.structure_tensor(image, sigma=0.0)
    with pytest.raises(ValueError):
        ops.divergence(image, image[1:])
    with pytest.raises(ValueError):
        ops.spatial_gradient(image.astype(jnp.int32))
