"""The core of the recipes: stages, schedules, optimisers, devices of a batch."""

import dataclasses
import importlib
import json
import pathlib
import signal
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxflow import checkpoint, train
from jaxflow.layers import dropout, norm

FOLDER = pathlib.Path(__file__).parents[2] / "experiments"


@pytest.fixture(scope="module")
def core():
    """Imports the core."""
    if not FOLDER.is_dir():
        pytest.skip("installed without its experiments")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        yield importlib.import_module("core")
        sys.modules.pop("core", None)


def test_a_work_folder_that_is_a_file_is_refused_first(core, tmp_path):
    (tmp_path / "file").write_text("mine")
    for place in ("file", "file/run"):
        options = core.Options(workdir=tmp_path / place)
        with pytest.raises(OSError, match=r"`workdir`: .* must be a folder"):
            core.choose({"one": 1}, options)


def test_a_batch_takes_as_many_devices_as_divide_it(core):
    for batch in range(1, 65):
        for devices in range(1, 9):
            count = core.count_devices(batch, devices)
            assert 1 <= count <= devices and batch % count == 0
            assert all(batch % more for more in range(count + 1, devices + 1))
    published = {10: 5, 4: 4, 1: 1, 30: 6, 6: 6, 24: 8, 384: 8}
    assert {b: core.count_devices(b, 8) for b in published} == published


