"""Tests for jaxflow.checkpoint."""

import pathlib
import shutil
import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxflow import checkpoint


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
