"""Tests for jaxflow._shapes, and that every public function checks its arrays by it."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow import _shapes, losses, metrics, ops

IMAGE, FLOW, MASK = (1, 6, 8, 3), (1, 6, 8, 2), (1, 6, 8)
VOLUME = (1, 6, 8, 6, 8)
# Function -> its arrays by name, and its other arguments.
CALLS = {
    ops.all_pairs_correlation: ({"features1": IMAGE, "features2": IMAGE}, {}),
    ops.correlation_pyramid: ({"volume": VOLUME}, {"levels": 2}),
    ops.correlation_volume: ({"features1": IMAGE, "features2": IMAGE}, {"radius": 1}),
    ops.local_correlation: ({"features1": IMAGE, "features2": IMAGE}, {"radius": 1}),
    ops.lookup: ({"pyramid": [VOLUME], "points": FLOW}, {"radius": 1}),
    ops.lookup_on_demand: (
        {"features1": IMAGE, "features2_pyramid": [IMAGE], "points": FLOW},
        {"radius": 1},
    ),
    ops.compose: ({"first": FLOW, "second": FLOW}, {}),
    ops.forward_backward_occlusion: (
        {"flow_forward": FLOW, "flow_backward": FLOW},
        {},
    ),
    ops.forward_interpolate: ({"flow": FLOW}, {}),
    ops.invert: ({"flow": FLOW}, {}),
    ops.avg_pool: ({"x": IMAGE}, {"window": 2}),
    ops.max_pool: ({"x": IMAGE}, {"window": 2}),
    ops.gaussian_blur: ({"image": IMAGE}, {"sigma": 1.0}),
    ops.gaussian_pyramid: ({"image": IMAGE}, {"levels": 2}),
    ops.pyramid_down: ({"image": IMAGE}, {}),
    ops.convex_upsample: ({"flow": FLOW, "mask": (1, 6, 8, 36)}, {"factor": 2}),
    ops.pad_to_multiple: ({"x": IMAGE}, {"multiple": 4}),
    ops.unpad: ({"x": IMAGE}, {"pads": ((1, 1), (0, 0))}),
    ops.resize: ({"image": IMAGE}, {"size": (3, 4)}),
    ops.resize_flow: ({"flow": FLOW}, {"size": (3, 4)}),
    ops.roi_align: (
        {"features": IMAGE, "boxes": (2, 4), "owners": (2,)},
        {"size": (2, 2)},
    ),
    ops.average_splat: ({"values": IMAGE, "flow": FLOW}, {}),
    ops.forward_splat: ({"values": IMAGE, "flow": FLOW}, {}),
    ops.softmax_splat: ({"values": IMAGE, "flow": FLOW, "importance": MASK}, {}),
    ops.divergence: ({"field_x": IMAGE, "field_y": IMAGE}, {}),
    ops.laplacian: ({"image": IMAGE}, {}),
    ops.separable_filter: ({"image": IMAGE}, {"kernel_y": [1], "kernel_x": [1]}),
    ops.spatial_gradient: ({"image": IMAGE}, {}),
    ops.structure_tensor: ({"image": IMAGE}, {}),
    ops.backward_warp: ({"image": IMAGE, "flow": FLOW}, {}),
    ops.bicubic_sample: ({"image": IMAGE, "points": FLOW}, {}),
    ops.bilinear_sample: ({"image": IMAGE, "points": FLOW}, {}),
    ops.extract_windows: ({"image": IMAGE}, {"size": 3}),
    ops.conv: ({"x": IMAGE, "kernel": (3, 3, 3, 4)}, {}),
    ops.conv_transpose: ({"x": IMAGE, "kernel": (2, 2, 3, 4)}, {}),
    ops.conv3d: ({"x": (1, 5, *IMAGE[1:]), "kernel": (3, 3, 3, 3, 4)}, {}),
    losses.end_point: ({"prediction": FLOW, "target": FLOW, "mask": MASK}, {}),
    losses.multi_scale: (
        {"predictions": [(1, 3, 4, 2)], "target": FLOW, "mask": MASK},
        {"weights": [1.0]},
    ),
    losses.sequence: ({"predictions": [FLOW], "target": FLOW, "mask": MASK}, {}),
    losses.upsampled: (
        {"predictions": [(1, 3, 4, 2)], "target": FLOW, "mask": MASK},
        {"weights": [1.0]},
    ),
    losses.density: (
        {
            "logits": [(1, 3, 4, 9)],
            "starts": [(1, 3, 4, 2)],
            "target": FLOW,
            "mask": MASK,
        },
        {},
    ),
    losses.occlusion: ({"logits": (1, 6, 8, 1), "target": (1, 6, 8, 1)}, {}),
    losses.photometric: ({"image1": IMAGE, "warped2": IMAGE, "mask": MASK}, {}),
    losses.census: ({"image1": IMAGE, "warped2": IMAGE, "mask": MASK}, {"radius": 1}),
    losses.smoothness: ({"flow": FLOW, "image": IMAGE, "mask": MASK}, {}),
    losses.area_average: ({"flow": FLOW, "mask": MASK}, {"size": (3, 4)}),
    metrics.epe_map: ({"flow": FLOW, "target": FLOW}, {}),
}
# They take any array, or none, or are checked elsewhere in this file.
OTHERS = {
    ops.gaussian_kernel, ops.pixel_grid, ops.sampling_mask, ops.resize_opencv_uint8,
    losses.norm, losses.robust, losses.charbonnier, losses.balanced,
}  # fmt: skip
# Arrays that may hold whole numbers, or are cast to float32 first.
WHOLE = {"mask", "owners", "boxes", "target", "prediction", "predictions"}
WHOLE |= {f"x of {name}" for name in ("avg_pool", "max_pool", "unpad")}
WHOLE |= {"x of pad_to_multiple", "image of extract_windows"}
WHOLE |= {"logits", "starts", "flow of area_average", "flow of smoothness"}
WHOLE |= {"flow of epe_map", "importance", "pyramid", "features2_pyramid"}


def array(shape):
    """Returns an array of that shape, or a list of them; whole numbers of one axis."""
    if isinstance(shape, list):
        return [array(each) for each in shape]
    return np.zeros(shape, np.float32 if len(shape) > 1 else np.int32)


def misfits():
    """Yields (function, argument, what is wrong, arguments)."""
    for function, (shapes, others) in CALLS.items():
        for name, shape in shapes.items():
            several = isinstance(shape, list)
            one = shape[0] if several else shape
            wrong = {"rank": np.zeros(4, np.float32), "no array": "text"}
            if len(shapes) > 1 and name not in ("target", "predictions", "features"):
                wrong["size"] = np.zeros([n + 1 for n in one], np.float32)
            whole = {name, f"{name} of {function.__name__}"} & WHOLE
            if not whole:
                wrong["bytes"] = np.zeros(one, np.uint8)
            for what, value in wrong.items():
                arrays = {key: array(each) for key, each in shapes.items()}
                arrays[name] = [value] if several else value
                yield pytest.param(
                    function,
                    shapes,
                    arrays | others,
                    id=f"{function.__name__}-{name}-{what}",
                )


def test_every_public_function_is_in_the_table():
    public = {f for _, f in inspect.getmembers(ops, callable)}
    public |= {f for _, f in inspect.getmembers(losses, inspect.isfunction)}
    assert public == (CALLS.keys() | OTHERS) - {metrics.epe_map}


def test_what_fits_is_taken():
    for function, (shapes, others) in CALLS.items():
        arrays = {key: array(each) for key, each in shapes.items()}
        jax.eval_shape(functools.partial(function, **others), **arrays)


@pytest.mark.parametrize(("function", "shapes", "arguments"), list(misfits()))
def test_what_does_not_fit_is_named_in_one_line(function, shapes, arguments):
    with pytest.raises(ValueError, match="`") as caught:
        jax.block_until_ready(function(**arguments))
    message = str(caught.value)
    assert "\n" not in message and len(message) < 250, message
    assert any(f"`{name}" in message for name in shapes), message
    assert "got" in message, message


def test_the_message_says_what_is_wanted():
    wanted = r"`flow` must have the shape \(\.\.\., H, W, 2\); got \(4, 3\)"
    with pytest.raises(ValueError, match=wanted):
        _shapes.check("flow", jnp.zeros((4, 3)), (..., "H", "W", 2))
    with pytest.raises(ValueError, match=r"`x` must hold floats; got uint8 .* 255"):
        _shapes.check_floats(x=np.zeros(3, np.uint8))
    with pytest.raises(ValueError, match=r"`a` and `b` .* got \(2,\) and \(3,\)"):
        _shapes.check_equal(a=np.zeros(2), b=np.zeros(3))
    with pytest.raises(ValueError, match="`x` must be an array; got list"):
        _shapes.check_floats(x=[1.0])


def test_half_precision_and_tracers_are_arrays():
    _shapes.check_floats(x=jnp.zeros(2, jnp.bfloat16))
    jax.jit(lambda x: _shapes.check("x", x, ("N",)))(jnp.zeros(2, jnp.bfloat16))


def test_an_array_without_pixels_is_one_line():
    _shapes.check_pixels("image", np.zeros((0, 1, 1, 3)))
    with pytest.raises(ValueError, match=r"`image` must have pixels.*\(2, 0, 1, 3\)"):
        _shapes.check_pixels("image", np.zeros((2, 0, 1, 3)))
