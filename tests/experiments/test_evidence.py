"""Tests of `python -m experiments.evidence`: verdicts, what is missing, leak checks."""

import dataclasses
import json
import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import stats

from experiments.evidence import __main__ as evidence
from experiments.evidence import (
    claims,
    clip_runs,
    estimation,
    networks,
    page,
    recognition,
)
from jaxflow import checkpoint, train
from jaxflow.models.flow import flownets, pwcnet, spynet

ABOVE = claims.Claim(text="a beats b", source="us", run="a", less="b")
CHANCE = claims.Claim(text="blind", source="us", run="a", range=(47.0, 53.0))


def test_the_interval_is_students():
    numbers = [1.0, 2.5, 3.0, 7.0, 4.5]
    mean, low, high = page.interval(numbers)
    found = stats.ttest_1samp(numbers, 0.0).confidence_interval(0.95)
    np.testing.assert_allclose((low, high), found)
    assert mean == pytest.approx(3.6)
    assert page.interval([2.0]) == (2.0, -math.inf, math.inf)


@pytest.mark.parametrize(
    ("claim", "numbers", "expected"),
    [
        (ABOVE, [5.0, 6.0, 7.0], "confirmed"),
        (ABOVE, [-5.0, -6.0, -7.0], "refuted"),
        (ABOVE, [-5.0, 1.0, 6.0], "undecided"),
        (ABOVE, [5.0], "undecided"),
        (ABOVE, [], "undecided"),
        # Equal for all seeds: not more.
        (ABOVE, [0.0, 0.0, 0.0], "refuted"),
        (CHANCE, [49.0, 50.0, 51.0], "confirmed"),
        (CHANCE, [46.0, 50.0, 54.0], "undecided"),
        (CHANCE, [60.0, 61.0, 62.0], "refuted"),
    ],
)
def test_a_verdict_says_where_the_interval_lies(claim, numbers, expected):
    assert page.verdict(claim, numbers) == expected


def test_a_difference_is_of_the_same_seed():
    results = {
        ("a", 0): {"top1": 50.0},
        ("a", 1): {"top1": 60.0},
        ("a", 2): {"top1": 70.0},
        ("b", 1): {"top1": 20.0},
        ("b", 0): {"top1": 40.0},
    }
    assert page.values(ABOVE, results).tolist() == [10.0, 40.0]


def test_every_claim_names_runs_and_every_run_has_a_claim():
    named = {name for claim in page.CLAIMS for name in claim.runs}
    assert named == clip_runs.RUNS.keys() | estimation.RUNS.keys()
    texts = [claim.text for claim in page.CLAIMS]
    assert len(set(texts)) == len(texts)


def test_goes_on_where_it_was_stopped_and_writes_the_page(
    tmp_path, monkeypatch, capsys
):
    calls = []

    def measure(name, seed):
        calls.append((name, seed))
        return {"top1": 50.0 + seed, "in_pair": 50.0}

    monkeypatch.setattr(recognition, "measure", measure)
    only = "order/single frame"
    first = {"run": only, "seed": 0, "metrics": {"top1": 1.0, "in_pair": 49.0}}
    first |= {"seconds": 1.0, "machine": "x"}
    text = json.dumps(first) + '\n{"run": "order/sing'
    (tmp_path / "results.jsonl").write_text(text)
    args = evidence.Args(only=only, seeds=(0, 1, 2), folder=tmp_path)
    evidence.main(args)
    assert calls == [(only, 1), (only, 2)]
    assert len(evidence.main(args)) == 3 and len(calls) == 2
    assert len(evidence.read(tmp_path / "results.jsonl")) == 3
    table = (tmp_path / "page.md").read_text()
    assert "| 3 | **confirmed** |" in table and "| not run yet | 0 | - |" in table
    assert all((tmp_path / name).is_file() for name in ("claims.png", "runs.png"))


