"""Tests for jaxflow.train."""

import json
import math
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxflow import averaging, train
from jaxflow import mesh as meshes
from jaxflow.layers import conv, norm


class Net(nnx.Module):
    """Two convolutions, with statistics and dropout for training to carry."""

    def __init__(self, *, rngs):
        # A bias before normalisation has no gradient but rounding, which Adam scales.
        self.blocks = nnx.data(
            [conv.Conv(3, 4, use_bias=False, rngs=rngs), conv.Conv(4, 2, rngs=rngs)]
        )
        self.norm = norm.BatchNorm(4)
        self.dropout = nnx.Dropout(0.2, rngs=rngs)
        self.deterministic = True

    def __call__(self, x):
        x = jax.nn.relu(self.norm(self.blocks[0](x)))
        return self.blocks[1](self.dropout(x))


class Batches:
    """An iterator with a position, as Grain's are."""

    def __init__(self, batch_size=8, bad_step=None):
        self.batch_size, self.bad_step, self.count = batch_size, bad_step, 0

    def __next__(self):
        rng = np.random.default_rng(self.count)
        self.count += 1
        x = rng.normal(size=(self.batch_size, 6, 7, 3)).astype(np.float32)
        if self.count == self.bad_step:
            x[0, 0, 0, 0] = np.nan
        return {"x": x, "y": x[..., :2] * 2}

    def get_state(self):
        return {"count": self.count}

    def set_state(self, state):
        self.count = state["count"]


def loss(model, batch):
    error = model(batch["x"]) - batch["y"]
    return jnp.mean(error**2), {"worst": jnp.max(jnp.abs(error))}


def draw(key, batch_size=8):
    x = jax.random.normal(key, (batch_size, 6, 7, 3))
    return {"x": x, "y": x[..., :2] * 2}


OPTIMISER = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-2))


def setup(draw=None, devices=1):
    model = Net(rngs=nnx.Rngs(0))
    mesh = train.data_mesh(jax.devices()[:devices])
    step = train.make_step(model, loss, OPTIMISER, draw=draw, mesh=mesh)
    return model, step, train.init(model, OPTIMISER, seed=1)


def leaves(state):
    arrays = [*jax.tree.leaves(state[:-1]), jax.random.key_data(state.key)]
    return [np.asarray(array) for array in arrays]


def assert_same(a, b, **tolerance):
    for x, y in zip(leaves(a), leaves(b), strict=True):
        np.testing.assert_allclose(x, y, **(tolerance or {"rtol": 0, "atol": 0}))


def rows(folder):
    return [json.loads(row) for row in (folder / "metrics.jsonl").open()]


@pytest.mark.parametrize("draw", [None, draw], ids=["given", "drawn"])
def test_eight_devices_take_the_same_step_as_one(draw):
    results = []
    for devices in (1, 8):
        _, step, state = setup(draw, devices)
        batches = None if draw else Batches()
        results.append(train.fit(step, state, batches, steps=1, progress=False))
    # Sums over the batch are taken in another order; one AdamW step at 1e-2.
    assert_same(*results, rtol=0, atol=1e-5)


def test_the_loss_falls_and_the_model_is_filled_and_in_evaluation_mode():
    model, step, state = setup(draw)
    before = np.asarray(model.blocks[0].kernel[...])
    x, y = (draw(jax.random.key(9))[name] for name in "xy")
    state = train.fit(step, state, steps=150, progress=False)
    np.testing.assert_array_equal(model.blocks[0].kernel[...], before)
    train.finish(model, state)
    np.testing.assert_array_equal(model(x), model(x))  # no dropout
    assert jnp.mean((model(x) - y) ** 2) < 0.5 * jnp.mean(y**2)
    assert np.abs(model.norm.mean[...]).max() > 0
    train.finish(model, state)  # the state is still there


@pytest.mark.parametrize("draw", [None, draw], ids=["given", "drawn"])
def test_a_resumed_run_is_the_same_run_bit_for_bit(tmp_path, draw):
    def run(folder, steps):
        _, step, state = setup(draw)
        batches = None if draw else Batches()
        return train.fit(
            step, state, batches, steps=steps, workdir=folder, log_every=2,
            save_every=3, progress=False,
        )  # fmt: skip

    whole = run(tmp_path / "whole", 7)
    run(tmp_path / "parts", 3)
    parts = run(tmp_path / "parts", 7)
    assert_same(whole, parts)
    assert_same(whole, run(tmp_path / "parts", 7))  # nothing is left to do
    names = ("step", "loss", "worst", "grad_norm")
    logged = [
        [[row[name] for name in names] for row in rows(tmp_path / folder)]
        for folder in ("whole", "parts")
    ]
    assert logged[0] == logged[1]


