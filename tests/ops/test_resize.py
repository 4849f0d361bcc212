"""Tests for jaxflow.ops.resize."""

import cv2
import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import PIL.Image
import pytest

from jaxflow import ops

OPTIONS = ("size", "method", "align_corners", "antialias")
resize = jax.jit(ops.resize, static_argnames=OPTIONS)
resize_flow = jax.jit(ops.resize_flow, static_argnames=OPTIONS)
resize_opencv_uint8 = jax.jit(ops.resize_opencv_uint8, static_argnames="size")
convex_upsample = jax.jit(ops.convex_upsample, static_argnames="factor")

SIZES = {"up": (9, 13), "down": (3, 4), "x2": (8, 12), "x4": (16, 24)}


@pytest.fixture(scope="module")
def golden(test_data):
    return np.load(test_data / "golden/flow/ops.npz")


def channels_last(array):
    return jnp.asarray(np.moveaxis(array, 1, -1))


@pytest.mark.parametrize("corners", ["align", "halfpixel"])
@pytest.mark.parametrize("name", SIZES)
def test_bilinear_is_torchs(name, corners, golden):
    image = channels_last(golden["resize_x"])
    found = resize(image, SIZES[name], align_corners=corners == "align")
    expected = channels_last(golden[f"resize_bilinear_{name}_{corners}"])
    # Torch's weights are float32; ours are rounded from float64.
    np.testing.assert_allclose(found, expected, atol=2e-6, rtol=0)


def test_nearest_is_torchs(golden):
    found = resize(channels_last(golden["resize_x"]), (16, 24), method="nearest")
    np.testing.assert_array_equal(found, channels_last(golden["resize_nearest_x4"]))


def test_nearest_keeps_labels(rng):
    labels = jnp.asarray(rng.integers(0, 9, (2, 7, 6, 1)), jnp.int32)
    found = resize(labels, (3, 11), method="nearest")
    rows, columns = np.arange(3) * 7 // 3, np.arange(11) * 6 // 11
    np.testing.assert_array_equal(found, labels[:, rows][:, :, columns])


@pytest.mark.parametrize("size", [(31, 17), (5, 9), (20, 40), (1, 1)], ids=str)
@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
def test_half_pixel_grids_are_opencvs(method, size, rng):
    image = rng.random((13, 20, 3), dtype=np.float32)
    flag = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}[method]
    expected = cv2.resize(image, size[::-1], interpolation=flag)
    found = resize(jnp.asarray(image), size, method=method)
    # OpenCV computes positions in float32: 20 pixels are 2e-6 fine.
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(6, 40), (3, 2), (40, 50)], ids=str)
@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
def test_antialiasing_is_pillows(method, size, rng):
    image = rng.random((33, 47), dtype=np.float32)
    flag = {
        "bilinear": PIL.Image.Resampling.BILINEAR,
        "bicubic": PIL.Image.Resampling.BICUBIC,
    }[method]
    expected = np.asarray(PIL.Image.fromarray(image).resize(size[::-1], flag))
    found = resize(jnp.asarray(image)[..., None], size, method=method, antialias=True)
    np.testing.assert_allclose(found[..., 0], expected, atol=1e-6, rtol=0)


def test_aligned_corners_keep_their_values(rng):
    image = jnp.asarray(rng.normal(size=(4, 5, 2)), jnp.float32)
    found = resize(image, (11, 9), align_corners=True)
    corners = np.ix_([0, -1], [0, -1])
    np.testing.assert_allclose(found[corners], image[corners], atol=1e-6)
    assert resize(image, (1, 1), align_corners=True).shape == (1, 1, 2)


@pytest.mark.parametrize(
    "options",
    [
        dict(size=(9, 11)),
        dict(size=(3, 2), align_corners=True),
        dict(size=(9, 3), method="bicubic"),
        dict(size=(2, 30), antialias=True),
        dict(size=(2, 2), method="bicubic", antialias=True),
    ],
    ids=str,
)
def test_transpose_and_tangent_are_those_of_a_linear_map(options, rng):
    image = jnp.asarray(rng.normal(size=(2, 26, 7, 2)), jnp.float32)
    out, pull = jax.vjp(lambda image: resize(image, **options), image)
    other = jnp.asarray(rng.normal(size=out.shape), jnp.float32)
    tangent = jax.jvp(lambda image: resize(image, **options), (image,), (image,))[1]
    np.testing.assert_allclose(tangent, out, atol=1e-5)
    np.testing.assert_allclose(
        jnp.vdot(out, other), jnp.vdot(image, pull(other)[0]), rtol=1e-4, atol=1e-4
    )


