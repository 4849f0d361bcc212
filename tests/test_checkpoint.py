"""Tests for jaxflow.checkpoint."""

import dataclasses
import hashlib
import pathlib
import shutil
import types
import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import safetensors.numpy
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jaxflow
from jaxflow import checkpoint, models, spec


class Net(nnx.Module):
    def __init__(self, features=4, *, rngs):
        self.blocks = nnx.data([nnx.Linear(3, features, rngs=rngs) for _ in range(2)])
        self.norm = nnx.BatchNorm(features, rngs=rngs)

    def __call__(self, x):
        return self.norm(self.blocks[0](x) + self.blocks[1](x))


class State(NamedTuple):
    step: jax.Array
    params: dict
    opt_state: tuple
    key: jax.Array


def make_state(seed=0, step=0, features=4):
    params = checkpoint.weights_of(Net(features, rngs=nnx.Rngs(seed)))["params"]
    return State(
        jnp.asarray(step), params, optax.adamw(1e-3).init(params), jax.random.key(seed)
    )


def assert_equal(actual, expected):
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        a, b = (
            jax.random.key_data(x) if x.dtype == actual.key.dtype else x for x in (a, b)
        )
        np.testing.assert_array_equal(a, b)


def flip_bytes(folder: pathlib.Path):
    """Inverts eight bytes in the middle of the largest file: an undetected bit rot."""
    largest = max(
        (p for p in folder.rglob("*") if p.is_file()),
        key=lambda p: p.stat().st_size,
    )
    content = bytearray(largest.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 8] = bytes(255 - b for b in content[middle : middle + 8])
    largest.write_bytes(content)


def test_a_model_comes_back_bit_for_bit_with_its_statistics(tmp_path):
    model, other = Net(rngs=nnx.Rngs(0)), Net(rngs=nnx.Rngs(1))
    x = jnp.ones((5, 3))
    model(x)  # moves the running statistics
    checkpoint.save(tmp_path / "net", model)
    checkpoint.restore(tmp_path / "net", other)
    model.eval(), other.eval()
    np.testing.assert_array_equal(model(x), other(x))
    checkpoint.save(tmp_path / "net", other)  # and replacing it is allowed


def test_a_training_state_comes_back_onto_another_mesh(tmp_path):
    state = make_state(seed=3, step=7)
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",))
    everywhere = NamedSharding(mesh, PartitionSpec())
    target = jax.device_put(make_state(), everywhere)
    with checkpoint.Checkpoints(tmp_path) as run:
        assert run.restore(target) is None
        run.save(7, state, data={"next": 56}, metrics={"loss": 1.0})
        run.wait()
        restored, data = run.restore(target)
    assert_equal(restored, state)
    assert data == {"next": 56}
    assert {leaf.sharding for leaf in jax.tree.leaves(restored)} == {everywhere}


def test_the_newest_two_and_the_best_are_kept(tmp_path):
    with checkpoint.Checkpoints(tmp_path) as run:
        for step, loss in enumerate([5.0, 1.0, 4.0, 3.0, 2.0]):
            run.save(step, make_state(step=step), metrics={"loss": loss})
        run.wait()
        assert run.steps() == [1, 3, 4]
        assert run.best_step() == 1


def test_saving_what_orbax_declines_is_an_error(tmp_path):
    with checkpoint.Checkpoints(tmp_path) as run:
        run.save(5, make_state())
        run.wait()
        with pytest.raises(RuntimeError, match=r"step 3 was not saved.*\[5\]"):
            run.save(3, make_state())


@pytest.mark.parametrize("damage", ["bit flips", "truncated", "no metadata", "empty"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, damage):
    with checkpoint.Checkpoints(tmp_path) as run:
        for step in (1, 2):
            run.save(step, make_state(seed=step, step=step))
    newest = tmp_path / "2"
    if damage == "bit flips":
        flip_bytes(newest)
    elif damage == "truncated":
        for file in (newest / "state").rglob("*"):
            if file.is_file():
                file.write_bytes(file.read_bytes()[:10])
    elif damage == "no metadata":
        shutil.rmtree(newest / "meta")
    else:
        shutil.rmtree(newest)
        newest.mkdir()
    with checkpoint.Checkpoints(tmp_path) as run:
        with pytest.warns(UserWarning, match=r"2 is damaged .* falling back"):
            restored, _ = run.restore(make_state())
        assert_equal(restored, make_state(seed=1, step=1))
        run.save(2, make_state(seed=2, step=2))  # the place is free again
    assert (tmp_path / "damaged" / "2").is_dir()


def test_when_all_are_damaged_training_does_not_silently_start_again(tmp_path):
    with checkpoint.Checkpoints(tmp_path) as run:
        run.save(1, make_state())
    flip_bytes(tmp_path / "1")
    with checkpoint.Checkpoints(tmp_path) as run, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match=r"every checkpoint in .* is damaged"):
            run.restore(make_state())
        assert run.steps() == [1]  # nor the next time