def test_rows_logged_after_the_checkpoint_are_forgotten_on_resuming(tmp_path):
    _, step, state = setup(draw)
    fit = {"workdir": tmp_path, "log_every": 1, "progress": False}
    train.fit(step, state, steps=2, **fit)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "loss": 123.0}\n')  # then the power failed
    _, step, state = setup(draw)
    train.fit(step, state, steps=4, **fit)
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3, 4]
    assert rows(tmp_path)[2]["loss"] != 123.0
    assert list((tmp_path / "tensorboard").iterdir())


@pytest.mark.parametrize("log_every", [1, 4])
def test_a_loss_that_is_not_finite_stops_and_names_the_step(tmp_path, log_every):
    _, step, state = setup()
    with pytest.raises(FloatingPointError, match="loss is nan at step 3; training"):
        train.fit(
            step, state, Batches(bad_step=3), steps=8, workdir=tmp_path,
            log_every=log_every, save_every=4, progress=False,
        )  # fmt: skip
    assert not (tmp_path / "checkpoints" / "4").exists()


def test_the_best_checkpoint_is_chosen_by_the_evaluation(tmp_path):
    _, step, state = setup(draw)

    def evaluate(state):
        return {"epe": abs(int(state.step) - 2.0)}

    train.fit(
        step, state, steps=5, workdir=tmp_path, save_every=1, evaluate=evaluate,
        best="epe", progress=False,
    )  # fmt: skip
    kept = {int(path.name) for path in (tmp_path / "checkpoints").iterdir()}
    assert kept == {2, 4, 5}
    assert [row["epe"] for row in rows(tmp_path)] == [1.0, 0.0, 1.0, 2.0, 3.0]


def test_augmentation_runs_inside_the_step_and_differs_from_step_to_step():
    seen = []

    def augment(key, batch):
        jax.debug.callback(lambda x: seen.append(float(x)), jax.random.uniform(key))
        return {name: -array for name, array in batch.items()}

    results = []
    for function, sign in ((augment, -1), (None, 1)):
        model = Net(rngs=nnx.Rngs(0))
        mesh = train.data_mesh(jax.devices()[:1])
        step = train.make_step(model, loss, OPTIMISER, augment=function, mesh=mesh)
        batches = [
            {name: sign * array for name, array in next(given).items()}
            for given in [Batches()]
            for _ in range(2)
        ]
        state = train.init(model, OPTIMISER, seed=1)
        results.append(train.fit(step, state, iter(batches), steps=2, progress=False))
    assert_same(*results)
    jax.effects_barrier()
    assert len(set(seen)) == 2


def test_the_state_is_donated():
    _, step, state = setup(draw)
    after, _ = step.run(state)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))
    assert math.isfinite(float(jax.tree.leaves(after.params)[0].sum()))


def test_what_cannot_be_trained_is_refused_at_the_door(tmp_path):
    _, step, state = setup(devices=8)
    with pytest.raises(ValueError, match="batch of 6 does not divide over 8 devices"):
        train.fit(step, state, Batches(batch_size=6), steps=1, progress=False)
    with pytest.raises(ValueError, match="`batches` must be given"):
        train.fit(step, state, steps=1)
    _, drawing, state = setup(lambda key: draw(key, 6), devices=8)
    with pytest.raises(ValueError, match="batch of 6 does not divide over 8 devices"):
        train.fit(drawing, state, steps=1, progress=False)
    plain = (next(Batches()) for _ in range(9))
    _, step, state = setup()
    with pytest.warns(UserWarning, match="cannot be resumed"):
        train.fit(step, state, plain, steps=1, workdir=tmp_path, progress=False)
    _, step, state = setup()
    with (
        pytest.warns(UserWarning, match="cannot be resumed"),
        pytest.raises(ValueError, match="cannot return to where the checkpoint"),
    ):
        train.fit(step, state, plain, steps=2, workdir=tmp_path, progress=False)


