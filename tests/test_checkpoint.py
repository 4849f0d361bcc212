"""Tests for jaxflow.checkpoint."""

import pathlib
import shutil
import warnings
import zipfile
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxflow import checkpoint
from jaxflow.io import orbax_files

FIXTURES = pathlib.Path(__file__).parent / "fixtures"


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


def test_a_sharded_state_comes_back_sharded_otherwise(tmp_path):
    state = make_state(seed=3, step=7)
    mesh = Mesh(np.array(jax.devices()), ("data",))
    other = Mesh(np.array(jax.devices()[:2]), ("data",))

    def split(tree, mesh):
        def put(leaf):
            parts = [None] * (leaf.ndim - 1) + ["data"] * (leaf.ndim > 1)
            return jax.device_put(leaf, NamedSharding(mesh, PartitionSpec(*parts)))

        return jax.tree.map(put, tree)

    state, target = (
        split(make_state(s, n, features=8), m)
        for s, n, m in ((3, 7, mesh), (0, 0, other))
    )
    with checkpoint.Checkpoints(tmp_path) as run:
        run.save(7, state)
        run.wait()
        restored, _ = run.restore(target)
    assert_equal(restored, state)
    for leaf, goal in zip(*map(jax.tree.leaves, (restored, target)), strict=True):
        assert leaf.sharding == goal.sharding


def test_a_state_may_be_donated_as_soon_as_save_returns(tmp_path):
    kept = jax.tree.map(np.asarray, make_state(step=1)[:-1])
    state = make_state(step=1)
    change = jax.jit(
        lambda tree: jax.tree.map(lambda x: x + jnp.ones_like(x), tree),
        donate_argnums=0,
    )
    with checkpoint.Checkpoints(tmp_path) as run:
        run.save(1, state)
        changed = change(state[:-1])
        jax.block_until_ready(changed)
        run.wait()
        restored, _ = run.restore(make_state())
    for a, b in zip(*map(jax.tree.leaves, (restored[:-1], kept)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def first_version(tmp_path_factory):
    """Checkpoints with one checksum of everything, as the first versions wrote them."""
    folder = tmp_path_factory.mktemp("first")
    zipfile.ZipFile(FIXTURES / "first_checkpoints.zip").extractall(folder)
    return folder


def test_checkpoints_of_the_first_version_are_read(first_version):
    with checkpoint.Checkpoints(first_version / "state") as run:
        restored, data = run.restore(make_state())
    assert_equal(restored, make_state(seed=3, step=7))
    assert data == {"position": {"count": 56}}
    model, same = Net(rngs=nnx.Rngs(1)), Net(rngs=nnx.Rngs(0))
    same(jnp.ones((5, 3)))
    checkpoint.restore(first_version / "net", model)
    model.eval(), same.eval()
    np.testing.assert_allclose(model(jnp.ones((2, 3))), same(jnp.ones((2, 3))), 1e-6)


def test_arrays_that_older_versions_lack_keep_their_values(first_version):
    target = {**make_state()._asdict(), "skipped": jnp.int32(3)}
    with checkpoint.Checkpoints(first_version / "state") as run:
        restored, _ = run.restore(target, newer=("skipped", "key"))
        with pytest.raises(ValueError, match="does not fit: skipped is missing"):
            run.restore(target)
    assert restored["skipped"] == 3 and restored["step"] == 7
    np.testing.assert_array_equal(
        *(jax.random.key_data(x) for x in (restored["key"], make_state(3).key))
    )


def test_a_random_key_comes_back_in_its_own_kind(tmp_path):
    key = jax.random.key(5, impl="threefry2x32")
    with checkpoint.Checkpoints(tmp_path) as run:
        run.save(1, {"key": key, "keys": jax.random.split(key, 3)})
        run.wait()
        target = {"key": jax.random.key(0, impl="rbg")}
        target["keys"] = jax.random.split(target["key"], 3)
        found, _ = run.restore(target)
    assert found["key"].dtype == key.dtype and found["keys"].shape == (3,)
    np.testing.assert_array_equal(*(jax.random.bits(k) for k in (found["key"], key)))


def test_a_position_in_the_data_may_hold_bytes_and_numbers_of_numpy(tmp_path):
    data = {"position": {"iterator": b"\x00\xff", "at": [1, {"n": 2}]}}
    given = {"position": {"iterator": b"\x00\xff", "at": (np.int64(1), {"n": 2})}}
    with checkpoint.Checkpoints(tmp_path) as run:
        run.save(1, make_state(), data=given)
        run.wait()
        assert run.restore(make_state())[1] == data


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


@pytest.mark.parametrize(
    "name", ["metrics", "metadata", "_METADATA", "manifest.ocdbt", "process_0"]
)
def test_torn_small_files_cost_at_most_one_step(tmp_path, name):
    with checkpoint.Checkpoints(tmp_path) as run:
        for step in (1, 2):
            state = make_state(seed=step, step=step)
            run.save(step, state, metrics={"loss": 1.0})
    for file in (tmp_path / "2").rglob(name):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:-9])
    with (
        warnings.catch_warnings(record=True, action="always"),
        checkpoint.Checkpoints(tmp_path) as run,
    ):
        step = int(run.restore(make_state())[0].step)
        assert step == (2 if name == "metrics" else 1)
        run.save(3, make_state(step=3), metrics={"loss": 2.0})


