"""Tests for jaxflow.classical.constraint."""

import jax
import numpy as np
import pytest

from jaxflow.classical import constraint


def rms(x):
    return float(np.sqrt((np.asarray(x)[16:-16, 16:-16] ** 2).mean()))


@pytest.mark.parametrize("source, order", [("frame1", 2), ("frame2", 2), ("mean", 3)])
def test_residual_falls_with_the_order_of_the_linearisation(texture, source, order):
    # Waves so long that the kernel's own error, (2 pi / 24)^4 / 30, stays below.
    scene = texture(shortest=24)
    y, x = np.mgrid[:64, :64].astype(float)
    residuals = []
    for length in (2.0, 1.0, 0.5):
        one, two = (np.float32(scene(x - d, y + d))[..., None] for d in (0.0, length))
        flow = np.full((64, 64, 2), (length, -length), np.float32)
        residuals.append(
            rms(
                constraint.constraint_residual(
                    one, two, flow, kernel="five_point", source=source
                )
            )
        )
    # Halving the motion divides the error by 2^order.
    ratios = np.divide(residuals[:-1], residuals[1:])
    np.testing.assert_allclose(ratios, 2**order, rtol=0.15)


def test_colour_constancy_holds_channel_by_channel(pair):
    one, two, flow = pair((np.eye(2), (0.2, 0.1)))
    triple = constraint.constraint_residual(
        np.concatenate([one, one / 2, -one], -1),
        np.concatenate([two, two / 2, -two], -1),
        flow,
    )
    single = constraint.constraint_residual(one, two, flow)
    expected = np.concatenate([single, single / 2, -single], axis=-1)
    np.testing.assert_allclose(triple, expected, atol=1e-6)


@pytest.mark.parametrize("kernel", ["central", "sobel", "scharr", "five_point"])
@pytest.mark.parametrize("angle", [0.0, 0.7, 2.0])
def test_normal_flow_of_a_grating_is_the_motion_across_it(kernel, angle):
    direction = np.array([np.cos(angle), np.sin(angle)])
    motion = np.array([0.2, -0.1])
    y, x = np.mgrid[:48, :48]

    def grating(shift):
        phase = (x - shift[0]) * direction[0] + (y - shift[1]) * direction[1]
        return (0.5 + 0.3 * np.sin(2 * np.pi * phase / 24))[..., None]

    frames = (np.float32(grating(shift)) for shift in ((0, 0), motion))
    flow, valid = constraint.normal_flow(*frames, kernel=kernel, minimum_gradient=0.02)
    inner = np.asarray(valid)[4:-4, 4:-4]
    found = np.asarray(flow)[4:-4, 4:-4][inner]
    assert inner.mean() > 0.5
    tangent = np.array([-direction[1], direction[0]])
    # 24-pixel waves: the kernels' derivatives are 2 % short, the mean gradient exact.
    np.testing.assert_allclose(found @ direction, motion @ direction, atol=0.02)
    np.testing.assert_allclose(found @ tangent, 0, atol=0.01)


def test_barber_pole_seems_to_move_diagonally():
    y, x = np.mgrid[:40, :40]

    def stripes(shift):
        return np.float32(0.5 + 0.3 * np.sin((x - shift + y) * 2 * np.pi / 40))[
            ..., None
        ]

    flow, valid = constraint.normal_flow(stripes(0), stripes(1), minimum_gradient=0.02)
    found = np.asarray(flow)[2:-2, 2:-2][np.asarray(valid)[2:-2, 2:-2]]
    np.testing.assert_allclose(found, 0.5, atol=0.02)


def test_flat_frames_have_no_normal_flow_and_no_nan_gradient():
    frame = np.full((8, 8, 3), 0.5, np.float32)
    flow, valid = constraint.normal_flow(frame, frame + 0.1)
    assert not valid.any() and not flow.any()
    slope = jax.jit(jax.grad(lambda a: constraint.normal_flow(a, frame)[0].sum()))(
        frame
    )
    assert np.isfinite(slope).all()


def test_rejects_unknown_choices():
    frame = np.zeros((4, 4, 1), np.float32)
    with pytest.raises(ValueError, match="source"):
        constraint.motion_derivatives(frame, frame, source="both")
    with pytest.raises(ValueError, match="1 or 3 channels"):
        constraint.normal_flow(frame[..., :0], frame[..., :0])