def test_a_grain_iterator_resumes_where_it_was(tmp_path):
    grain = pytest.importorskip("grain")

    def batches():
        samples = [next(Batches(batch_size=1)) for _ in range(40)]
        samples = [{k: v[0] + i for k, v in s.items()} for i, s in enumerate(samples)]
        dataset = grain.MapDataset.source(samples).seed(5).shuffle().repeat()
        return iter(dataset.batch(8).to_iter_dataset())

    def run(folder, steps):
        _, step, state = setup()
        return train.fit(
            step, state, batches(), steps=steps, workdir=folder, progress=False
        )

    run(tmp_path / "parts", 2)
    assert_same(run(tmp_path / "whole", 5), run(tmp_path / "parts", 5))


class Interrupted(Batches):
    """An iterator in whose third batch a signal comes."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def __next__(self):
        if self.count == 2 and self.number:
            signal.raise_signal(self.number)
        return super().__next__()


@pytest.mark.parametrize(
    ("number", "error"),
    [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)],
)
def test_a_signal_saves_the_step_and_the_run_goes_on_from_it(tmp_path, number, error):
    fit = {"steps": 5, "progress": False}
    _, step, state = setup()
    whole = train.fit(step, state, Batches(), **fit)
    _, step, state = setup()
    with pytest.raises(error):
        train.fit(step, state, Interrupted(number), workdir=tmp_path, **fit)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["3"]
    _, step, state = setup()
    assert_same(whole, train.fit(step, state, Batches(), workdir=tmp_path, **fit))


def test_what_would_train_nothing_or_wipe_a_run_is_refused(tmp_path):
    _, step, state = setup(draw)
    train.fit(step, state, steps=3, workdir=tmp_path, progress=False)
    kept = (tmp_path / "metrics.jsonl").read_bytes()
    _, step, state = setup(draw)
    with pytest.raises(ValueError, match=r"`steps` is 2, but .* has taken 3 already"):
        train.fit(step, state, steps=2, workdir=tmp_path, progress=False)
    _, step, state = setup(draw)
    with pytest.raises(
        ValueError, match=r"holds steps \[3\], later than the state's 0"
    ):
        train.fit(step, state, steps=9, workdir=tmp_path, resume=False, progress=False)
    assert (tmp_path / "metrics.jsonl").read_bytes() == kept


def test_a_torn_last_row_is_mended(tmp_path):
    _, step, state = setup(draw)
    train.fit(step, state, steps=2, workdir=tmp_path, log_every=1, progress=False)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    _, step, state = setup(draw)
    train.fit(step, state, steps=3, workdir=tmp_path, log_every=1, progress=False)
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3]


def test_nothing_is_lost_when_judging_fails_or_the_data_end(tmp_path):
    def broken(state):
        raise ZeroDivisionError

    _, step, state = setup(draw)
    with pytest.raises(ZeroDivisionError):
        train.fit(
            step, state, steps=2, workdir=tmp_path / "a", evaluate=broken,
            progress=False,
        )  # fmt: skip
    _, step, state = setup(draw)
    with pytest.raises(ValueError, match=r"`best` is 'epe', .* \['a', 'grad_norm'"):
        train.fit(
            step, state, steps=2, workdir=tmp_path / "b", best="epe", progress=False,
            evaluate=lambda state: {"a": 1},
        )  # fmt: skip
    _, step, state = setup()
    ending = iter([next(Batches()), next(Batches())])
    with (
        pytest.warns(UserWarning, match="cannot be resumed"),
        pytest.raises(ValueError, match="ended before step 3 of 9"),
    ):
        train.fit(step, state, ending, steps=9, workdir=tmp_path / "c", progress=False)
    for folder in "abc":
        assert (tmp_path / folder / "checkpoints" / "2").is_dir(), folder


def test_metrics_of_any_scalar_kind_are_kept(tmp_path):
    _, step, state = setup(draw)
    train.fit(
        step, state, steps=1, workdir=tmp_path, progress=False, best="a",
        evaluate=lambda state: {"a": jnp.float32(0.5), "b": np.float16(2)},
    )  # fmt: skip
    assert rows(tmp_path)[0]["a"] == 0.5 and rows(tmp_path)[0]["b"] == 2.0


def test_a_scalar_in_a_batch_is_refused():
    _, step, state = setup()
    with pytest.raises(ValueError, match="must have a first axis"):
        train.fit(step, state, iter([{"x": np.float32(1)}]), steps=1, progress=False)


def other_runs():
    """Yields steps and states of runs that are not that of `setup(draw)`."""
    model, step, _ = setup(draw)
    yield "random key", step, train.init(model, OPTIMISER, seed=2)
    yield "other weights", step, train.init(Net(rngs=nnx.Rngs(5)), OPTIMISER, seed=1)
    for name in ("loss", "draw", "optimiser"):
        told = {"loss": loss, "draw": draw, "optimiser": OPTIMISER}
        if name == "loss":
            told["loss"] = lambda model, batch: 2 * loss(model, batch)[0]
        elif name == "draw":
            told["draw"] = lambda key: draw(key, 4)
        else:
            clip = optax.clip_by_global_norm(1.0)
            told["optimiser"] = optax.chain(clip, optax.adamw(1e-3))
        mesh = train.data_mesh(jax.devices()[:1])
        other = train.make_step(model, mesh=mesh, **told)
        yield "its step", other, train.init(model, told["optimiser"], seed=1)


def test_another_run_does_not_go_on_in_the_folder_of_the_one_before(tmp_path, capsys):
    fit = {"steps": 2, "workdir": tmp_path, "progress": False}
    _, step, state = setup(draw)
    train.fit(step, state, **fit)
    for name, step, state in other_runs():
        with pytest.raises(ValueError, match=f"another run: .*{name}"):
            train.fit(step, state, **fit)
    assert [start["step"] for start in record(tmp_path)["starts"]] == [0]
    _, step, state = setup(draw)
    train.fit(step, state, **fit)
    assert (
        "all 2 steps were taken before; nothing is trained" in capsys.readouterr().err
    )
    (tmp_path / "run.json").unlink()  # the way out that the message names
    train.fit(*list(other_runs())[-1][1:], **{**fit, "steps": 3})
    assert [start["step"] for start in record(tmp_path)["starts"]] == [2]


def record(folder):
    return json.loads((folder / "run.json").read_text())


def test_a_run_with_a_config_is_judged_by_it(tmp_path):
    fit = {"steps": 2, "workdir": tmp_path, "progress": False}
    _, step, state = setup(draw)
    train.fit(step, state, config={"rate": 1e-2, "data": "chairs"}, **fit)
    for _, step, state in list(other_runs())[1:]:  # all but the key
        train.fit(step, state, config={"rate": 1e-2, "data": "chairs"}, **fit)
    with pytest.raises(
        ValueError, match=r"run: `data` was chairs and is things\. Choo"
    ):
        train.fit(step, state, config={"rate": 1e-2, "data": "things"}, **fit)
    with pytest.raises(ValueError, match="`config` must hold plain values; 'a' is a"):
        train.fit(step, state, config={"a": step}, **fit)


def test_the_stage_after_with_its_model_is_not_trained_without_a_word(tmp_path, capsys):
    fit = {"steps": 2, "workdir": tmp_path, "progress": False}
    model, step, state = setup()
    train.finish(model, train.fit(step, state, Batches(), **fit))
    after = train.fit(step, train.init(model, OPTIMISER, seed=1), Batches(), **fit)
    assert int(after.step) == 2
    assert "nothing is trained" in capsys.readouterr().err


def test_two_runs_do_not_share_a_folder(tmp_path):
    _, step, state = setup(draw)

    def second(_):
        _, step, state = setup(draw)
        path = tmp_path / "metrics.jsonl"
        kept = path.exists() and path.read_bytes()
        with pytest.raises(OSError, match=r"is in use by process \d+ on .*; wait"):
            train.fit(step, state, steps=3, workdir=tmp_path, progress=False)
        assert (path.exists() and path.read_bytes()) == kept
        return {}

    train.fit(
        step, state, steps=2, workdir=tmp_path, progress=False, evaluate=second,
        save_every=1,
    )  # fmt: skip
    assert [row["step"] for row in rows(tmp_path)] == [1, 2]


def test_a_state_that_was_used_up_goes_on_from_the_folder_or_is_named(tmp_path):
    fit = {"workdir": tmp_path / "one", "progress": False}
    model, step, state = setup(draw)
    train.fit(step, state, steps=2, **fit)
    again = train.fit(step, state, steps=4, **fit)  # the cell of a notebook, run again
    _, step, fresh = setup(draw)
    assert_same(again, train.fit(step, fresh, steps=4, progress=False))
    for workdir in (None, tmp_path / "two"):
        with pytest.raises(ValueError, match=r"`state` was used up .* no checkpoint"):
            train.fit(step, state, steps=4, workdir=workdir, progress=False)
    with pytest.raises(ValueError, match="`state` was used up"):
        train.finish(model, state)


class Lost(Batches):
    """An iterator that does not find its position, now or at its next batch."""

    def __init__(self, late):
        super().__init__()
        self.late, self.lost = late, False

    def set_state(self, state):
        self.lost = True
        if not self.late:
            raise KeyError("exhausted")

    def __next__(self):
        return [][1] if self.lost else super().__next__()


@pytest.mark.parametrize("late", [False, True])
def test_batches_that_cannot_be_positioned_are_one_line_before_the_first_step(
    tmp_path, late
):
    fit = {"workdir": tmp_path, "progress": False}
    _, step, state = setup()
    train.fit(step, state, Lost(late), steps=1, **fit)
    kept = (tmp_path / "metrics.jsonl").read_bytes()
    what = "IndexError" if late else "KeyError: 'exhausted'"
    with pytest.raises(ValueError, match=rf"where step 1 left it \({what}.* workers"):
        train.fit(step, state, Lost(late), steps=2, **fit)
    assert (tmp_path / "metrics.jsonl").read_bytes() == kept


def test_a_position_that_json_cannot_hold_is_refused_before_the_first_step(tmp_path):
    batches = Batches()
    batches.get_state = lambda: {"count": {1, 2}}
    _, step, state = setup()
    with pytest.raises(ValueError, match="get_state returns must be plain values"):
        train.fit(step, state, batches, steps=1, workdir=tmp_path, progress=False)
    assert batches.count == 0


def losses_and_state(**options):
    """Twenty steps; with Adam's moments, which show any error of a gradient."""
    model = Net(rngs=nnx.Rngs(0))
    step = train.make_step(model, tall_loss, OPTIMISER, **options)
    state = meshes.place(train.init(model, OPTIMISER, seed=1), step.shardings)
    batches, losses = TallBatches(), []
    for _ in range(20):
        state, metrics = step.run(state, train.shard(next(batches), step.mesh))
        losses.append(float(metrics["loss"]))
    return losses, state


