"""Tests for jaxflow.train.loop."""

import json
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxflow import checkpoint, train
from jaxflow.data import loaders
from tests.train.problem import (
    OPTIMISER,
    Batches,
    Net,
    assert_same,
    draw,
    loss,
    plain_step,
    rows,
    setup,
)


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


class Weak(nnx.Module):
    """Has a weight of no type of its own, as ``jnp.array`` makes one of a number."""

    def __init__(self):
        self.scale = nnx.Param(jnp.array(1.0))

    def __call__(self, x):
        return self.scale[...] * x


def test_a_weight_of_a_weak_type_is_compiled_once_and_resumed(tmp_path):
    model, optimiser = Weak(), optax.sgd(0.1)
    step = train.make_step(
        model,
        lambda model, x: jnp.mean((model(x) - 3 * x) ** 2),
        optimiser,
        draw=lambda key: jnp.ones((8, 1)),
    )
    fit = {"workdir": tmp_path, "progress": False}
    train.fit(step, train.init(model, optimiser), steps=2, **fit)
    assert step.run._cache_size() == 1
    weak = train.init(model, optimiser)._replace(params={"scale": jnp.array(1.0)})
    state = train.fit(step, weak, steps=4, **fit)
    np.testing.assert_allclose(state.params["scale"], 3 - 2 * 0.8**4, rtol=1e-6)


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


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(2, 2), (0, 1), (2, 1), (1, 2)])
def test_real_workers_resume_exactly_or_are_refused(tmp_path, before, after):
    pytest.importorskip("grain")
    samples = [next(Batches(batch_size=1)) for _ in range(40)]
    samples = [{k: v[0] + i for k, v in s.items()} for i, s in enumerate(samples)]

    def run(folder, steps, workers):
        loader = loaders.batches(
            samples, unchanged, batch_size=8, seed=5, shuffle=True, epochs=None,
            shard=(0, 1), workers=workers,
        )  # fmt: skip
        _, step, state = setup()
        fit = {"workdir": folder, "progress": False}
        return train.fit(step, state, iter(loader), steps=steps, **fit)

    run(tmp_path / "parts", 2, before)
    if before == after:
        whole = run(tmp_path / "whole", 4, 0)
        assert_same(whole, run(tmp_path / "parts", 4, after))
        return
    with pytest.raises(ValueError, match=r"where step 2 left it .* number of workers"):
        run(tmp_path / "parts", 4, after)


def unchanged(element, rng):
    """Prepares nothing; workers get it by its name."""
    return element


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
def test_a_signal_saves_the_step_and_the_run_goes_on_from_it(
    tmp_path, number, error, capsys, caplog
):
    fit = {"steps": 5, "progress": False}
    _, step, state = setup()
    whole = train.fit(step, state, Batches(), **fit)
    _, step, state = setup()
    with pytest.raises(error) as stopped:
        train.fit(step, state, Interrupted(number), workdir=tmp_path, **fit)
    assert stopped.value.__notes__ == [f"step 3 is saved in {tmp_path}"]
    # What is saved without metrics is no news.
    assert not caplog.records
    assert "goes on" not in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["3"]
    _, step, state = setup()
    assert_same(whole, train.fit(step, state, Batches(), workdir=tmp_path, **fit))
    assert f"{tmp_path}: goes on from step 3\n" == capsys.readouterr().err


def test_a_signal_while_the_last_step_is_written_waits_for_it(tmp_path, monkeypatch):
    close = checkpoint.Checkpoints.__exit__

    def interrupted(self, *error):
        signal.raise_signal(signal.SIGINT)
        close(self, *error)

    monkeypatch.setattr(checkpoint.Checkpoints, "__exit__", interrupted)
    _, step, state = setup(draw)
    with pytest.raises(KeyboardInterrupt) as stopped:
        train.fit(step, state, steps=1, workdir=tmp_path, progress=False)
    assert stopped.value.__notes__ == [f"step 1 is saved in {tmp_path}"]
    assert (tmp_path / "checkpoints" / "1" / "meta").is_dir()


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
    with pytest.raises(ValueError, match="'per_pixel' is an array of shape"):
        train.fit(step, state, Batches(), **fit)


def test_a_step_that_is_wrong_leaves_no_folder(tmp_path):
    _, step, state = plain_step(lambda model, batch: batch["x"], draw=draw)
    with pytest.raises(ValueError, match="`loss` must return a scalar"):
        train.fit(step, state, steps=1, workdir=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_run_is_also_saved_by_time(tmp_path):
    _, step, state = setup()
    with pytest.raises(FloatingPointError):
        train.fit(
            step, state, Batches(bad_step=4), steps=9, workdir=tmp_path, log_every=2,
            save_minutes=0, progress=False,
        )  # fmt: skip
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["2"]
