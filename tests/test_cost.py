"""Tests for jaxflow.cost."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from jaxflow import cost, models, ops, tables

# Billions of multiply-adds, counted by hooks in the official code, and sides of clips.
MULTIPLY_ADDS = {
    ("slowfast_4x16_r50", 256): 36.102,
    ("slowfast_4x16_r50", 224): 27.639,
    ("slowfast_8x8_r50", 256): 65.712,
    ("slowfast_8x8_r101", 256): 125.908,
    ("slowfast_8x8_r101_50_50", 256): 106.514,
    ("slowfast_8x8_r101_50_101", 256): 107.655,
    ("slowfast_16x8_r101_50_50", 256): 213.024,
    ("slowfast_nln_8x8_r50", 256): 99.124,
    ("slowfast_nln_8x8_r101_50_50", 256): 115.372,
    ("slowfast_nln_16x8_r101_50_50", 256): 233.962,
    ("slow_4x16_r50", 224): 20.871,
    ("slow_4x16_r50", 256): 27.262,
    ("slow_r50", 224): 41.741,
    ("slow_r50", 256): 54.521,
    ("slow_16x8_r101_50_50", 256): 186.616,
    ("fast_r50", 224): 5.283,
    ("c2d_r50", 256): 25.463,
    ("i3d_r50", 224): 28.408,
    ("i3d_r50", 256): 37.106,
    ("i3d_nln_r50", 256): 48.917,
    ("r3d_18", 112): 40.697,
    ("r3d_34", 112): 75.378,
    ("mc3_18", 112): 43.343,
    ("r2plus1d_18", 112): 40.519,
    ("r2plus1d_18_vmz", 112): 41.496,
    ("r2plus1d_34_vmz", 112): 152.356,
    ("i3d_inception_rgb", 224): 111.153,
    ("i3d_inception_flow", 224): 102.341,
    ("c3d", 112): 38.547,
    ("c3d_sports1m", 112): 38.549,
}
# One of each kind of network.
QUICK = {
    ("slowfast_4x16_r50", 224),
    ("slow_r50", 224),
    ("i3d_nln_r50", 256),
    ("r3d_18", 112),
    ("r2plus1d_18", 112),
    ("i3d_inception_rgb", 224),
    ("c3d", 112),
}
counted = functools.cache(cost.video_cost)


def quick_or_slow(quick, cases):
    """Returns parameters of a test: only those of `quick` run always."""
    return [
        pytest.param(*case, marks=() if case in quick else pytest.mark.slow)
        for case in cases
    ]


# The same with other fields of the config.
ABLATED = [
    ("slowfast_4x16_r50", {"beta_inv": 4}, 224, 41.038),
    ("slowfast_4x16_r50", {"beta_inv": 16}, 224, 23.426),
    ("slowfast_4x16_r50", {"beta_inv": 32}, 224, 21.941),
    ("slowfast_nln_8x8_r50", {"lateral_window": 7}, 256, 99.534),
    ("slowfast_nln_16x8_r101_50_50", {"non_local_pool": (1, 2, 2)}, 256, 242.015),
    ("fast_r50", {"windows": ((1,), (1,), (3,), (3,))}, 224, 4.910),
    ("slowfast_8x8_r50", {"num_classes": 174}, 256, 65.710),
    ("slowfast_8x8_r50", {"num_classes": 157}, 256, 65.709),
]


@pytest.mark.parametrize(("name", "side"), quick_or_slow(QUICK, MULTIPLY_ADDS))
def test_counts_the_official_multiply_adds(name, side):
    config = models.find(name).VARIANTS[name]
    _, count = counted(name, crop_size=side, num_frames=config.num_frames)
    # The official figures are rounded to three digits.
    assert count / 1e9 == pytest.approx(MULTIPLY_ADDS[name, side], abs=6e-4)


@pytest.mark.parametrize(
    ("name", "overrides", "side", "expected"),
    quick_or_slow([ABLATED[0], ABLATED[5]], ABLATED),
    ids=str,
)
def test_counts_the_official_multiply_adds_of_other_configs(
    name, overrides, side, expected
):
    _, count = cost.video_cost(name, crop_size=side, **overrides)
    assert count / 1e9 == pytest.approx(expected, abs=6e-4)


def test_counts_the_convolutions_of_the_released_kinetics_network():
    # The official figure leaves out what the flow layer convolves: the iterations, of
    # which the first has nothing to convolve, and the gradient of the features, 0.02.
    one = cost.video_cost("repflow_kinetics_resnet50", iterations=1)[1]
    assert 44.366 < one / 1e9 < 44.366 + 0.03


# The paper's ablations at 224 pixels (Table 5), which no official code runs.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"lateral": "none"}, 26.15),
        ({"lateral": "sample"}, 26.70),
        ({"lateral": "channels"}, 30.52),
        ({"fast_input": "gray"}, 26.07),
        ({"fast_input": "half_size", "beta_inv": 4, "lateral_ratio": 1}, 26.40),
        ({"beta_inv": 6}, 31.89),
    ],
    ids=str,
)
def test_counts_the_ablations_of_slowfast(overrides, expected):
    _, count = cost.video_cost("slowfast_4x16_r50", **overrides)
    assert count / 1e9 == pytest.approx(expected, abs=6e-3)


def test_counts_products_loops_and_branches():
    x = jnp.ones((2, 3))

    def loop(x):
        return lax.scan(lambda x, _: (x @ x.T @ x, None), x, length=5)[0]

    assert cost.multiply_adds(loop, x) == 5 * 2 * 2 * 2 * 3
    branch = [lambda x: x, lambda x: x @ x.T @ x]
    assert cost.multiply_adds(lambda x: lax.cond(True, *branch, x), x) == 24
    assert cost.multiply_adds(jax.checkpoint(branch[1]), x) == 24
    clip, kernel = jnp.ones((1, 4, 5, 6, 2)), jnp.ones((3, 1, 1, 2, 7))

    def conv3d(clip):
        return ops.conv3d(clip, kernel, padding=(1, 0, 0))

    assert cost.multiply_adds(conv3d, clip) == 4 * 5 * 6 * 7 * 3 * 2


def test_counts_parameters_but_not_statistics():
    parameters, _ = cost.video_cost("r3d_18", num_frames=1, crop_size=16)
    assert parameters == 33_371_472


REFRESH = "run `jaxflow models --measure`, and commit jaxflow/costs.json"
# One of each task, and of each way to have a cost; the rest is measured by a slow test.
SAMPLE = ["actionflownet", "pwcnet", "raft_small", "ramvid_unet", "slow_r50"]


def test_the_table_lists_every_network_and_nothing_else():
    listed, there = set(cost.read_table()), set(models.list_models())
    assert listed == there, (
        f"missing in the table: {sorted(there - listed)}; no longer there: "
        f"{sorted(listed - there)}: {REFRESH}"
    )


@pytest.mark.parametrize("name", SAMPLE)
def test_the_table_says_what_a_network_costs(name):
    assert cost.read_table()[name] == cost.measured(name), REFRESH


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*models.list_models()} - {*SAMPLE}))
def test_the_table_says_what_every_network_costs(name):
    assert cost.read_table()[name] == cost.measured(name), REFRESH


def test_a_network_that_is_not_in_the_table_is_measured(monkeypatch, tmp_path):
    table = cost.read_table()
    monkeypatch.setattr(cost, "TABLE", tmp_path / "costs.json")
    cost.read_table.cache_clear()
    try:
        assert cost.read_table() == {}
        assert cost.listed("fast_r50") == table["fast_r50"]
        cost.write_table({"pwcnet": table["pwcnet"], "c3d": table["c3d"]})
        kept = {name: table[name] for name in ("c3d", "pwcnet")}
        assert cost.read_table() == kept
        assert list(cost.read_table()) == sorted(kept)
        # Where it is in the table nothing is measured.
        monkeypatch.delattr(cost, "measured")
        assert cost.listed("c3d") == table["c3d"]
    finally:
        cost.read_table.cache_clear()


def test_an_unknown_network_has_no_cost():
    with pytest.raises(ValueError, match="no model is named 'nothing'"):
        cost.listed("nothing")


PUBLISHED = [
    name for name in models.list_models("video") if cost.published(name) is not None
]


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_differs_from_the_published_figure_says_why(name):
    known = cost.published(name)
    ours = cost.listed(name)
    pairs = [
        (ours.parameters / 1e6, known.parameters),
        (ours.multiply_adds / 1e9, known.multiply_adds),
    ]
    same = all(tables.agrees(ours, printed) for ours, printed in pairs if printed)
    assert same != bool(known.reason), pairs
    assert known.source