class TallBatches(Batches):
    """Pictures whose height divides over four devices."""

    def __next__(self):
        rng = np.random.default_rng(self.count)
        self.count += 1
        x = rng.normal(size=(8, 8, 6, 3)).astype(np.float32)
        return {"x": x, "y": x[..., :2] * 2, "scale": np.ones(8, np.float32)}


def tall_loss(model, batch):
    error = model(batch["x"]) - batch["y"]
    return jnp.mean(batch["scale"][:, None, None, None] * error**2)


@pytest.fixture(scope="module")
def one_device():
    return losses_and_state(mesh=train.data_mesh(jax.devices()[:1]))


@pytest.mark.parametrize(
    "options",
    [
        {"mesh": {}},
        {"mesh": {"height": 4}},
        {"mesh": {"devices": 4}, "shard_params": True},
        {"mesh": {"height": 2}, "shard_params": True},
    ],
    ids=["8 of data", "2 x 4 data x height", "weights over 4", "both over 4 x 2"],
)
def test_twenty_steps_on_a_mesh_are_those_of_one_device(one_device, options):
    mesh = dict(options["mesh"])
    devices = jax.devices()[: mesh.pop("devices", 8)]
    mesh = train.data_mesh(devices, **mesh)
    losses, state = losses_and_state(**{**options, "mesh": mesh})
    np.testing.assert_allclose(losses, one_device[0], rtol=0, atol=1e-4)
    # Sums are taken in another order; twenty AdamW steps at 1e-2.
    for x, y in zip(*map(leaves, (state, one_device[1])), strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-5)
    if "shard_params" in options:
        kernel = state.params["blocks"][0]["kernel"]
        assert kernel.addressable_shards[0].data.size == kernel.size // 4
        moments = [x for x in jax.tree.leaves(state.opt_state) if x.ndim == 4]
        assert len(moments) == 4
        assert not any(moment.is_fully_replicated for moment in moments)


