"""Tests for jaxflow.evaluate."""

import functools
import math
import time

import numpy as np
import pytest

from jaxflow import estimate, evaluate
from jaxflow.data import folders


def sample(rng, size=(10, 14), *, speed=5.0, known=0.7):
    """A pair of frames that mean nothing, a flow, and where it is known."""
    frames = rng.integers(0, 256, (2, *size, 3), dtype=np.uint8)
    flow = rng.normal(size=(*size, 2)).astype(np.float32) * speed
    return (*frames, flow, rng.uniform(size=size) < known)


def zero(frame1, frame2):
    return np.zeros((*frame1.shape[:2], 2), np.float32)


def test_error_is_averaged_over_pairs_and_the_rest_over_pixels(rng):
    data = [sample(rng), sample(rng, (8, 9), speed=50.0, known=0.2)]
    table = evaluate.evaluate_flow(zero, data)
    errors = [np.linalg.norm(flow, axis=-1)[valid] for *_, flow, valid in data]
    pooled = np.concatenate(errors)
    expected = {
        "pairs": 2,
        "epe": np.mean([error.mean() for error in errors]),
        "1px": np.mean(pooled < 1),
        "3px": np.mean(pooled < 3),
        "5px": np.mean(pooled < 5),
        "fl_all": 100 * np.mean(pooled > 3),
        "s0-10": pooled[pooled < 10].mean(),
        "s10-40": pooled[(pooled >= 10) & (pooled < 40)].mean(),
        "s40+": pooled[pooled >= 40].mean(),
    }
    for name, value in expected.items():
        # Means of float32 errors.
        assert table[name] == pytest.approx(value, rel=1e-5), name


def test_networks_and_names_are_estimated(rng):
    data = [sample(rng, (24, 32))]
    table = evaluate.evaluate_flow("horn_schunck", data, precision="default")
    function = functools.partial(estimate.estimate_flow, "horn_schunck")
    assert table["epe"] == evaluate.evaluate_flow(function, data)["epe"]
    with pytest.raises(ValueError, match="`precision` is for networks and names"):
        evaluate.evaluate_flow(function, data, precision="default")


def test_a_pair_without_known_flow_says_nothing(rng):
    some, none = sample(rng), sample(rng, known=0.0)
    table = evaluate.evaluate_flow(zero, [some, none])
    alone = evaluate.evaluate_flow(zero, [some])
    assert table["pairs"] == 2
    assert table["epe"] == alone["epe"] and table["fl_all"] == alone["fl_all"]
    assert math.isnan(evaluate.evaluate_flow(zero, [none])["epe"])


def test_the_first_pair_of_a_size_is_not_timed(rng):
    calls = []

    def slow_at_first(frame1, frame2):
        calls.append(frame1.shape)
        time.sleep(0.2 if calls.count(frame1.shape) == 1 else 0)
        return zero(frame1, frame2)

    data = [sample(rng), sample(rng), sample(rng, (5, 6)), sample(rng)]
    assert evaluate.evaluate_flow(slow_at_first, data)["seconds"] < 0.1
    assert len(calls) == 4
    single = [sample(rng, (7, 6))]
    assert evaluate.evaluate_flow(slow_at_first, single)["seconds"] < 0.1


def test_the_wrong_shape_and_an_empty_data_set_are_refused(rng):
    with pytest.raises(ValueError, match="`estimator` must return"):
        evaluate.evaluate_flow(lambda a, b: zero(a, b)[:-1], [sample(rng)])
    with pytest.raises(ValueError, match="must not be empty"):
        evaluate.evaluate_flow(zero, [])


def test_zero_flow_on_real_pairs_has_the_recorded_error(test_data):
    data = folders.Folder("middlebury", test_data / "data/flow/middlebury")
    table = evaluate.evaluate_flow(zero, data)
    # The length of the true flow, over its known pixels.
    assert table["epe"] == pytest.approx(1.2560, abs=1e-3)


def test_what_is_hidden_is_averaged_apart_over_all_pixels(rng):
    data = [sample(rng), sample(rng, (8, 9), speed=50.0, known=0.2)]
    data = [(*pair, rng.uniform(size=pair[3].shape) < 0.4) for pair in data]
    seen = []
    table = evaluate.evaluate_flow(zero, data, watch=lambda *row: seen.append(row))
    parts = [(np.linalg.norm(p[2], axis=-1), p[3], p[4]) for p in data]
    matched = np.concatenate([e[v & ~o] for e, v, o in parts])
    unmatched = np.concatenate([e[v & o] for e, v, o in parts])
    # Means of float32 errors.
    assert table["matched"] == pytest.approx(matched.mean(), rel=1e-5)
    assert table["unmatched"] == pytest.approx(unmatched.mean(), rel=1e-5)
    assert table["fl_noc"] == pytest.approx(100 * np.mean(matched > 3), rel=1e-5)
    assert [row[2]["epe"] for row in seen] == pytest.approx(
        [e[v].mean() for e, v, _ in parts], rel=1e-5
    )
    with pytest.raises(ValueError, match="of all pairs what is hidden, or of none"):
        evaluate.evaluate_flow(zero, [data[0], data[1][:4]])


def test_an_estimate_that_is_nan_is_wrong_everywhere(rng):
    pair = (*sample(rng, known=2.0), np.zeros((10, 14), bool))
    right = pair[2]
    broken = right.copy()
    broken[3, 4, 1] = np.nan
    table = evaluate.evaluate_flow(lambda *_: broken, [pair])
    wrong = 1 / right[..., 0].size
    for name in ("1px", "3px", "5px"):
        assert table[name] == pytest.approx(1 - wrong, rel=1e-6)
    assert table["fl_all"] == table["fl_noc"] == pytest.approx(100 * wrong, rel=1e-5)
    assert table["wauc"] == pytest.approx(100 * (1 - wrong), rel=1e-5)
    assert math.isnan(table["epe"]) and math.isnan(table["matched"])