def test_shares_count_the_best_class_and_the_winner_of_a_pair():
    run = types.SimpleNamespace(task="motion8", clips="motion8")
    scores = np.zeros((4, 8))
    labels = np.array([0, 1, 2, 7])
    # Right; wrong but above its reversal; below it; a tie, which is not above.
    scores[0, 0] = 1
    scores[1, [1, 4]] = 1, 2
    scores[2, 3] = 1
    found = recognition.shares(run, scores, labels)
    assert found == {"top1": 25.0, "in_pair": 50.0}


def test_frames_are_shuffled_and_averaged_clip_by_clip():
    clips = jnp.arange(6.0)[None, :, None, None, None] + jnp.zeros((20, 6, 1, 1, 3))
    found = np.asarray(clip_runs.shuffled(jax.random.key(0), clips))[..., 0, 0, 0]
    assert (np.sort(found, axis=1) == np.arange(6)).all()
    assert len(np.unique(found, axis=0)) > 10
    mean = clip_runs.averaged(jax.random.key(0), clips)
    assert mean.shape == (20, 2, 1, 1, 3) and (np.asarray(mean) == 2.5).all()


def test_tints_are_linked_in_training_and_swapped_in_one_test():
    run = clip_runs.RUNS["bias/RGB"]
    keys = jax.random.split(jax.random.key(3), 4)
    labels = jnp.arange(4)
    linked, swapped = (
        np.asarray(recognition.draw(run, keys, labels, swap)).mean((1, 2, 3))
        for swap in (0, 1)
    )
    difference = linked - linked.mean(-1, keepdims=True)
    # Each clip's tint; after the swap it is the next class's.
    np.testing.assert_allclose(
        np.sign(swapped - swapped.mean(-1, keepdims=True)),
        np.sign(np.roll(difference, -1, axis=0)),
    )


def test_no_clip_of_a_test_is_another_seeds_or_one_of_training():
    run = clip_runs.RUNS["order/3-D"]
    first, other = (
        np.asarray(recognition.held_out(run, start, 0)["clip"])
        for start in (1_100_000, 1_100_000 + run.test_clips)
    )
    assert not (first[:, None] == other[None]).all((2, 3, 4, 5)).any()


@pytest.mark.slow
def test_a_run_trains_and_is_tested(monkeypatch):
    run = clip_runs.RUNS["bias/flow"]
    small = dataclasses.replace(run, steps=2, batch_size=2, size=16, test_clips=100)
    monkeypatch.setitem(clip_runs.RUNS, "small", small)
    monkeypatch.setattr(recognition, "STRIDE", 1)
    found = recognition.measure("small", 3)
    assert set(found) == {"top1", "swapped", "weights"}
    assert all(0 <= found[name] <= 100 for name in ("top1", "swapped"))


@pytest.mark.slow
def test_a_level_learns_from_the_one_before_which_stays(monkeypatch):
    config = dataclasses.replace(spynet.TINY, networks=2, max_levels=2)
    phases = tuple(estimation.Phase(steps=2, level=level) for level in range(2))
    make = lambda rngs: spynet.Model(config, rngs=rngs)  # noqa: E731
    run = estimation.Run(make=make, phases=phases, batch_size=2)
    monkeypatch.setitem(estimation.RUNS, "small", run)
    monkeypatch.setattr(estimation, "STRIDE", 1)
    monkeypatch.setattr(estimation, "TESTED", 8)
    seen = []

    def keep(model):
        levels = checkpoint.weights_of(model)["params"]["levels"]
        seen.append(
            [jax.tree.leaves(jax.tree.map(np.array, one)) for one in levels.values()]
        )

    def init(model, *args, **options):
        keep(model)
        return start(model, *args, **options)

    def finish(model, state):
        end(model, state)
        keep(model)

    start, end = train.init, train.finish
    monkeypatch.setattr(train, "init", init)
    monkeypatch.setattr(train, "finish", finish)
    found = estimation.measure("small", 3)
    assert found["error"] > 0 and found["weights"] > 0
    untrained, first, copied, last = seen

    def same(one, other):
        return all(map(np.array_equal, one, other))

    assert not same(first[0], untrained[0]) and same(first[1], untrained[1])
    assert same(copied[1], first[0])
    assert same(last[0], first[0]) and not same(last[1], copied[1])