def test_sharded_weights_are_saved_resumed_and_finished(tmp_path):
    def run(folder, steps, **options):
        model = Net(rngs=nnx.Rngs(0))
        step = train.make_step(model, tall_loss, OPTIMISER, **options)
        state = train.init(model, OPTIMISER, seed=1)
        fit = {"workdir": folder, "steps": steps, "progress": False}
        return model, train.fit(step, state, TallBatches(), **fit)

    four = {"mesh": train.data_mesh(jax.devices()[:4]), "shard_params": True}
    run(tmp_path / "parts", 3, **four)
    model, parts = run(tmp_path / "parts", 5, mesh=train.data_mesh(height=2))
    _, whole = run(tmp_path / "whole", 5, **four)
    assert_same(parts, whole, rtol=0, atol=1e-5)
    train.finish(model, whole)
    np.testing.assert_array_equal(
        model.blocks[0].kernel[...], whole.params["blocks"][0]["kernel"]
    )
    assert np.isfinite(jax.jit(model)(jnp.ones((1, 4, 4, 3)))).all()


def test_a_mesh_with_foreign_axes_is_refused():
    devices = np.array(jax.devices()).reshape(2, 4)
    with pytest.raises(ValueError, match="`mesh` must have the axis 'data'"):
        setup_on(jax.sharding.Mesh(devices, ("data", "model")))
    _, step, state = setup_on(train.data_mesh(height=4))
    with pytest.raises(ValueError, match="a height of 6 does not divide over 4"):
        train.fit(step, state, Batches(), steps=1, progress=False)


