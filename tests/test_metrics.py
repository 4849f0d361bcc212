"""Tests for jaxflow.metrics."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow import io, metrics

SIZE = (12, 17)
MEANS = [
    metrics.epe, metrics.within, metrics.fl_all, metrics.wauc, metrics.angular_error,
    metrics.epe_by_speed,
]  # fmt: skip


@pytest.fixture
def pair(rng):
    """A batch of two estimates and truths of mixed speeds, and a mask."""
    target = rng.normal(size=(2, *SIZE, 2)) * rng.choice([1, 8, 60], (2, *SIZE, 1))
    flow = target + rng.normal(size=(2, *SIZE, 2)) * 3
    valid = rng.uniform(size=(2, *SIZE)) > 0.4
    return flow.astype(np.float32), target.astype(np.float32), valid


def numpy_summary(flow, target, valid):
    """The same table in float64, one example, by the definitions."""
    flow, target = flow[valid].astype(float), target[valid].astype(float)
    error = np.linalg.norm(flow - target, axis=-1)
    speed = np.linalg.norm(target, axis=-1)
    a, b = (np.append(x, np.ones((len(x), 1)), axis=-1) for x in (flow, target))
    cosine = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    weights = [1 - (i - 1) / 100 for i in range(1, 101)]
    area = sum(w * np.mean(error <= i / 20) for i, w in enumerate(weights, 1))
    return {
        "epe": error.mean(),
        "1px": np.mean(error < 1),
        "3px": np.mean(error < 3),
        "5px": np.mean(error < 5),
        "fl_all": 100 * np.mean((error > 3) & (error / speed > 0.05)),
        "wauc": 100 * area / sum(weights),
        "angular": np.rad2deg(np.arccos(np.clip(cosine, -1, 1))).mean(),
        "s0-10": error[speed < 10].mean(),
        "s10-40": error[(speed >= 10) & (speed < 40)].mean(),
        "s40+": error[speed >= 40].mean(),
    }


def test_the_table_equals_its_definitions(pair):
    table = jax.jit(metrics.summary)(*pair[:2], valid=pair[2])
    for index in range(2):
        expected = numpy_summary(*(part[index] for part in pair))
        assert table.keys() == expected.keys()
        for name, value in expected.items():
            # Sums of two hundred float32 terms.
            np.testing.assert_allclose(table[name][index], value, rtol=1e-5)


@pytest.mark.parametrize("mean", MEANS, ids=lambda mean: mean.__name__)
def test_a_batch_is_its_examples_and_no_mask_is_a_full_one(pair, mean):
    flow, target, valid = pair
    mean = jax.jit(mean)
    batch = mean(flow, target, valid=valid)
    singles = [mean(f, t, valid=v) for f, t, v in zip(*pair, strict=True)]
    np.testing.assert_allclose(batch, np.stack(singles), rtol=1e-6)
    full = mean(flow, target, valid=np.ones_like(valid))
    np.testing.assert_allclose(mean(flow, target), full, rtol=1e-6)


@pytest.mark.parametrize("mean", MEANS, ids=lambda mean: mean.__name__)
def test_what_does_not_count_has_no_effect_and_nothing_counted_is_nan(pair, mean):
    flow, target, valid = pair
    expected = mean(flow, target, valid=valid)
    spoiled = np.where(valid[..., None], flow, np.nan)
    unknown = np.where(valid[..., None], target, 1e10)
    actual = mean(spoiled, unknown, valid=valid.astype(np.uint8))
    np.testing.assert_allclose(actual, expected, rtol=1e-6)
    assert np.isnan(mean(flow, target, valid=np.zeros_like(valid))).all()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_computed_in_float32(dtype):
    # 300 px cannot be told from 301 px in bfloat16; the sum overflows in float16.
    flow = jnp.full((64, 64, 2), 300.0, dtype)
    target = jnp.full((64, 64, 2), 302.0, jnp.float32)
    result = metrics.epe(flow, target)
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, np.sqrt(8), rtol=1e-6)


def test_an_outlier_must_break_both_bounds():
    target = jnp.array([[[10.0, 0.0], [100.0, 0.0], [100.0, 0.0], [0.0, 0.0]]])
    flow = target + jnp.array([[[3.5, 0.0], [4.5, 0.0], [5.5, 0.0], [0.0, 3.0]]])
    marks = metrics.outliers(flow, target)
    np.testing.assert_array_equal(marks, [[True, False, True, False]])
    np.testing.assert_allclose(metrics.fl_all(flow, target), 50)
    marks = metrics.outliers(flow, target, relative=0.0)
    np.testing.assert_array_equal(marks, [[True, True, True, False]])


def test_an_estimate_that_is_nan_is_wrong_in_every_measure(pair):
    flow, target, valid = pair
    # As far off as can be is wrong in every measure of outliers; NaN is no better.
    far, nan = flow.copy(), flow.copy()
    far[:, 2:5], nan[:, 2:5] = 1e6, np.nan
    summary = jax.jit(metrics.summary)
    worst, table = (summary(x, target, valid=valid) for x in (far, nan))
    for name in ("1px", "3px", "5px", "fl_all", "wauc"):
        np.testing.assert_array_equal(table[name], worst[name])
    assert np.isnan(table["epe"]).all() and np.isnan(table["angular"]).all()
    lost = summary(np.full_like(flow, np.nan), target, valid=valid)
    assert (lost["fl_all"] == 100).all() and (lost["wauc"] == 0).all()
    assert (lost["1px"] == 0).all()
    half = np.full_like(flow, np.nan)
    half[..., 0] = target[..., 0]
    assert (metrics.fl_all(half, target, valid=valid) == 100).all()
    assert metrics.outliers(half, target, relative=0.0).all()


def test_corner_cases_have_the_known_values():
    zero, right = jnp.zeros((3, 4, 2)), jnp.zeros((3, 4, 2)).at[..., 0].set(1.0)
    np.testing.assert_allclose(metrics.wauc(zero, zero), 100, rtol=1e-6)
    np.testing.assert_allclose(metrics.wauc(zero, zero + 9), 0)
    np.testing.assert_allclose(metrics.angular_error(right, right), 0)
    np.testing.assert_allclose(metrics.angular_error(zero, right), 45, rtol=1e-6)
    # The threshold itself is not below the threshold.
    np.testing.assert_allclose(metrics.within(zero, right), 0)
    # An angle this small is lost by an arc cosine in float32.
    tiny = metrics.angular_error(right, right.at[..., 1].set(1e-4))
    np.testing.assert_allclose(tiny, np.rad2deg(1e-4 / np.sqrt(2)), rtol=1e-3)


def test_occluded_pixels_are_parted_from_visible_ones(pair):
    flow, target, valid = pair
    hidden = np.zeros_like(valid)
    hidden[:, :4] = True
    visible_mean, hidden_mean = metrics.epe_by_occlusion(
        flow, target, hidden, valid=valid
    )
    error = np.linalg.norm(flow - target, axis=-1)
    for index in range(2):
        for mean, mask in ((visible_mean, ~hidden), (hidden_mean, hidden)):
            expected = error[index][(mask & valid)[index]].mean()
            np.testing.assert_allclose(mean[index], expected, rtol=1e-5)


def test_kitti_sample_has_the_published_errors(test_data):
    folder = test_data / "data/flow/kitti2012"
    target, valid = io.read_flow(folder / "000045_10_flow_noc.png")
    flow, _ = io.read_flow(folder / "000045_10_LK_estimate.png")
    error = metrics.epe(flow, target, valid=valid)
    bad = metrics.masked_mean(metrics.outliers(flow, target, relative=0.0), valid)
    # Published to four digits after the point.
    np.testing.assert_allclose(error, 10.6271, atol=6e-5)
    np.testing.assert_allclose(100 * bad, 78.5603, atol=6e-5)


def test_zero_flow_on_the_samples_has_the_recorded_errors(test_data):
    expected = json.loads((test_data / "data/expected.json").read_text())
    for name, path in (("chairs_fn2_1", "chairs/fn2_1_flow.flo"),
                       ("chairs_fn2_3", "chairs/fn2_3_flow.flo")):  # fmt: skip
        target, valid = io.read_flow(test_data / "data/flow" / path)
        zero = np.zeros_like(target)
        recorded = expected[name]["zero"]
        error = metrics.epe(zero, target, valid=valid)
        np.testing.assert_allclose(error, recorded["epe"], atol=6e-5)
        bad = metrics.fl_all(zero, target, valid=valid)
        np.testing.assert_allclose(bad, recorded["fl"], atol=6e-4)


def test_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"one shape; got \(3, 4, 2\) and \(4, 3, 2\)"):
        metrics.epe(jnp.zeros((3, 4, 2)), jnp.zeros((4, 3, 2)))
    with pytest.raises(ValueError, match=r"`flow` must be \(\*B, H, W, 2\); got"):
        metrics.epe(jnp.zeros((3, 4, 3)), jnp.zeros((3, 4, 3)))
    with pytest.raises(ValueError, match=r"`valid` must be \(3, 4\)"):
        metrics.epe(jnp.zeros((3, 4, 2)), jnp.zeros((3, 4, 2)), valid=jnp.ones((4, 3)))