def test_per_example_gradients_equal_those_of_a_loop(rng):
    image = jnp.asarray(rng.normal(size=(3, 5, 6, 2)), jnp.float32)
    gradient = jax.jit(jax.grad(lambda image: jnp.sum(ops.resize(image, (7, 4)) ** 2)))
    batched = jax.vmap(gradient)(image)
    for one, expected in zip(batched, map(gradient, image), strict=True):
        np.testing.assert_allclose(one, expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_sums_in_float32(dtype, rng):
    image = jnp.asarray(rng.random((9, 8, 2)), dtype)
    found = resize(image, (5, 13))
    assert found.dtype == dtype
    wide = resize(image.astype(jnp.float32), (5, 13))
    # The two sum in another order in float32, so that a tie may round the other way.
    found, expected = (np.asarray(x, np.float32) for x in (found, wide.astype(dtype)))
    np.testing.assert_allclose(found, expected, rtol=float(jnp.finfo(dtype).eps))
    assert np.mean(found != expected) < 0.02


def test_a_nan_pixel_spoils_what_reads_it():
    found = resize(jnp.ones((5, 5, 1)).at[0, 0].set(jnp.nan), (10, 10))[..., 0]
    # Rows 0 to 2 lie within a pixel of pixel 0; the others do not.
    expected = np.zeros((10, 10), bool)
    expected[:3, :3] = True
    np.testing.assert_array_equal(np.isnan(found), expected)


@pytest.mark.parametrize(
    "shape, size",
    [
        ((11, 14, 3), (16, 24)),
        ((37, 53, 3), (13, 17)),
        ((37, 53, 1), (41, 90)),
        ((436, 1024, 3), (448, 1024)),
        ((375, 1242, 3), (384, 1280)),
        ((40, 60, 3), (20, 30)),
        ((40, 60, 1), (20, 30)),
        ((40, 60, 2), (20, 30)),
        ((40, 60, 4), (20, 60)),
        ((40, 60, 3), (10, 15)),
        ((1, 5, 3), (3, 9)),
        ((5, 1, 2), (9, 3)),
        ((7, 9, 3), (7, 9)),
        ((480, 640, 3), (1, 1)),
    ],
    ids=str,
)
def test_bytes_are_resized_bit_for_bit_as_by_opencv(shape, size, rng):
    image = rng.integers(0, 256, shape, dtype=np.uint8)
    expected = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
    found = resize_opencv_uint8(image, size)
    assert found.dtype == jnp.uint8
    np.testing.assert_array_equal(found, expected.reshape(*size, shape[-1]))


def test_bytes_are_those_of_the_golden_file_in_any_batch(golden):
    batch = np.broadcast_to(golden["cv2_in"], (2, 3, *golden["cv2_in"].shape))
    found = resize_opencv_uint8(batch, (16, 24))
    for one in np.asarray(found).reshape(6, 16, 24, 3):
        np.testing.assert_array_equal(one, golden["cv2_uint8_16x24"])


def test_floats_are_those_of_the_golden_file(golden):
    found = resize(jnp.asarray(golden["cv2_in"], jnp.float32), (16, 24))
    # Values up to 255, of which float32 resolves 1.5e-5.
    np.testing.assert_allclose(found, golden["cv2_float_16x24"], atol=3e-5, rtol=0)


def test_resized_flow_still_points_at_the_same_place():
    # A zoom about the corner of the corner pixel: (x + 1/2) -> 1.1 (x + 1/2).
    def zoom(height, width):
        return 0.1 * (ops.pixel_grid(height, width) + 0.5)

    found = resize_flow(zoom(8, 10), (24, 20))
    # At the edge the resampled flow is that of the edge pixel.
    inner = np.s_[2:-2, 1:-1]
    np.testing.assert_allclose(found[inner], zoom(24, 20)[inner], atol=1e-5)


def test_raft_small_upsampling_is_eightfold_with_aligned_corners(golden):
    flow = channels_last(golden["convex_flow"])
    found = resize_flow(flow, (32, 40), align_corners=True)
    np.testing.assert_allclose(found, channels_last(golden["upflow8"]), atol=1e-5)


def test_convex_upsampling_is_rafts(golden):
    flow, mask = (channels_last(golden[f"convex_{name}"]) for name in ("flow", "mask"))
    found = convex_upsample(flow, mask)
    np.testing.assert_allclose(found, channels_last(golden["convex_up"]), atol=1e-5)


def test_convex_upsampling_picks_the_neighbour_with_all_the_weight(rng):
    flow = jnp.asarray(rng.normal(size=(3, 4, 2)), jnp.float32)
    mask = jnp.zeros((3, 4, 9, 2, 2)).at[..., 5, 0, 1].set(1000)
    mask = mask.at[..., 4, :, 0].set(1000).at[..., 1, 1, 1].set(1000)
    found = convex_upsample(flow, mask.reshape(3, 4, 36), factor=2)
    right = jnp.pad(flow, ((0, 0), (0, 1), (0, 0)))[:, 1:]
    above = jnp.pad(flow, ((1, 0), (0, 0), (0, 0)))[:-1]
    np.testing.assert_allclose(found[::2, ::2], 2 * flow, rtol=1e-6)
    np.testing.assert_allclose(found[1::2, ::2], 2 * flow, rtol=1e-6)
    np.testing.assert_allclose(found[::2, 1::2], 2 * right, rtol=1e-6)
    np.testing.assert_allclose(found[1::2, 1::2], 2 * above, rtol=1e-6)


def test_convex_upsampling_has_the_gradient_of_finite_differences(rng):
    flow = jnp.asarray(rng.normal(size=(2, 3, 2)), jnp.float32)
    mask = jnp.asarray(rng.normal(size=(2, 3, 36)), jnp.float32)
    jax.test_util.check_grads(
        lambda flow, mask: convex_upsample(flow, mask, factor=2),
        (flow, mask), order=1, modes=("fwd", "rev"), eps=1e-2, atol=1e-2, rtol=1e-2,
    )  # fmt: skip


def test_rejects_what_it_cannot_do():
    image = jnp.zeros((3, 4, 1))
    with pytest.raises(ValueError, match="method"):
        ops.resize(image, (5, 5), method="lanczos")
    with pytest.raises(ValueError, match="size"):
        ops.resize(image, (0, 5))
    with pytest.raises(ValueError, match="align_corners"):
        ops.resize(image, (5, 5), method="nearest", align_corners=True)
    with pytest.raises(ValueError, match="align_corners"):
        ops.resize(image, (5, 5), antialias=True, align_corners=True)
    with pytest.raises(ValueError):
        ops.resize(image.astype(jnp.uint8), (5, 5))
    with pytest.raises(TypeError, match="uint8"):
        ops.resize_opencv_uint8(image, (5, 5))
    with pytest.raises(ValueError, match="size"):
        ops.resize_opencv_uint8(image.astype(jnp.uint8), (5, -1))
    with pytest.raises(ValueError):
        ops.resize_flow(image, (5, 5))
    with pytest.raises(ValueError):
        ops.convex_upsample(image, jnp.zeros((3, 4, 9)))


@pytest.mark.parametrize("shape", [(2, 0, 4, 2), (2, 3, 0, 2)])
def test_an_image_without_pixels_is_one_line(shape):
    image = jnp.zeros(shape)
    for resize in (
        ops.resize,
        ops.resize_flow,
        lambda image, size: ops.resize(image, size, method="nearest"),
        lambda image, size: ops.resize_opencv_uint8(image.astype(jnp.uint8), size),
    ):
        with pytest.raises(ValueError, match=r"must have pixels.*got the shape"):
            resize(image, (5, 5))


@pytest.mark.parametrize("method", ["bilinear", "nearest", "bicubic"])
def test_an_empty_batch_is_empty(method):
    image = jnp.zeros((0, 3, 4, 1))
    out, pull = jax.vjp(lambda image: ops.resize(image, (5, 2), method=method), image)
    assert out.shape == (0, 5, 2, 1)
    assert pull(out)[0].shape == image.shape