def setup_on(mesh):
    model = Net(rngs=nnx.Rngs(0))
    step = train.make_step(model, loss, OPTIMISER, mesh=mesh)
    return model, step, train.init(model, OPTIMISER, seed=1)


class Plain(nnx.Module):
    """A convolution: its loss is a mean over examples, and nothing is drawn."""

    def __init__(self, *, rngs):
        self.conv = conv.Conv(3, 2, rngs=rngs)
        self.norm = norm.BatchNorm(3)

    def __call__(self, x, *, normalise=False):
        return self.conv(self.norm(x) if normalise else x)


def plain_step(loss=loss, optimiser=OPTIMISER, devices=1, **options):
    model = Plain(rngs=nnx.Rngs(0))
    mesh = train.data_mesh(jax.devices()[:devices])
    step = train.make_step(model, loss, optimiser, mesh=mesh, **options)
    state = meshes.place(train.init(model, optimiser, seed=1), step.shardings)
    return model, step, state


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("parts", [2, 4])
def test_accumulated_gradients_are_those_of_the_large_batch(devices, parts):
    found = []
    for accumulate in (1, parts):
        sgd = optax.sgd(1.0)
        _, step, state = plain_step(
            optimiser=sgd, devices=devices, accumulate=accumulate
        )
        batch = train.shard(next(Batches(batch_size=8)), step.mesh)
        found.append(step.run(state, batch))
    (large, one), (summed, several) = found
    assert_same(large, summed, rtol=0, atol=1e-6)
    for name in ("loss", "grad_norm"):
        np.testing.assert_allclose(one[name], several[name], rtol=1e-6)


def test_batch_norm_sees_each_part_after_the_other():
    def normed(model, batch):
        return jnp.mean(model(batch["x"], normalise=True) ** 2)

    _, step, state = plain_step(normed, accumulate=4)
    batch = next(Batches(batch_size=8))
    after, _ = step.run(state, train.shard(batch, step.mesh))
    mean = np.zeros(3)
    for part in range(4):  # examples part and part + 4
        mean = 0.9 * mean + 0.1 * batch["x"][part::4].mean((0, 1, 2))
    np.testing.assert_allclose(after.stats["norm"]["mean"], mean, rtol=0, atol=1e-6)


