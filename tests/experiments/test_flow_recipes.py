"""Each recipe of experiments/flow trains, stops, and goes on where it was."""

import importlib.util
import json
import pathlib
import sys

import jax
import numpy as np
import pytest

from jaxflow import checkpoint
from jaxflow.models.flow import pwcnet, spynet

FOLDER = pathlib.Path(__file__).parents[2] / "experiments" / "flow"


@pytest.fixture
def recipe():
    """Imports a recipe by name."""
    if not FOLDER.is_dir():
        pytest.skip("installed without its experiments")

    def load(name):
        spec = importlib.util.spec_from_file_location(
            f"recipe_{name}", FOLDER / f"{name}.py"
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def one_device(monkeypatch):
    """Keeps to one device: compiling for eight takes longer."""
    device = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda *args: device)


def logged_steps(folder):
    return [json.loads(row)["step"] for row in (folder / "metrics.jsonl").open()]


def same(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


@pytest.mark.usefixtures("one_device")
def test_pwcnet_resumes_from_the_command_line_arguments_alone(recipe, tmp_path):
    module = recipe("pwcnet")

    def run(folder, steps):
        args = module.Args(
            workdir=tmp_path / folder, preset="translation", steps=steps,
            batch_size=2, size=(64, 64), save_every=2,
        )  # fmt: skip
        return module.main(args, pwcnet.TINY)

    run("parts", 2)
    parts = run("parts", 3)
    assert same(parts.params, run("whole", 3).params)
    assert logged_steps(tmp_path / "parts") == [2, 3]

    model = pwcnet.Model(pwcnet.TINY, rngs=module.nnx.Rngs(1))
    checkpoint.restore(tmp_path / "parts", model)
    assert same(checkpoint.weights_of(model)["params"], parts.params)


def test_pwcnet_follows_the_published_schedule(recipe):
    module = recipe("pwcnet")
    stage = module.STAGES["chairs"]
    params = {"kernel": np.ones((2, 2), np.float32), "bias": np.ones(2, np.float32)}
    assert module.kernels(params) == {"kernel": True, "bias": False}
    shrunk = module.make_optimiser(stage, 120)
    zeros = jax.tree.map(np.zeros_like, params)
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = shrunk.update(zeros, shrunk.init(params), params)
    # Adam's first step is the rate, and only what decays has a gradient.
    np.testing.assert_allclose(updates["kernel"], -1e-4, rtol=1e-3)
    np.testing.assert_array_equal(updates["bias"], 0)


@pytest.mark.usefixtures("one_device")
def test_pwcnet_trains_on_a_prepared_data_set(recipe, tmp_path, monkeypatch):
    pytest.importorskip("grain")
    flying_chairs = pytest.importorskip("jaxflow.data.flying_chairs")
    rng = np.random.default_rng(0)
    pairs = [
        {
            "image1": rng.integers(0, 255, (80, 96, 3), np.uint8),
            "image2": rng.integers(0, 255, (80, 96, 3), np.uint8),
            "flow": rng.normal(size=(80, 96, 2)).astype(np.float32),
        }
        for _ in range(4)
    ]

    class Builder:
        def as_data_source(self, split):
            assert split == "train"
            return pairs

    monkeypatch.setattr(flying_chairs, "prepare", lambda folder, made: Builder())
    module = recipe("pwcnet")

    def run(steps):
        args = module.Args(
            workdir=tmp_path, data=tmp_path, steps=steps, batch_size=2,
            size=(64, 64), save_every=1,
        )  # fmt: skip
        return module.main(args, pwcnet.TINY)

    run(1)
    assert int(run(2).step) == 2


@pytest.mark.usefixtures("one_device")
def test_spynet_trains_level_by_level_and_leaves_the_coarser_ones(recipe, tmp_path):
    module = recipe("spynet")
    args = module.Args(
        workdir=tmp_path, preset="translation", levels=2, steps_per_level=2,
        batch_size=2, size=(64, 64), save_every=1,
    )  # fmt: skip
    config = spynet.Config(networks=2, max_levels=2, features=(4, 4), kernel_size=3)
    first = module.main(args, config)

    states = []
    for level in (0, 1):
        model = spynet.Model(config, rngs=module.nnx.Rngs(5))
        checkpoint.restore(tmp_path / f"level{level}", model)
        states.append(checkpoint.weights_of(model)["params"]["levels"])
    assert same(states[0][0], states[1][0])
    assert not same(states[1][0], states[1][1])
    assert not same(states[0][1], states[1][1])

    again = module.main(args, config)  # nothing is left to do
    weights = [checkpoint.weights_of(model) for model in (first, again)]
    assert same(*weights)