@pytest.mark.parametrize(
    "error",
    [
        *(MemoryError(), TimeoutError("slow"), PermissionError(13, "not yours")),
        *(OSError(5, "Input/output error"), RuntimeError("RESOURCE_EXHAUSTED: 9 GiB")),
        ValueError("UNAVAILABLE: try again"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_fault_of_the_moment_is_raised_and_moves_nothing(
    tmp_path, monkeypatch, error
):
    with checkpoint.Checkpoints(tmp_path) as run:
        for step in (1, 2):
            run.save(step, {"x": jnp.ones(3)})
        run.wait()

        def fail(*_, **__):
            raise error

        monkeypatch.setattr(orbax_files.ocp.StandardCheckpointHandler, "restore", fail)
        with pytest.raises(type(error)) as raised:
            run.restore({"x": jnp.ones(3)})
        assert raised.value is error and run.steps() == [1, 2]


def test_the_best_may_be_the_highest(tmp_path):
    with checkpoint.Checkpoints(tmp_path, best="acc", best_mode="max", keep=1) as run:
        for step, accuracy in enumerate([0.1, 0.9, 0.4]):
            run.save(step, {"x": jnp.ones(3)}, metrics={"acc": accuracy})
        run.wait()
        assert run.steps() == [1, 2] and run.best_step() == 1
    with pytest.raises(ValueError, match="`best_mode` must be one of"):
        checkpoint.Checkpoints(tmp_path, best_mode="highest")


def test_storage_that_cannot_be_reached_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    places = ("gs://bucket/run", pathlib.Path("gs://bucket/run"))
    for place in places:
        for use in (
            checkpoint.Checkpoints,
            lambda p: checkpoint.save(p, Net(rngs=nnx.Rngs(0))),
        ):
            with pytest.raises(
                OSError, match=r"^gs:/.*(gcsfs|cannot be reached)"
            ) as raised:
                use(place)
            assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


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


def test_what_is_no_checkpoint_is_never_replaced(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.png").write_text("mine")
    model = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="holds something else than a checkpoint"):
        checkpoint.save(tmp_path / "photos", model)
    for place in ("photos/one.png", "photos/one.png/net"):
        with pytest.raises(OSError, match="must be a folder"):
            checkpoint.save(tmp_path / place, model)
        with pytest.raises(OSError, match="must be a folder"):
            checkpoint.Checkpoints(tmp_path / place)
    assert (tmp_path / "photos" / "one.png").read_text() == "mine"


def test_a_model_that_cannot_be_saved_leaves_the_one_before(tmp_path, monkeypatch):
    first, second = (nnx.Linear(2, 2, rngs=nnx.Rngs(seed)) for seed in (0, 1))
    checkpoint.save(tmp_path / "net", first)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.ocp.StandardCheckpointer, "save", full)
        with pytest.raises(OSError, match=r"net: .* No space left on device"):
            checkpoint.save(tmp_path / "net", second)
    checkpoint.restore(tmp_path / "net", second)
    np.testing.assert_array_equal(second.kernel[...], first.kernel[...])
    checkpoint.save(tmp_path / "net", nnx.Linear(2, 2, rngs=nnx.Rngs(2)))
    assert [each.name for each in tmp_path.iterdir()] == ["net"]
