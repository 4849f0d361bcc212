"""Tests for the ablation of what drawn scenes consist of."""

import json

import jax
import numpy as np
import pytest

from jaxflow import io
from jaxflow.data import synthetic
from jaxflow.models.flow import scale_shared as network
from tests.experiments import scripts


@pytest.fixture
def ablations(monkeypatch):
    """The script, small: frames of 32 pixels, a step a call and few pictures."""
    with scripts.imported("flow", "scene_ablations") as script:
        rng = np.random.default_rng(0)
        kinds = {
            kind: np.full((count, 8, 8, 3), 60 * place, np.uint8)
            + rng.integers(0, 40, (count, 8, 8, 3), np.uint8)
            for place, (kind, count) in enumerate(
                zip(script.PICTURES, (2, 4, 3), strict=True)
            )
        }
        monkeypatch.setattr(script, "kinds", lambda: kinds)
        monkeypatch.setattr(script, "SIZE", (32, 48))
        monkeypatch.setattr(script, "STRIDE", 1)
        monkeypatch.setattr(script, "TESTED", 1)
        config = network.Config(
            levels=2, encoder=(4, 4, 8, 8, 8), radius=1, cost_features=4,
            decoder=(4, 4), dilations=(1, 1), hidden=2,
        )  # fmt: skip
        monkeypatch.setattr(script, "NETWORK", config)
        yield script


def test_each_condition_differs_from_the_base_by_one_ingredient(ablations):
    base = ablations.switches(ablations.BASE)
    changed = []
    for condition in ablations.CONDITIONS[1:]:
        on = ablations.switches(condition)
        (name,) = (name for name in on if on[name] != base[name])
        assert condition == f"{'with' if on[name] else 'without'} {name}"
        changed.append(name)
    assert sorted(changed) == sorted((*ablations.SHIPPED, *ablations.ADDED))


def test_a_normal_number_has_the_mean_of_the_heavy_tailed_one(ablations, rng):
    heavy = synthetic.Spread(sigma=2.1, power=1.9, limit=60.0, probability=0.8)
    light = ablations.lighter(heavy)
    assert (light.power, light.limit, light.probability) == (1.0, 60.0, 0.8)
    normal = np.abs(rng.normal(size=400_000))
    found = np.mean(light.sigma * normal)
    # The heavier of the two has a standard deviation of 1.4 means: known to 0.2 %.
    assert found == pytest.approx(np.mean((2.1 * normal) ** 1.9), rel=0.01)


@pytest.mark.slow
def test_the_base_is_what_the_shipped_recipe_draws(ablations):
    on = ablations.switches(ablations.BASE)
    pictures = ablations.bank(on)
    shipped = ablations.scale_shared

    def draw(key, on):
        one = shipped.draw(
            key, bank=pictures, scenes=2, size=ablations.SIZE, noise=0.04
        )
        return one, ablations.draw(key, on, pictures)

    expected, found = jax.jit(draw)(jax.random.key(5), on)
    for name in expected:
        # Rounding decides at an outline.
        same = np.isclose(found[name], expected[name], atol=1e-4)
        assert np.mean(same) > 0.999


def test_pictures_that_are_left_out_are_replaced_by_the_others(ablations):
    on = ablations.switches("without dead leaves")
    pictures = np.asarray(ablations.bank(on))
    assert pictures.shape == (9, 8, 8, 3)
    # Photographs are below 40 here, dead leaves from 60 to 99, noise above.
    assert not np.any((pictures >= 60) & (pictures < 100))
    assert np.any(pictures < 40) and np.any(pictures >= 120)


def test_the_table_compares_a_seed_with_its_own_base(ablations):
    def line(condition, seed, pairs, scenes):
        errors = {"scenes": scenes, "kitti2012": pairs, "hd1k": 2 * pairs}
        return {"condition": condition, "seed": seed, "epe": errors}

    rows = [
        line("base", 0, 1.0, 4.0),
        line("base", 1, 3.0, 4.0),
        line("with fog", 0, 1.1, 5.0),
        line("with fog", 1, 2.4, 3.0),
        line("with fog", 2, 9.0, 9.0),
    ]
    head, _, base, fog = ablations.table(rows).splitlines()
    assert head.startswith("| scenes | pairs, % | each seed | scenes, % |")
    assert base == "| base | 0 | -50.0, +50.0 | 4.00 px | 2.00 px | 4.00 px |"
    # -20 % and +10 %; drawn scenes +25 % and -25 %.
    assert fog == "| with fog | -5.0 | +10.0, -20.0 | +0.0 | -5.0 | -5.0 |"
    assert ablations.table(rows[2:]) == "no line of the base yet"


def test_goes_on_where_it_was_stopped(ablations, monkeypatch, tmp_path, capsys):
    calls = []

    def measure(condition, seed, steps, data):
        calls.append((condition, seed, steps))
        return {"scenes": 1.0, "middlebury": 2.0 + seed}

    monkeypatch.setattr(ablations, "measure", measure)
    args = ablations.Args(only="[bw]*[es]", seeds=(3,), steps=7, folder=tmp_path)
    path = tmp_path / "scene_ablations.jsonl"
    errors = {"scenes": 1.0, "middlebury": 4.0}
    done = {"condition": "with shadows", "seed": 3, "steps": 7, "epe": errors}
    other = done | {"condition": "base", "steps": 8}
    text = json.dumps(done) + "\n" + json.dumps(other) + '\n{"condition": "with'
    path.write_text(text)
    ablations.main(args)
    names = [name for name, *_ in calls]
    assert names[:2] == ["base", "without photographs"] and "with shadows" not in names
    assert all(name[-1] in "es" for name in names) and set(calls[0][1:]) == {3, 7}
    many = len(calls)
    assert len(ablations.main(args)) == 1 + many == 1 + len(calls)
    assert "| with shadows | -20.0 | -20.0 | +0.0 | -20.0 |" in capsys.readouterr().out


@pytest.mark.slow
def test_trains_and_tests_a_network(ablations, tmp_path, rng):
    scene = tmp_path / "Venus"
    scene.mkdir()
    for name in ("frame10.png", "frame11.png"):
        io.write_image(scene / name, rng.integers(0, 256, (40, 56, 3), np.uint8))
    io.write_flow(scene / "flow10.flo", np.ones((40, 56, 2), np.float32))
    data = ablations.open_data([f"middlebury={tmp_path}"])
    found = ablations.measure("with JPEG", 3, 1, data)
    assert set(found) == {"scenes", "middlebury"}
    assert all(np.isfinite(value) for value in found.values())


def test_refuses_what_it_cannot_run(ablations, monkeypatch, tmp_path):
    with pytest.raises(ValueError, match=r"--data: give NAME=DIR, NAME one of chairs"):
        ablations.main(ablations.Args(data=("venus",), folder=tmp_path))
    monkeypatch.setattr(ablations, "STRIDE", 25)
    with pytest.raises(ValueError, match=r"--steps: give a multiple of 25; got 30"):
        ablations.main(ablations.Args(steps=30, folder=tmp_path))