def test_a_batch_that_cannot_be_dealt_out_is_refused():
    _, step, state = plain_step(accumulate=3)
    with pytest.raises(ValueError, match="`accumulate` is 3, which does not divide"):
        train.fit(step, state, Batches(batch_size=8), steps=1, progress=False)
    with pytest.raises(ValueError, match="`accumulate` must be"):
        plain_step(accumulate=0)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_that_is_not_finite_is_skipped_and_counted(tmp_path, accumulate):
    options = {"skip_nonfinite": True, "patience": 2, "accumulate": accumulate}

    def run(batches, steps, folder=None):
        _, step, state = plain_step(**options)
        return train.fit(
            step, state, batches, steps=steps, log_every=3, workdir=folder,
            progress=False,
        )  # fmt: skip

    skipped = run(Batches(bad_step=2), 3, tmp_path)
    source = Batches()
    first, _, third = (next(source) for _ in range(3))
    clean = run(iter([first, third]), 2)
    assert (int(skipped.step), int(skipped.skipped)) == (3, 1)
    assert int(skipped.skipped_in_a_row) == 0
    assert_same(clean._replace(step=0), skipped._replace(step=0, skipped=0))
    (row,) = rows(tmp_path)
    assert row["skipped"] == 1 and np.isfinite(row["loss"])


def test_too_many_skipped_steps_in_a_row_stop_the_run(tmp_path):
    class Broken(Batches):
        def __next__(self):
            batch = super().__next__()
            batch["x"][...] = np.nan if self.count in (2, 4, 5, 6) else 1.0
            return batch

    def run(patience):
        _, step, state = plain_step(skip_nonfinite=True, patience=patience)
        return train.fit(step, state, Broken(), steps=8, progress=False)

    assert int(run(4).skipped) == 4
    with pytest.raises(FloatingPointError, match="3 times in a row, up to step 6;"):
        run(3)


def test_the_average_of_the_weights_is_judged_and_ends_the_run():
    optimiser = averaging.averaged(optax.sgd(0.1), decay=0.5)
    model, step, state = plain_step(optimiser=optimiser)
    expected = [jax.device_get(state.params)] * 2
    seen = []

    def evaluate(state):
        expected[:] = [
            expected[1],
            jax.tree.map(lambda a, b: (a + b) / 2, expected[1], state.params),
        ]
        seen.append(train.averaged(state).params)
        return {"epe": 1.0}

    state = train.fit(
        step, state, Batches(), steps=3, save_every=1, evaluate=evaluate, progress=False
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), seen[-1], expected[1]
    )
    train.finish(model, train.averaged(state))
    np.testing.assert_array_equal(model.conv.kernel[...], seen[-1]["conv"]["kernel"])


def test_the_highest_is_best_if_so_said(tmp_path):
    _, step, state = setup(draw)
    train.fit(
        step, state, steps=5, workdir=tmp_path, save_every=1, best="top1",
        best_mode="max", progress=False,
        evaluate=lambda state: {"top1": -abs(int(state.step) - 2.0)},
    )  # fmt: skip
    kept = {int(path.name) for path in (tmp_path / "checkpoints").iterdir()}
    assert kept == {2, 4, 5}


def test_what_fit_cannot_do_is_refused_before_the_first_step(tmp_path):
    _, step, state = setup()
    fit = {"steps": 1, "workdir": tmp_path, "progress": False}
    source = Batches()
    with pytest.raises(ValueError, match=r"`best` is 'epe', .* \['grad_norm', 'loss'"):
        train.fit(step, state, source, best="epe", **fit)
    assert not state.step.is_deleted()
    with pytest.raises(ValueError, match=r"must be an iterator, .* got a list"):
        train.fit(step, state, [next(source)], **fit)
    with pytest.raises(ValueError, match="`best_mode` must be"):
        train.fit(step, state, source, best_mode="most", **fit)
    with pytest.raises(ValueError, match="`log_every` must be"):
        train.fit(step, state, source, log_every=0, **fit)

    def vector(model, batch):
        return jnp.float32(0), {"per_pixel": batch["x"]}

    _, step, state = plain_step(vector)
    with pytest.raises(ValueError, match="'per_pixel' has shape"):
        train.fit(step, state, Batches(), **fit)


def test_a_run_is_also_saved_by_time(tmp_path):
    _, step, state = setup()
    with pytest.raises(FloatingPointError):
        train.fit(
            step, state, Batches(bad_step=4), steps=9, workdir=tmp_path, log_every=2,
            save_minutes=0, progress=False,
        )  # fmt: skip
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["2"]


def test_a_mesh_takes_as_many_devices_as_a_batch_divides_over():
    sizes = {n: train.data_mesh(batch_size=n).size for n in (10, 4, 1, 30, 16)}
    assert sizes == {10: 5, 4: 4, 1: 1, 30: 6, 16: 8}