def test_networks_lack_one_part_and_no_other():
    config = dataclasses.replace(pwcnet.TINY, radius=3)
    rngs = nnx.Rngs(0)
    x1, x2 = jax.random.normal(jax.random.key(0), (2, 1, 4, 4, 24))
    pixels = jnp.ones((1, 4, 4, 2))
    unwarped = networks.Unwarped(config, rngs=rngs)
    assert unwarped.warp(x2, pixels) is x2
    np.testing.assert_array_equal(
        unwarped.cost(x1, x2), pwcnet.Model.cost(unwarped, x1, x2)
    )
    costs = networks.Uncompared(config, rngs=rngs).cost(x1, x2)
    both = np.concatenate([x1, x2], axis=-1)
    both = (both - both.mean()) / both.std()
    np.testing.assert_allclose(costs[..., :48], both, atol=1e-5)
    assert costs.shape == (1, 4, 4, 49) and not np.asarray(costs[..., 48:]).any()


def test_flow_at_full_size_has_two_more_levels_than_flownet():
    frames = jnp.zeros((2, 1, 64, 64, 3))

    def run(network):
        return network(flownets.TINY, rngs=nnx.Rngs(0))(*frames)

    usual, finer = (
        nnx.eval_shape(lambda network=network: run(network))
        for network in (flownets.Model, networks.FullSize)
    )
    sizes = [flow.shape[1] for flow in finer.predictions]
    assert sizes == [1, 2, 4, 8, 16, 32, 64] and finer.flow.shape == (1, 64, 64, 2)
    assert [flow.shape[1] for flow in usual.predictions] == sizes[:5]


def test_a_batch_mixes_scenes_and_shows_each_in_both_directions():
    def draw(key):
        batch = estimation.batch(("translation", "sdhom"), 4, key)
        return batch["image1"], batch["image2"], batch["flow"]

    first, second, flow = map(np.asarray, jax.jit(draw)(jax.random.key(2)))
    assert flow.shape == (4, 64, 64, 2)
    np.testing.assert_allclose(first[[0, 2]], second[[1, 3]], atol=1e-6)
    speed = np.abs(flow).mean((1, 2, 3))
    assert speed[:2].min() > speed[2:].max()


def test_one_level_of_a_loss_is_its_part_of_all():
    predictions = [jnp.ones((1, size, size, 2)) for size in (16, 32, 64)]
    batch = {"image1": 0, "image2": 0, "flow": jnp.zeros((1, 64, 64, 2))}
    model = lambda *_: types.SimpleNamespace(predictions=predictions)  # noqa: E731
    parts = [float(estimation.loss(model, batch, level=level)) for level in range(3)]
    assert float(estimation.loss(model, batch)) == pytest.approx(sum(parts))
    # 16 x 16 errors of (4, 4) full-size pixels, in units of 20, at level 4's weight.
    assert parts[0] == pytest.approx(0.005 * 16 * 16 * math.sqrt(32) / 20, rel=1e-4)


def test_the_page_has_errors_of_flow_beside_shares_of_clips(tmp_path):
    metrics = {"order/single frame": {"top1": 12.0, "in_pair": 49.0}}
    metrics["flow/FlowNetS"] = {"error": 80.0, "weights": 615.7}
    metrics["flow/FlowNetC"] = {"error": 60.0, "weights": 620.7}
    rows = [
        {"run": run, "seed": seed, "metrics": found, "seconds": 1.0, "machine": "x"}
        for run, found in metrics.items()
        for seed in (0, 1)
    ]
    page.write(tmp_path, rows)
    text = (tmp_path / "page.md").read_text()
    assert "| difference above 0 | 20.0 (20.0 to 20.0) | 2 | **confirmed** |" in text
    assert "| - | - | 60.0 (60.0 to 60.0) | 620.7 | 1 |" in text