def test_another_architecture_is_an_error_and_not_damage(tmp_path):
    with checkpoint.Checkpoints(tmp_path) as run:
        run.save(1, make_state(features=4))
        run.wait()
        with pytest.raises(
            ValueError, match=r"does not fit: .*\(3, 4\), not .*\(3, 5\)"
        ):
            run.restore(make_state(features=5))
        assert run.steps() == [1]


def test_a_model_is_read_from_a_training_run(tmp_path):
    state = make_state(seed=3)
    weights = checkpoint.weights_of(Net(rngs=nnx.Rngs(3)))
    tree = {**state._asdict(), "stats": weights["stats"]}
    with checkpoint.Checkpoints(tmp_path / "checkpoints") as run:
        for step in (9, 10):
            run.save(step, tree)
    for folder in (tmp_path, tmp_path / "checkpoints", tmp_path / "checkpoints" / "9"):
        model = Net(rngs=nnx.Rngs(0))
        checkpoint.restore(folder, model)
        assert checkpoint.weights_of(model)["params"].keys() == state.params.keys()
        np.testing.assert_array_equal(
            model.blocks[1].kernel[...], state.params["blocks"][1]["kernel"]
        )


def test_reading_what_is_absent_or_damaged_says_so(tmp_path):
    model = Net(rngs=nnx.Rngs(0))
    with pytest.raises(FileNotFoundError, match="no checkpoint in"):
        checkpoint.restore(tmp_path, model)
    checkpoint.save(tmp_path / "net", model)
    flip_bytes(tmp_path / "net")
    with pytest.raises(ValueError, match="net is damaged"):
        checkpoint.restore(tmp_path / "net", model)


@pytest.fixture
def registry(monkeypatch):
    digest = hashlib.sha256(b"weights").hexdigest()
    weights = spec.Weights(
        file="toy.pth",
        source="the toy makers' page",
        licence="CC-BY",
        dialect="toy",
        sha256=digest[:8],
        num_params=1,
    )
    module = types.SimpleNamespace(WEIGHTS={"toy/chairs": weights})
    monkeypatch.setattr(models, "list_models", lambda: ["toy"])
    monkeypatch.setattr(models, "find", lambda name: _Hashable(module))
    return weights


class _Hashable:
    def __init__(self, module):
        self.WEIGHTS = module.WEIGHTS


def test_published_weights_are_verified_or_their_source_is_named(tmp_path, registry):
    with pytest.raises(FileNotFoundError, match=r"toy makers' page; licence: CC-BY"):
        checkpoint.pretrained("toy/chairs", cache=tmp_path)
    (tmp_path / "toy.pth").write_bytes(b"weights")
    path, weights = checkpoint.pretrained("toy/chairs", cache=tmp_path)
    assert (path, weights) == (tmp_path / "toy.pth", registry)
    (tmp_path / "toy.pth").write_bytes(b"weightz")
    with pytest.raises(ValueError, match="is not toy/chairs: its SHA-256"):
        checkpoint.pretrained("toy/chairs", cache=tmp_path)
    with pytest.raises(ValueError, match=r"no weights are named 'toy/things'"):
        checkpoint.pretrained("toy/things", cache=tmp_path)


def test_the_cache_is_where_the_variable_says(tmp_path, registry, monkeypatch):
    monkeypatch.setenv("JAXFLOW_CACHE", str(tmp_path))
    (tmp_path / "toy.pth").write_bytes(b"weights")
    assert checkpoint.pretrained("toy/chairs")[0].parent == tmp_path


def test_a_pretrained_network_is_built_from_its_file(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    source = models.create_model("spynet")
    path = tmp_path / "network-sintel-final.safetensors"
    state = {}
    for index in range(len(source.levels)):
        for layer, part in enumerate(source.levels[index].convs):
            name = f"moduleBasic.{index}.moduleBasic.{2 * layer}"
            kernel = rng.normal(size=part.kernel.shape).astype(np.float32)
            state[f"{name}.weight"] = kernel.transpose(3, 2, 0, 1).copy()
            state[f"{name}.bias"] = rng.normal(size=part.bias.shape).astype(np.float32)
    safetensors.numpy.save_file(state, path)
    known = {
        name: dataclasses.replace(weights, sha256="")
        for name, weights in checkpoint.published().items()
    }
    monkeypatch.setattr(checkpoint, "published", lambda: known)
    name = "spynet/sintel-final"
    model = jaxflow.load_pretrained(name, path=path)
    np.testing.assert_array_equal(
        model.levels[0].convs[0].bias[...], state["moduleBasic.0.moduleBasic.0.bias"]
    )
    with pytest.raises(FileNotFoundError, match="its authors offer it"):
        jaxflow.load_pretrained(name, path=tmp_path / "elsewhere.pth")
