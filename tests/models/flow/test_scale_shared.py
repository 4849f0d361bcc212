"""Tests for jaxflow.models.flow.scale_shared."""

import hashlib

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxflow
from jaxflow import inference, io, ops, weights
from jaxflow.models.flow import scale_shared

NAMES = ("jaxflow_fast", "jaxflow_accurate")


def moved_photograph(shift, size):
    """A corner of a photograph, and the same corner of the photograph moved."""
    photograph = pytest.importorskip("skimage.data").coffee()
    (u, v), (height, width) = shift, size
    first = photograph[100 : 100 + height, 100 : 100 + width]
    second = photograph[100 - v : 100 - v + height, 100 - u : 100 - u + width]
    return first, second


def test_cosines_do_not_depend_on_the_strength_of_features(rng):
    x1, x2 = (jnp.asarray(rng.normal(size=(1, 5, 6, 8)), jnp.float32) for _ in "12")
    cost = jax.jit(lambda a, b: scale_shared.cosine_cost(a, b, radius=1))
    found = np.asarray(cost(x1, x2))
    np.testing.assert_allclose(cost(7 * x1, 0.5 * x2), found, atol=1e-5)
    # The middle displacement is the pixel itself.
    unit = [np.asarray(x) / np.linalg.norm(x, axis=-1, keepdims=True) for x in (x1, x2)]
    np.testing.assert_allclose(found[..., 4], (unit[0] * unit[1]).sum(-1), atol=1e-5)
    assert not np.asarray(cost(0 * x1, x2)).any()


@pytest.mark.parametrize("name", NAMES)
def test_shipped_weights_are_verified_small_and_found_by_name(name):
    described = weights.describe(name)
    path = weights.place_of(name)
    content = path.read_bytes()
    assert hashlib.sha256(content).hexdigest() == described.sha256
    assert len(content) < 2e6 and described.licence == "Apache-2.0"
    assert weights.shipped()[name] == f"{name}/scenes"
    model = jaxflow.load_pretrained(name)
    leaves = [
        slot.variable[...] for slot in jaxflow.convert.weight_slots(model).values()
    ]
    assert sum(leaf.size for leaf in leaves) == described.num_params


@pytest.mark.parametrize("name", NAMES)
def test_the_card_beside_the_weights_is_about_them(name):
    described, path = weights.describe(name), weights.place_of(name)
    card = path.with_suffix(".md").read_text()
    assert card.startswith(f"# {name}\n") and f'load_pretrained("{name}")' in card
    assert f"| {described.num_params:,}" in card and described.licence in card
    assert path.name in card and "## What it is bad at" in card


@pytest.mark.slow
def test_the_shipped_networks_find_a_motion_of_a_photograph():
    # 96 pixels are not a size that it was trained at, nor is the motion one of its own.
    first, second = moved_photograph((7, -4), (96, 160))
    for name, bar in zip(NAMES, (0.4, 0.15), strict=True):
        flow = jaxflow.estimate_flow(name, first, second)
        inside = flow[8:-8, 12:-12] - np.array([7, -4])
        # Of the median: the cup's shadow has almost no texture.
        assert np.median(np.linalg.norm(inside, axis=-1)) < bar, name


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((384, 512), (512, 704)),
        ((192, 256), (384, 512)),
        ((448, 1024), (512, 1152)),
        ((64, 64), (128, 128)),
        ((512, 512), (512, 512)),
        ((832, 640), (832, 640)),
    ],
)
def test_small_frames_are_enlarged_to_the_least_side_but_not_beyond_twice(
    size, expected
):
    found = scale_shared.enlarged_size(size, least_side=512, multiple=64)
    assert found == expected
    assert scale_shared.enlarged_size(size, least_side=0, multiple=64) == size


@pytest.mark.slow
def test_flow_of_enlarged_frames_is_brought_back(rng):
    # What the network says of frames that were enlarged beforehand, in other pixels.
    small, plain = (
        jaxflow.create_model("jaxflow_fast", levels=2, least_side=side)
        for side in (48, 0)
    )
    first, second = (jnp.asarray(rng.random((1, 32, 40, 3)), jnp.float32) for _ in "12")

    def larger(image):
        wide = ops.resize(image, (48, 64), method="bicubic")
        return jnp.clip(wide, 0, 1)

    @jax.jit
    def both(first, second):
        return small(first, second), plain(larger(first), larger(second)).flow

    found, large = both(first, second)
    assert found.flow.shape == (1, 32, 40, 2)
    # Of two levels at a quarter of their size, and of the frame.
    assert [x.shape[1:3] for x in found.predictions] == [(4, 5), (8, 10), (32, 40)]
    # OpenCV takes means of areas; the triangle that we take is a little wider.
    back = cv2.resize(np.asarray(large[0]), (40, 32), interpolation=cv2.INTER_AREA)
    back *= [40 / 64, 32 / 48]
    np.testing.assert_allclose(found.flow[0], back, atol=0.1 * np.abs(back).max())
    assert np.abs(np.asarray(found.flow[0]) - back).mean() < 0.02 * np.abs(back).max()


@pytest.mark.slow
def test_a_gradient_reaches_the_weights_of_the_refinement(rng):
    model = jaxflow.create_model("jaxflow_accurate", levels=2, refinement_levels=1)
    frames = [jnp.asarray(rng.random((1, 32, 32, 3)), jnp.float32) for _ in "12"]

    def error(log_weight):
        copied = inference.evaluated(model)
        copied.refinement.log_weight[...] = log_weight
        return jnp.mean(jnp.square(copied(*frames).flow))

    start = model.refinement.log_weight[...]
    slope = jax.jit(jax.grad(error))(start)
    assert jnp.isfinite(slope).all() and jnp.abs(slope).max() > 0


@pytest.mark.parametrize(
    ("name", "bars"),
    [
        # The better of OpenCV's DIS (medium) and TV-L1 on each group.
        pytest.param(
            "jaxflow_accurate", (1.171, 0.157, 0.341, 0.319), marks=pytest.mark.slow
        ),
        ("jaxflow_fast", (1.3, 0.35, 0.45, 0.45)),
    ],
)
def test_errors_on_real_pairs(test_data, name, bars):
    root = test_data / "data" / "flow"
    if not root.is_dir():
        pytest.skip("no real pairs")
    chairs = [
        (*(io.read_image(root / f"chairs/{n}_img{i}.ppm") for i in (1, 2)),
         root / f"chairs/{n}_flow.flo")
        for n in ("fn2_1", "fn2_3", "spy_2")
    ]  # fmt: skip
    whale = root / "middlebury" / "RubberWhale"
    rubber = [
        (*(io.read_image(whale / f"frame{n}.png") for n in (10, 11)),
         whale / "flow10.flo")
    ]  # fmt: skip
    errors = []
    for pairs in (chairs, rubber):
        found = []
        for first, second, truth in pairs:
            target, valid = io.read_flow(truth)
            flow = jaxflow.estimate_flow(name, first, second)
            found.append(np.linalg.norm(flow - target, axis=-1)[valid].mean())
        errors.append(np.mean(found))
    assert all(e <= bar for e, bar in zip(errors, bars[:2], strict=True)), errors
