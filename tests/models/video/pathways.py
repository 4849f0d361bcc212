"""What the networks of one pathway and of two owe to the official code alike."""

import json

import jax.numpy as jnp
import numpy as np


def both_heads(model, clip):
    """Returns logits averaged over positions and probabilities averaged over them."""
    maps = model.features(clip)
    maps = maps if isinstance(maps, tuple) else (maps,)
    logits = model.head(*maps)
    model.head.mode = "softmax_mean"
    return logits, model.head(*maps)


def assert_equals_the_official_code(case, model, run, logits):
    actual, probabilities = run(model, case.clip(), function=both_heads)
    # Float32 through 50 layers in another order; the logits' deviation is about 1.
    np.testing.assert_allclose(actual, case.arrays[logits], atol=2e-5)
    np.testing.assert_allclose(probabilities, case.arrays["psf_probs"], atol=2e-6)


def in_three_ways(model, clip, boxes):
    """Returns scores of boxes in both forms, and with rows that pad."""
    legacy = model(clip, boxes)
    pads = jnp.array([[-1.0, 0, 0, 9, 9]])
    padded = model(clip, jnp.concatenate([pads, boxes, pads]))
    model.head.aligned = True
    return legacy, model(clip, boxes), padded


def assert_scores_boxes_as_the_official_code_does(case, model, run):
    boxes = jnp.asarray(case.arrays["boxes"])
    legacy, aligned, padded = run(model, case.clip(), boxes, function=in_three_ways)
    # Float32 through 50 layers in another order; the logits' deviation is about 2.
    np.testing.assert_allclose(legacy, case.arrays["probs_legacy"], atol=1e-5)
    np.testing.assert_allclose(aligned, case.arrays["probs_aligned"], atol=1e-5)
    np.testing.assert_allclose(padded[1:-1], legacy, atol=1e-6)
    np.testing.assert_array_equal(padded[jnp.array([0, -1])], 0)


def assert_caffe2_names_mean_what_pyslowfast_says(keys, test_data, read_names, name):
    folder = test_data / "golden" / "video"
    table = json.loads((folder / f"c2_names_{name}.json").read_text())["mapping"]
    official = {blob: key for blob, (key, _) in table.items()}
    caffe2 = read_names(keys["caffe2"], official)
    pyslowfast = read_names(keys["pyslowfast"], official.values())
    assert "no row" not in caffe2.values()
    assert caffe2 == {blob: pyslowfast[key] for blob, key in official.items()}