def test_parts_and_processes_divide_the_batch_too(core):
    for batch in range(1, 65):
        for parts in range(1, 9):
            for processes in (1, 2, 4):
                told = {"accumulate": parts, "processes": processes}
                if batch % (parts * processes):
                    with pytest.raises(ValueError, match=f"batch of {batch}"):
                        core.count_devices(batch, 8, **told)
                    continue
                count = core.count_devices(batch, 8, **told)
                own, share = count // processes, batch // parts // processes
                assert count % processes == 0 and own <= 8 // processes
                assert share % own == 0
                assert all(share % n for n in range(own + 1, 8 // processes + 1))
    with pytest.raises(ValueError, match="`accumulate` must divide"):
        core.count_devices(4, 8, accumulate=0)


def test_the_devices_that_stay_idle_are_named_in_one_line(core, capsys):
    devices = jax.devices()
    assert len(devices) == 8
    assert core.device_mesh(10).devices.tolist() == devices[:5]
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and "a batch of 10 runs on 5 of 8 devices" in line
    assert all(str(device) in line for device in devices[5:])
    assert core.device_mesh(16).size == 8 and not capsys.readouterr().err
    assert core.device_mesh(16, accumulate=4).size == 4
    assert "a batch of 16 in 4 parts runs on 4 of 8" in capsys.readouterr().err


def test_a_schedule_counts_steps_or_epochs(core, tmp_path):
    options = core.Options(workdir=tmp_path)
    epochs = core.Stage(
        rate=0.1,
        batch_size=8,
        epochs=10,
        drops=(5,),
        factor=0.1,
        warm_up=2,
        warm_up_rate=0.02,
        rate_grows=True,
    )
    stage = core.adapt(epochs, options, epoch=80)
    assert (stage.steps, stage.drops, stage.warm_up) == (100, (50,), 20)
    steps = jnp.arange(100)
    expected = np.where(np.arange(100) < 50, 0.1, 0.01)
    expected[:20] = np.linspace(0.02, 0.1, 21)[:20]
    np.testing.assert_allclose(
        jax.jit(jax.vmap(core.pace(stage)))(steps), expected, rtol=1e-5
    )
    doubled = core.Options(workdir=tmp_path, batch_size=16)
    stage = core.adapt(epochs, doubled, epoch=80)
    assert (stage.steps, stage.rate, stage.warm_up_rate) == (50, 0.2, 0.04)
    shrunk = core.Options(workdir=tmp_path, steps=20)
    assert core.adapt(epochs, shrunk, epoch=80).drops == (10,)


def test_a_cosine_is_optaxs(core):
    stage = core.Stage(rate=0.3, batch_size=1, steps=40, cosine=True)
    ours = jax.jit(jax.vmap(core.pace(stage)))(jnp.arange(41))
    theirs = optax.cosine_decay_schedule(0.3, 40)
    with jax.numpy_dtype_promotion("standard"):
        wanted = [float(theirs(step)) for step in range(41)]
    np.testing.assert_allclose(ours, wanted, atol=1e-6)


def test_stages_are_chosen_by_name_or_in_order(core, tmp_path):
    stages = {"one": 1, "two": 2, "three": 3}
    options = core.Options(workdir=tmp_path)
    assert core.choose(stages, options) == ["one", "two", "three"]
    assert core.choose(stages, options, ("one", "two")) == ["one", "two"]
    named = core.Options(workdir=tmp_path, stage="three")
    assert core.choose(stages, named, ("one",)) == ["three"]
    with pytest.raises(ValueError, match="`stage` must be one of"):
        core.choose(stages, core.Options(workdir=tmp_path, stage="four"))


def test_only_some_parts_learn_and_a_part_that_is_not_there_is_refused(core):
    params = {"a": {"w": jnp.ones(2)}, "ab": {"w": jnp.ones(2)}}
    optimiser = core.only(optax.sgd(1.0), ("a",))
    updates, _ = optimiser.update(params, optimiser.init(params), params)
    np.testing.assert_array_equal(updates["a"]["w"], -1)
    np.testing.assert_array_equal(updates["ab"]["w"], 0)
    with pytest.raises(ValueError, match="no part 'b'"):
        core.only(optax.sgd(1.0), ("a", "b")).init(params)


class Block(nnx.Module):
    """A layer, a normalisation, and dropout."""

    def __init__(self, *, rngs):
        self.linear = nnx.Linear(2, 2, rngs=rngs)
        self.norm = norm.BatchNorm(2)
        self.dropout = dropout.Dropout(0.5)

    def __call__(self, x):
        return self.dropout(self.norm(self.linear(x)))


class Stack(nnx.Module):
    """Blocks in a row, one of them in a list."""

    def __init__(self, *, rngs):
        self.first = Block(rngs=rngs)
        self.rest = nnx.data([Block(rngs=rngs), Block(rngs=rngs)])

    def __call__(self, x):
        for block in (self.first, *self.rest):
            x = block(x)
        return x


def test_what_does_not_learn_is_held_in_evaluation_mode(core):
    model = Stack(rngs=nnx.Rngs(0))
    for node in (model.first.norm, model.rest[0].norm):
        node.mean[...], node.var[...] = jnp.array([0.5, -1.0]), jnp.array([2.0, 3.0])
    trained = ("rest.1",)
    x = jax.random.normal(jax.random.key(1), (6, 2))
    optimiser = core.only(optax.sgd(0.1), trained)

    def loss(model, x):
        return jnp.mean(model(x) ** 2)

    @jax.jit
    def step(state, x):
        return train.train_step(
            state, x, rebuild=train.separate(model), loss=core.hold(loss, trained),
            optimiser=optimiser,
        )[0]  # fmt: skip

    before = train.init(model, optimiser)
    after = step(before, x)

    def same(one, other):
        return all(map(np.array_equal, jax.tree.leaves(one), jax.tree.leaves(other)))

    for kind in ("params", "stats"):
        old, new = getattr(before, kind), getattr(after, kind)
        assert same(old["first"], new["first"])
        assert same(old["rest"][0], new["rest"][0])
        assert not same(old["rest"][1], new["rest"][1])
    # Those of the part that learns move towards what it sees of the others, which
    # neither drop anything nor use the statistics of the batch.
    for block in (model.first, model.rest[0]):
        x = x @ block.linear.kernel[...] + block.linear.bias[...][None, :]
        x = (x - block.norm.mean[...][None, :]) / jnp.sqrt(
            block.norm.var[...] + block.norm.epsilon
        )[None, :]
    last = model.rest[1].linear
    seen = x @ last.kernel[...] + last.bias[...][None, :]
    found = after.stats["rest"][1]["norm"]
    np.testing.assert_allclose(found["mean"], 0.1 * seen.mean(0), rtol=1e-4)
    np.testing.assert_allclose(
        found["var"], 0.9 + 0.1 * np.var(seen, axis=0, ddof=1), rtol=1e-4
    )


def test_a_start_is_a_file_a_name_or_the_run_of_a_stage(core, tmp_path):
    stage = core.Stage(rate=1.0, batch_size=1, steps=1, after=("one",))
    name = pathlib.Path("raft_large/chairs_things")
    assert core.find_start(name, stage) == name
    with checkpoint.Checkpoints(tmp_path / "run" / "one" / "checkpoints") as saved:
        for step, loss in ((9, 0.1), (10, 0.2)):
            saved.save(step, {"x": np.ones(1)}, metrics={"loss": loss})
    last = tmp_path / "run" / "one" / "checkpoints" / "10"
    assert core.find_start(tmp_path / "run", stage) == last
    assert core.find_start(tmp_path / "run" / "one", stage) == last
    assert core.last_step(tmp_path) is None


def test_what_a_recipe_refuses_is_one_line(core, tmp_path, monkeypatch):
    pytest.importorskip("tyro")
    monkeypatch.setattr(core.meshes, "start_processes", lambda *args, **told: False)
    monkeypatch.setattr(sys, "argv", ["recipe.py", "--workdir", str(tmp_path)])

    def main(options):
        raise FileNotFoundError(f"{options.workdir}: there is no such folder")

    with pytest.raises(SystemExit, match=r"^FileNotFoundError: .*no such folder"):
        core.command(main, core.Options, "A recipe.")


@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_ends_a_recipe_with_one_line_that_names_the_step(
    core, tmp_path, monkeypatch, capsys, number, code
):
    pytest.importorskip("tyro")

    @dataclasses.dataclass
    class Args:
        workdir: pathlib.Path

    class Interrupted:
        def __iter__(self):
            return self

        def __next__(self):
            signal.raise_signal(getattr(signal, number))
            return np.ones((8, 2), np.float32)

    def main(args):
        model, optimiser = nnx.Linear(2, 1, rngs=nnx.Rngs(0)), optax.sgd(0.1)
        step = train.make_step(
            model, lambda model, x: jnp.mean(model(x) ** 2), optimiser
        )
        state = train.init(model, optimiser)
        with pytest.warns(UserWarning, match="no get_state"):
            train.fit(
                step, state, Interrupted(), steps=9, workdir=args.workdir,
                progress=False,
            )  # fmt: skip

    monkeypatch.setattr(sys, "argv", ["recipe.py", "--workdir", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        core.command(main, Args, "A recipe.")
    assert stop.value.code == code
    assert capsys.readouterr().err == (
        f"stopped; step 1 is saved in {tmp_path}; the same command goes on from there\n"
    )


def test_what_else_ends_a_recipe_is_left_as_it_is(core, monkeypatch, capsys):
    pytest.importorskip("tyro")

    @dataclasses.dataclass
    class Args:
        pass

    def main(args):
        raise error

    monkeypatch.setattr(sys, "argv", ["recipe.py"])
    error = SystemExit("a reason")
    with pytest.raises(SystemExit, match="a reason"):
        core.command(main, Args, "A recipe.")
    error = KeyboardInterrupt()
    error.add_note("JAX has removed its internal frames.")
    with pytest.raises(SystemExit, match="130"):
        core.command(main, Args, "A recipe.")
    assert capsys.readouterr().err == "stopped\n"


def test_a_run_is_what_decides_what_is_trained(core, tmp_path):
    stage = core.Stage(rate=0.1, batch_size=4, steps=9)
    told = core.Options(workdir=tmp_path, start=tmp_path / "a", accumulate=2)
    adapted = core.adapt(stage, told)
    same = core.Options(
        workdir=tmp_path / "moved", start=tmp_path / "a", batch_size=4, steps=9,
        workers=3, save_every=5, stage="one",
    )  # fmt: skip
    assert core.identity(told, adapted) == core.identity(same, core.adapt(stage, same))
    for name, value in {"seed": 1, "batch_size": 2, "steps": 3, "start": None}.items():
        other = dataclasses.replace(told, **{name: value})
        found = core.identity(other, core.adapt(stage, other))
        assert found[name] != core.identity(told, adapted)[name], name
    assert "start" not in core.identity(told, adapted, first=False)


def test_a_run_from_before_an_option_goes_on_unless_the_option_is_used(core, tmp_path):
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Options(core.Options):
        novel: tuple[int, ...] = (3,)

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Stage(core.Stage):
        share: float = 0.25

    def run(share=0.25, **told):
        options = Options(workdir=tmp_path, steps=1, **told)
        stage = core.adapt(Stage(rate=0.1, batch_size=4, steps=4, share=share), options)
        return core.fit(
            nnx.Linear(2, 1, rngs=nnx.Rngs(0)),
            lambda model, x: jnp.mean(model(x) ** 2),
            core.adam(stage),
            core.Data(draw=lambda key: jnp.ones((stage.batch_size, 2))),
            name="one", stage=stage, options=options, seed=0,
        )  # fmt: skip

    first = run()
    path = tmp_path / "one" / "run.json"
    record = json.loads(path.read_text())
    for name in ("novel", "share", "clip"):
        del record["run"]["config"][name]
    path.write_text(json.dumps(record))
    np.testing.assert_array_equal(first.params["kernel"], run().params["kernel"])
    with pytest.raises(ValueError, match=r"`novel` was \[3\] and is \[4\]"):
        run(novel=(4,))
    with pytest.raises(ValueError, match=r"`share` was 0.25 and is 0.5"):
        run(share=0.5)


def test_another_stage_or_rate_does_not_go_on_in_the_folder_of_a_stage(core, tmp_path):
    def run(rate, **told):
        model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
        options = core.Options(workdir=tmp_path, steps=2, **told)
        stage = core.adapt(core.Stage(rate=rate, batch_size=4, steps=4), options)

        def draw(key):
            return jax.random.normal(key, (stage.batch_size, 2))

        return core.fit(
            model, lambda model, x: jnp.mean(model(x) ** 2), core.adam(stage),
            core.Data(draw=draw), name="one", stage=stage, options=options, seed=0,
        )  # fmt: skip

    first = run(0.1)
    again = run(0.1, workers=1)
    np.testing.assert_array_equal(first.params["kernel"], again.params["kernel"])
    with pytest.raises(ValueError, match=r"another run: `rate` was 0.1 and is 0.2\. C"):
        run(0.2)
    with pytest.raises(ValueError, match=r"another run: `batch_size` was 4 and is 8\."):
        run(0.1, batch_size=8)
