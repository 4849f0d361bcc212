"""Each recipe of experiments/video trains, stops, and goes on where it was."""

import dataclasses
import importlib
import json
import pathlib
import shutil
import sys
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow import checkpoint, convert, io, train
from jaxflow.data import lists
from jaxflow.layers import representation_flow
from jaxflow.models.flow import tvnet
from jaxflow.models.video import (
    actionflownet,
    c3d,
    i3d_inception,
    mfnet,
    r3d,
    repflow,
    resnet3d,
    s3d,
    slowfast,
)

FOLDER = pathlib.Path(__file__).parents[2] / "experiments" / "video"
FILES = (
    "recipe", "slowfast", "repflow", "c3d", "r3d", "i3d", "mfnet", "actionflownet",
    "tvnet", "motion8", "precise_norm", "finetune", "charades", "multigrid",
)  # fmt: skip


@pytest.fixture(scope="module")
def recipes():
    """Imports the recipes by name, as scripts of one folder see each other."""
    if not FOLDER.is_dir():
        pytest.skip("installed without its experiments")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        for name in FILES:  # another folder may have a file of that name
            patch.delitem(sys.modules, name, raising=False)
        yield {name: importlib.import_module(name) for name in FILES}
        for name in FILES:
            del sys.modules[name]


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
    """Keeps to one device: compiling for eight takes longer."""
    device = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda *args: device)


def same(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


def logged_steps(folder):
    return [json.loads(row)["step"] for row in (folder / "metrics.jsonl").open()]


# The first stage of each recipe.
STAGE = {
    "slowfast": "scratch",
    "repflow": "kinetics",
    "c3d": "ucf101",
    "r3d": "kinetics",
    "i3d": "kinetics",
    "mfnet": "something",
    "actionflownet": "ucf101",
}
# name: (config, options)
RUNS = {
    "slowfast": (resnet3d.TINY, {"model": "slow_r50", "precise_batches": 1}),
    "repflow": (repflow.TINY, {}),
    "c3d": (c3d.TINY, {"frames": 16}),
    "r3d": (r3d.TINY, {}),
    "i3d": (i3d_inception.TINY, {"frames": 9}),
    "mfnet": (mfnet.TINY, {}),
    "actionflownet": (actionflownet.TINY, {"frames": 4}),
}


@pytest.fixture
def one_compilation(monkeypatch):
    """Compiles the step of the first run, which later ones of the test share."""
    made = []

    def make_step(*args, **options):
        if not made:
            made.append(compile_step(*args, **options))
        return made[0]

    compile_step = train.make_step
    monkeypatch.setattr(train, "make_step", make_step)


@pytest.mark.usefixtures("one_compilation")
@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_recipe_goes_on_where_it_was_stopped(recipes, name, tmp_path, monkeypatch):
    module, (config, options) = recipes[name], RUNS[name]
    arguments = getattr(module, "Args", module.recipe.Args)
    monkeypatch.setattr(module.recipe, "test", lambda *args, **options: {})
    args = arguments(
        workdir=tmp_path, steps=2, batch_size=2, save_every=1, held_out=0, **options
    )
    whole = module.main(args, config)
    folder = tmp_path / STAGE[name]
    assert logged_steps(folder) == [1, 2]
    shutil.rmtree(folder / "checkpoints" / "2")
    again = module.main(args, config)
    assert logged_steps(folder) == [1, 2]
    assert int(again.step) == 2
    assert same(whole.params, again.params)
    assert (folder / "model").is_dir()


def test_fine_tuning_keeps_all_but_the_classifier_of_the_stage_before(
    recipes, tmp_path, monkeypatch, capsys
):
    module = recipes["repflow"]
    begun = {}

    def fit(model, *args, name, **told):
        begun[name] = checkpoint.weights_of(model)["params"]
        checkpoint.save(tmp_path / name, model)

    monkeypatch.setattr(module.core, "fit", fit)
    monkeypatch.setattr(module.recipe, "test", lambda *args, **options: {})
    tasks = {"kinetics": "motion8", "hmdb": "order2"}
    for stage, task in tasks.items():
        args = module.Args(workdir=tmp_path, stage=stage, task=task, seed=len(stage))
        module.main(args, repflow.TINY)
    first, second = begun["kinetics"], begun["hmdb"]
    changed = {part for part in first if not same(first[part], second[part])}
    assert changed == {"head"}
    shapes = [part["head"]["projection"]["kernel"].shape[-1] for part in begun.values()]
    assert shapes[0] != shapes[1]
    assert "hmdb: begins with" in capsys.readouterr().err


def test_a_stage_that_has_begun_does_not_read_what_it_began_with(
    recipes, tmp_path, monkeypatch, capsys
):
    module = recipes["r3d"]
    monkeypatch.setattr(module.core, "fit", lambda *args, **told: None)
    monkeypatch.setattr(module.recipe, "test", lambda *args, **options: {})
    args = module.Args(workdir=tmp_path / "run", start=tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match="gone: there is no such file"):
        module.main(args, r3d.TINY)
    assert not args.workdir.exists()
    (args.workdir / "kinetics" / "checkpoints" / "3").mkdir(parents=True)
    module.main(args, r3d.TINY)
    said = capsys.readouterr()
    assert said.err == "kinetics: is trained, and not tested: there is no --test\n"
    assert not said.out


def test_a_width_is_of_the_unit_of_its_network(recipes, tmp_path):
    module, recipe = recipes["r3d"], recipes["recipe"]
    assert recipe.width_of(16.0, 64) == 16 and recipe.width_of(0.25, 1.0) == 0.25
    args = module.Args(workdir=tmp_path / "run", width=0.0625)
    with pytest.raises(ValueError, match=r"number of channels .* 64 .*; got 0\.0625"):
        module.main(args)
    args = recipes["i3d"].Args(workdir=tmp_path / "run", width=16)
    with pytest.raises(ValueError, match=r"`width` .* a factor .*; got 16"):
        recipes["i3d"].main(args)
    assert not args.workdir.exists()


def test_a_net_is_tested_while_it_trains_and_at_the_end(recipes, tmp_path, capsys):
    module = recipes["r3d"]
    args = module.Args(
        workdir=tmp_path, steps=2, batch_size=2, save_every=2, held_out=16
    )
    model = r3d.Model(dataclasses.replace(r3d.TINY, num_classes=8), rngs=nnx.Rngs(0))
    state = train.init(model, recipes["recipe"].core.sgd(module.KINETICS))
    found = recipes["recipe"].evaluation(args, model, "kinetics")(state)
    model.eval()
    again = recipes["recipe"].test(model, args, "kinetics", most=16)
    assert found == {f"held_out_{key}": value for key, value in again.items()}
    assert 0 <= found["held_out_top1"] <= found["held_out_top5"] <= 1


@pytest.mark.parametrize(
    ("name", "model", "file"),
    [("slowfast", "slowfast_8x8_r50", slowfast), ("i3d", "s3d", s3d)],
)
def test_a_recipe_takes_models_of_two_files(
    recipes, name, model, file, tmp_path, monkeypatch
):
    module, built = recipes[name], []
    monkeypatch.setattr(
        module.core, "fit", lambda model, *rest, **told: built.append(model)
    )
    monkeypatch.setattr(module.recipe, "test", lambda *args, **options: {})
    monkeypatch.setitem(file.VARIANTS, model, file.TINY)
    options = {"precise_batches": 0} if name == "slowfast" else {}
    module.main(module.Args(workdir=tmp_path, model=model, **options))
    assert isinstance(built[0], file.Model)
    assert built[0].config.num_classes == 8


@pytest.mark.parametrize(
    ("name", "key", "published"),
    [
        ("slowfast", "scratch", (196, 0.1, 64, (), 34, 0.01, 1e-4)),
        ("slowfast", "steps", (239, 0.1, 64, (94, 154, 196), 34, 0.01, 1e-4)),
        ("slowfast", "imagenet", (118, 0.01, 64, (44, 88), 0, 0, 1e-4)),
        ("repflow", "kinetics", (200, 0.1, 32, (50, 100, 150), 0, 0, 1e-6)),
        ("repflow", "hmdb", (50, 0.005, 32, (20, 40), 0, 0, 1e-6)),
        ("c3d", "ucf101", (45, 1e-3, 30, (20, 40), 0, 0, 5e-4)),
        ("finetune", "ucf101", (40, 0.001, 64, (15, 30), 0, 0, 1e-4)),
        ("finetune", "hmdb51", (40, 0.001, 64, (15, 30), 0, 0, 1e-4)),
        ("charades", "charades", (57, 0.0375, 16, (41, 49), 4, 1e-4, 1e-4)),
        ("r3d", "kinetics", (45, 0.01, 24, (20, 30, 40), 10, 1e-5, 1e-4)),
    ],
)
def test_schedules_are_the_published_ones(recipes, tmp_path, name, key, published):
    module, core = recipes[name], recipes["recipe"].core
    schedule = module.STAGES[key]
    epochs, rate, batch, drops, warmup, warmup_rate, decay = published
    assert (schedule.epochs, schedule.batch_size) == (epochs, batch)
    assert (schedule.drops, schedule.decay) == (drops, decay)
    assert schedule.cosine == (not drops)
    # 1000 steps an epoch, in batches twice as large at twice the rate.
    told = core.Options(workdir=tmp_path, batch_size=2 * batch)
    stage = core.adapt(schedule, told, epoch=1000 * 2 * batch)
    assert (stage.steps, stage.batch_size) == (1000 * epochs, 2 * batch)
    at = core.pace(stage)

    def settled(epoch):
        if drops:
            return rate * 0.1 ** sum(epoch >= drop for drop in drops)
        return rate * (1 + np.cos(np.pi * epoch / epochs)) / 2

    for epoch in (0, warmup / 2, warmup, warmup + 1.5, *drops, epochs / 2, epochs):
        wanted = settled(epoch)
        if epoch < warmup:
            goal = settled(warmup)
            wanted = warmup_rate + (goal - warmup_rate) * epoch / warmup
        actual = float(at(jnp.int32(round(1000 * epoch))))
        np.testing.assert_allclose(actual, 2 * wanted, rtol=1e-4, atol=1e-9)


def test_i3d_follows_the_published_steps(recipes, tmp_path):
    module, core = recipes["i3d"], recipes["recipe"].core
    schedule = module.KINETICS
    assert (schedule.batch_size, schedule.decay) == (64 * 6, 1e-7)
    told = core.Options(workdir=tmp_path)
    stage = core.adapt(schedule, told, epoch=module.CLIPS)
    assert stage.steps == 115_000
    at = core.pace(stage)
    rates = [float(at(jnp.int32(step))) for step in (0, 96_900, 97_100, 108_100)]
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.01, 0.001], rtol=1e-5)


def test_fair_decays_all_but_normalisations(recipes):
    module = recipes["slowfast"]
    stage = dataclasses.replace(module.STAGES["imagenet"], rate=1.0, drops=())
    model = slowfast.Model(slowfast.TINY, rngs=nnx.Rngs(jax.random.key(0)))
    params = checkpoint.weights_of(model)["params"]
    params = jax.tree.map(np.ones_like, params)
    optimiser = module.make_optimiser(stage)
    zeros = jax.tree.map(np.zeros_like, params)
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = jax.jit(optimiser.update)(zeros, optimiser.init(params), params)
    flat = jax.tree_util.tree_flatten_with_path(updates)[0]
    for path, update in flat:
        still = "norm" in jax.tree_util.keystr(path)
        # Nesterov's momentum counts a first gradient 1.9 times.
        np.testing.assert_allclose(update, 0 if still else -1.9e-4, rtol=1e-5)
    assert sum("norm" in jax.tree_util.keystr(path) for path, _ in flat) > 10


def test_what_flow_layers_learn_moves_a_hundredth(recipes):
    module = recipes["repflow"]
    model = repflow.Model(repflow.TINY, rngs=nnx.Rngs(jax.random.key(0)))
    params = checkpoint.weights_of(model)["params"]
    stage = dataclasses.replace(module.STAGES["kinetics"], decay=0.0)
    optimiser = module.make_optimiser(stage)
    ones = jax.tree.map(jnp.ones_like, params)
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = optimiser.update(ones, optimiser.init(params), params)
    labels = representation_flow.parameter_labels(params)
    steps = {"flow": [], "other": []}
    jax.tree.map(lambda x, label: steps[label].append(x), updates, labels)
    # Filters of the flow and its divergence, theta, lambda and tau, of two layers.
    assert len(steps["flow"]) == 14
    for label, size in (("flow", 1e-3), ("other", 0.1)):
        for update in steps[label]:
            np.testing.assert_allclose(update, -size, rtol=1e-5)


def test_precise_statistics_are_means_over_batches(recipes):
    module, recipe = recipes["precise_norm"], recipes["recipe"]
    config = dataclasses.replace(resnet3d.TINY, dropout_rate=0.0)
    model = resnet3d.Model(config, rngs=nnx.Rngs(jax.random.key(0)))
    clips = [jax.random.uniform(jax.random.key(i), (2, 4, 32, 32, 3)) for i in (1, 2)]
    batches = ({"clip": 2 * clip} for clip in clips)
    before = checkpoint.weights_of(model)["params"]
    data = recipe.core.Data(
        batches=batches, augment=lambda key, batch: {"clip": batch["clip"] / 2}
    )
    module.measure_statistics(model, data, 2)
    assert same(before, checkpoint.weights_of(model)["params"])
    model.eval()
    seen = [
        np.asarray(model.slow.stem.conv((clip - 0.45) / 0.225)).reshape(-1, 4)
        for clip in clips
    ]
    mean = np.mean([each.mean(0) for each in seen], axis=0)
    var = np.mean([each.var(0, ddof=1) for each in seen], axis=0)
    np.testing.assert_allclose(model.slow.stem.norm.mean[...], mean, rtol=1e-3)
    np.testing.assert_allclose(model.slow.stem.norm.var[...], var, rtol=1e-3)


def image_network(model, table):
    """Weights of a 2-D network whose keys `table` maps onto a 3-D `model`."""
    rng = np.random.default_rng(0)
    state = {}
    for path, slot in convert.weight_slots(model).items():
        if path.startswith(("head", "classifier")):
            continue
        shape = slot.variable.shape
        if len(shape) == 5:
            shape = tuple(shape[i] for i in (4, 3, 1, 2))
        state[path] = rng.random(shape, dtype=np.float32)
    # Their names: what the patterns give when read backwards.
    renamed = {}
    for path, value in state.items():
        *owner, leaf = path.split(".")
        leaf = {
            "kernel": "weight", "scale": "weight", "bias": "bias",
            "mean": "running_mean", "var": "running_var",
        }[leaf]  # fmt: skip
        renamed[table(".".join(owner), leaf)] = value
    return renamed


def resnet_name(owner, leaf):
    parts = owner.split(".")
    if parts[1] == "stem":
        return {"conv": "conv1", "norm": "bn1"}[parts[2]] + f".{leaf}"
    stage, block = int(parts[1][-1]) - 1, parts[3]
    if parts[4] == "shortcut":
        part = f"downsample.{'conv norm'.split().index(parts[5])}"
    else:
        part = {"conv": "conv", "norm": "bn"}[parts[5]] + str("abc".index(parts[4]) + 1)
    return f"layer{stage}.{block}.{part}.{leaf}"


GOOGLENET = {
    "b0": "branch1", "b1a": "branch2.0", "b1b": "branch2.1", "b2a": "branch3.0",
    "b2b": "branch3.1", "b3": "branch4.1",
}  # fmt: skip


def googlenet_name(owner, leaf):
    _, unit, *branch, kind = owner.split(".")
    kind = {"conv": "conv", "norm": "bn"}[kind]
    if not branch:
        return f"conv{'abc'.index(unit[-1]) + 1}.{kind}.{leaf}"
    stage, letter = unit[-2], unit[-1]
    letter = chr(ord(letter) - 1)
    return f"inception{stage}{letter}.{GOOGLENET[branch[0]]}.{kind}.{leaf}"


@pytest.mark.parametrize("name", ["slowfast", "i3d"])
def test_a_3d_net_begins_as_the_image_net_it_is_inflated_from(recipes, name):
    recipe = recipes["recipe"]
    if name == "slowfast":
        config = dataclasses.replace(resnet3d.TINY, non_local_after=((),) * 4)
        config = dataclasses.replace(config, stem_window=5)
        model = resnet3d.Model(config, rngs=nnx.Rngs(jax.random.key(0)))
        table, naming = recipes[name].RESNET, resnet_name
        first, key = lambda: model.slow.stem, "conv1.weight"
    else:
        model = i3d_inception.Model(i3d_inception.TINY, rngs=nnx.Rngs(0))
        table, naming = recipes[name].GOOGLENET, googlenet_name
        first, key = lambda: model.body.conv_1a, "conv1.conv.weight"
    state = image_network(model, naming)
    recipe.inflate(model, state | {"fc.weight": np.ones((9, 9))}, table)
    kernel = np.asarray(first().conv.kernel[...])
    flat = state[key].transpose(2, 3, 1, 0)
    assert kernel.shape[0] > 1
    np.testing.assert_allclose(kernel.sum(0), flat, rtol=1e-5)
    np.testing.assert_allclose(kernel[0], kernel[-1])
    del state[key]
    with pytest.raises(ValueError, match="not in it"):
        other = type(model)(model.config, rngs=nnx.Rngs(0))
        recipe.inflate(other, state, table)


def test_a_start_of_other_classes_keeps_all_but_the_classifier(recipes, tmp_path):
    recipe = recipes["recipe"]
    other = dataclasses.replace(r3d.TINY, num_classes=7)
    published = r3d.Model(other, rngs=nnx.Rngs(jax.random.key(9)))
    path = tmp_path / "published.safetensors"
    convert.save_weights(published, path)
    checkpoint.save(tmp_path / "saved", published)
    for start in (path, tmp_path / "saved"):
        args = recipe.Args(workdir=tmp_path, start=start)
        model = r3d.Model(r3d.TINY, rngs=recipe.core.seeded(args))
        recipe.core.begin(model, "kinetics", recipes["r3d"].KINETICS, args, first=True)
        ours, theirs = (checkpoint.weights_of(m)["params"] for m in (model, published))
        assert ours["head"]["projection"]["kernel"].shape[1] == 5
        assert same(ours["stages"], theirs["stages"])
        assert same(ours["stem"], theirs["stem"])


@pytest.fixture
def videos(tmp_path):
    """Two classes, dark and bright, and a list of the videos."""
    rng = np.random.default_rng(0)
    lines = []
    for label, level in enumerate((40, 200)):
        for index in range(2):
            frames = rng.integers(-30, 30, (12, 40, 48, 3)) + level
            io.write_video(
                tmp_path / f"{label}{index}.mp4", frames.astype(np.uint8), fps=30
            )
            lines.append(f"{label}{index}.mp4 {label}")
    (tmp_path / "list.txt").write_text("\n".join(lines))
    return tmp_path / "list.txt"


def test_a_recipe_trains_and_tests_on_videos(recipes, videos, tmp_path, capsys):
    pytest.importorskip("grain")
    pytest.importorskip("av")
    module = recipes["r3d"]

    def run(steps):
        args = module.Args(
            workdir=tmp_path / "run", data=(str(videos),), test=(str(videos),),
            steps=steps, batch_size=2, frames=4, size=32, views=(1, 1), save_every=1,
        )  # fmt: skip
        return module.main(args, r3d.TINY)

    run(1)
    with pytest.raises(ValueError, match="`steps` was 1 and is 2"):
        run(2)
    # Whoever wants that nevertheless removes the record.
    (tmp_path / "run/kinetics/run.json").unlink()
    assert int(run(2).step) == 2
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["top1"] in (0, 0.25, 0.5, 0.75, 1) and result["top5"] == 1


def test_what_is_refused_of_videos_leaves_no_folder(recipes, videos, tmp_path):
    pytest.importorskip("grain")
    module = recipes["r3d"]

    def refused(match, **told):
        args = module.Args(
            workdir=tmp_path / "run", data=(str(videos),), **{"batch_size": 2} | told
        )
        with pytest.raises((ValueError, OSError), match=match):
            module.main(args, r3d.TINY)
        assert not args.workdir.exists()

    refused("`steps` must be at least 1", steps=0)
    refused("`accumulate` must divide", accumulate=4)
    refused("fewer|batch", batch_size=9)
    refused("there is no such file", start=tmp_path / "gone")
    for video in videos.parent.glob("*.mp4"):
        video.unlink()
    refused(r"4 of 4 videos are not there: .*00\.mp4")


def test_a_damaged_test_video_is_named_and_the_rest_is_scored(recipes, videos):
    recipe = recipes["recipe"]
    model = r3d.Model(dataclasses.replace(r3d.TINY, num_classes=2), rngs=nnx.Rngs(0))
    (videos.parent / "00.mp4").write_bytes(b"no video")
    args = recipe.Args(workdir=videos.parent / "run", test=(str(videos),), views=(1, 1))
    with pytest.warns(UserWarning, match=r"00\.mp4: left out"):
        result = recipe.test(model, args, "kinetics", views=(1, 1))
    assert (result["videos"], result["damaged"]) == (3, 1)
    assert result["top1"] in (0, 1 / 3, 2 / 3, 1)
    for name in ("01", "10", "11"):
        (videos.parent / f"{name}.mp4").write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="left out"),
        pytest.raises(ValueError, match="none of 4 videos"),
    ):
        recipe.test(model, args, "kinetics", views=(1, 1))


def test_the_classes_are_those_of_training(recipes, videos, tmp_path):
    recipe = recipes["recipe"]
    model = r3d.Model(dataclasses.replace(r3d.TINY, num_classes=3), rngs=nnx.Rngs(0))
    run = tmp_path / "run"
    args = recipe.Args(workdir=run, test=(str(videos),), views=(1, 1))
    with pytest.raises(ValueError, match="has 2 classes, the model 3"):
        recipe.test(model, args, "kinetics", views=(1, 1))
    lists.save_classes(run / "kinetics", ("0", "1", "2"))
    assert recipe.test(model, args, "kinetics", views=(1, 1))["videos"] == 4
    assert recipe.test(model, args, "kinetics", views=(1, 1), most=3)["videos"] == 3
    videos.write_text("00.mp4 0\n01.mp4 3\n")
    with pytest.raises(ValueError, match=r"list\.txt:2: .*'3'"):
        recipe.test(model, args, "kinetics", views=(1, 1))


def test_shares_count_ties_and_nan_against_the_truth(recipes):
    shares = recipes["recipe"].shares
    scores = np.zeros((4, 6), np.float32)
    assert shares(scores, np.array([0, 1, 2, 5])) == {
        "top1": 0.25,
        "top5": 0.75,
        "mean_class": 0.25,
    }
    scores[:] = np.nan
    assert set(shares(scores, np.array([0, 1, 2, 5])).values()) == {0.0}
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(50, 6)), rng.integers(0, 6, 50)
    best = np.argsort(-scores, axis=1)
    expected = [float(np.mean((best[:, :k] == labels[:, None]).any(1))) for k in (1, 5)]
    assert list(shares(scores, labels).values())[:2] == expected


def test_an_epoch_is_as_long_as_the_data(recipes, videos, tmp_path):
    pytest.importorskip("grain")
    recipe, module = recipes["recipe"], recipes["r3d"]
    args = recipe.Args(workdir=tmp_path, data=(str(videos),), batch_size=4)
    config, stage, data = recipe.prepare(
        args, r3d.VARIANTS["r3d_18"], module.KINETICS, "kinetics"
    )
    assert (config.num_classes, config.num_frames, config.crop_size) == (2, 16, 112)
    assert stage.steps == 45
    batch = next(data.batches)
    assert batch["clip"].shape == (4, 16, 112, 112, 3)


def test_the_loss_is_the_cross_entropy(recipes):
    recipe = recipes["recipe"]
    scores = jnp.zeros((2, 4)).at[0, 1].set(9.0)
    entropy, metrics = recipe.classification(scores, jnp.array([1, 2]))
    np.testing.assert_allclose(entropy, np.log(4) / 2, atol=1e-3)
    assert float(metrics["top1"]) == 0.5


def test_smooth_labels_follow_their_definition(recipes):
    recipe = recipes["recipe"]
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(6, 5)) * 3, rng.integers(0, 5, 6)
    log = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    for share in (0.0, 0.1, 0.4):
        target = (1 - share) * np.eye(5)[labels] + share / 5
        entropy, metrics = recipe.classification(
            jnp.float32(scores), jnp.asarray(labels), smoothing=share
        )
        np.testing.assert_allclose(entropy, -(target * log).sum(1).mean(), rtol=1e-6)
        assert float(metrics["top1"]) == np.mean(scores.argmax(1) == labels)


def test_smoothing_is_the_published_unless_told_and_is_refused_where_it_has_no_use(
    recipes, tmp_path
):
    recipe, module = recipes["recipe"], recipes["r3d"]
    published = dataclasses.replace(module.KINETICS, smoothing=0.1)
    for told, wanted in ((None, 0.1), (0.2, 0.2), (0.0, 0.0)):
        args = recipe.Args(workdir=tmp_path, smoothing=told)
        _, stage, _ = recipe.prepare(args, r3d.TINY, published, "kinetics")
        assert stage.smoothing == wanted
        assert recipe.core.identity(args, stage)["smoothing"] == wanted
    for share in (-0.1, 1.0, float("nan")):
        args = recipe.Args(workdir=tmp_path, smoothing=share)
        with pytest.raises(ValueError, match="`smoothing` must be in"):
            recipe.prepare(args, r3d.TINY, published, "kinetics")
    args = recipe.Args(workdir=tmp_path, smoothing=0.1)
    with pytest.raises(ValueError, match="`smoothing`: this recipe has a loss"):
        recipes["actionflownet"].main(args, actionflownet.TINY)


def test_a_frozen_backbone_stays_bit_for_bit(recipes, tmp_path):
    recipe, module = recipes["recipe"], recipes["r3d"]
    model = r3d.Model(r3d.TINY, rngs=nnx.Rngs(jax.random.key(0)))
    stage = dataclasses.replace(module.KINETICS, steps=1, decay=1e-2)
    stage = recipe.freeze(model, stage)
    assert stage.trained == ("head",)
    loss = recipe.core.hold(recipe.classify_loss, stage.trained)
    optimiser = recipe.core.only(recipe.core.sgd(stage), stage.trained)
    batch = {
        "clip": jax.random.uniform(jax.random.key(1), (2, 4, 32, 32, 3)),
        "label": jnp.array([0, 3]),
    }
    before = train.init(model, optimiser)
    after, metrics = jax.jit(
        lambda state, batch: train.train_step(
            state, batch, rebuild=train.separate(model), loss=loss, optimiser=optimiser
        )
    )(before, batch)
    assert same(before.stats, after.stats)
    for name, part in before.params.items():
        assert same(part, after.params[name]) == (name != "head"), name
    # Without dropout the loss is that of the model in evaluation mode.
    assert r3d.TINY.dropout_rate == 0
    model.eval()
    expected, _ = recipe.classify_loss(model, batch)
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)


def test_a_frozen_c3d_is_trained_on_logits_as_a_whole_one_is(recipes):
    recipe = recipes["recipe"]
    config = dataclasses.replace(c3d.TINY, dropout_rate=0.0)
    model = c3d.Model(config, rngs=nnx.Rngs(jax.random.key(0)))
    size = (2, config.num_frames, config.crop_size, config.crop_size, 3)
    batch = {
        "clip": jax.random.uniform(jax.random.key(1), size),
        "label": jnp.array([0, 3]),
    }
    stage = recipe.freeze(model, recipes["c3d"].UCF101)
    rebuild, weights = train.separate(model), checkpoint.weights_of(model)
    whole, held = jax.jit(
        lambda batch: [
            loss(rebuild(weights["params"], weights["stats"], jax.random.key(0)), batch)
            for loss in (
                recipe.classify_loss,
                recipe.core.hold(recipe.classify_loss, stage.trained),
            )
        ]
    )(batch)
    assert same(whole, held)


# The stages are of other sizes.
@pytest.mark.filterwarnings("ignore:.*were saved from a model with")
def test_stages_have_their_own_clips_crop_and_frozen_parts(
    recipes, tmp_path, monkeypatch, capsys
):
    recipe, core, seen = recipes["recipe"], recipes["recipe"].core, {}
    common = {"rate": 0.1, "batch_size": 2, "steps": 1}
    stages = {
        "small": recipe.Stage(task="order2", frames=4, size=32, **common),
        "large": recipe.Stage(
            frames=6, size=40, trained=("head", "stages.1"),
            after=("small",), **common,
        ),
    }  # fmt: skip

    def fit(model, loss, optimiser, data, *, name, stage, options, **told):
        batch = jax.eval_shape(data.draw, jax.random.key(0))
        weights = checkpoint.weights_of(model)
        record = core.identity(options, stage, first=told["first"])
        seen[name] = (model.config, stage, batch, weights, record)
        checkpoint.save(tmp_path / name, model)

    monkeypatch.setattr(core, "fit", fit)
    monkeypatch.setattr(recipe, "test", lambda *args, **options: {})
    recipe.run(recipe.Args(workdir=tmp_path), stages, r3d.Model, r3d.TINY)
    (small, _, first, old, one), (large, stage, second, new, two) = seen.values()
    assert first["clip"].shape == (2, 4, 32, 32, 3)
    assert second["clip"].shape == (2, 6, 40, 40, 3)
    assert (small.num_classes, large.num_classes) == (4, 8)
    assert (small.num_frames, large.crop_size) == (4, 40)
    assert stage.trained == ("head", "stages.1")
    assert same(old["params"]["stages"], new["params"]["stages"])
    assert (one["task"], one["frames"], one["size"]) == ("order2", 4, 32)
    assert (two["task"], two["frames"], two["trained"]) == ("motion8", 6, stage.trained)
    assert "large: begins with" in capsys.readouterr().err
    # What the command says counts for all stages.
    told = recipe.Args(workdir=tmp_path, task="fastslow", frames=5, frozen=True)
    recipe.run(told, stages, r3d.Model, r3d.TINY)
    for _, stage, batch, _, _ in seen.values():
        assert stage.trained == ("head",) and stage.task == "fastslow"
        assert batch["clip"].shape[1] == 5


def test_each_stage_takes_its_own_data_and_what_it_lacks_is_said_first(
    recipes, tmp_path
):
    recipe, stages = recipes["recipe"], recipes["finetune"].STAGES
    for name in ("a.txt", "b.txt", "b=1.txt"):
        (tmp_path / name).touch()
    one, two, odd = (str(tmp_path / name) for name in ("a.txt", "b.txt", "b=1.txt"))

    def settled(name, data=(), test=()):
        args = recipe.Args(workdir=tmp_path / "run", data=data, test=test)
        found = recipe.settle(args, stages, name)
        return recipe.place(found.data), recipe.place(found.test)

    def found(*paths):
        return tuple(path and pathlib.Path(path) for path in paths)

    both = (f"ucf101={one}", f"hmdb51={two}")
    assert settled("ucf101") == (None, None)
    assert settled("ucf101", both) == found(one, None)
    assert settled("hmdb51", both, (f"hmdb51={one}",)) == found(two, one)
    assert settled("ucf101", both, (f"hmdb51={one}",)) == found(one, None)
    assert settled("hmdb51", (one,), (two,)) == found(one, two)
    assert settled("hmdb51", (one, f"hmdb51={two}")) == found(two, None)
    assert settled("ucf101", (one, f"hmdb51={two}")) == found(one, None)
    assert settled("ucf101", (odd,)) == found(odd, None)
    with pytest.raises(ValueError, match="`data` has nothing for stage 'hmdb51'"):
        settled("hmdb51", both[:1])
    with pytest.raises(ValueError, match=r"must be one of \['hmdb51', 'ucf101'\]; got"):
        settled("ucf101", (f"ucf={one}",))
    with pytest.raises(ValueError, match="`data` must have one path for a stage"):
        settled("ucf101", (one, two))
    with pytest.raises(FileNotFoundError, match=r"`test`: /none: there is no such"):
        settled("ucf101", both, ("ucf101=/none",))
    # The record of a run has the data of its own stage alone.
    record = recipe.core.identity(
        recipe.settle(recipe.Args(workdir=tmp_path, data=both), stages, "ucf101"),
        stages["ucf101"],
    )
    assert record["data"] == (one,) and "sets" not in record


def test_tuning_begins_with_the_pretrained_and_frozen_trains_the_classifier_alone(
    recipes, tmp_path, monkeypatch
):
    module, seen = recipes["finetune"], {}
    other = dataclasses.replace(resnet3d.TINY, num_classes=7)
    published = resnet3d.Model(other, rngs=nnx.Rngs(jax.random.key(9)))
    checkpoint.save(tmp_path / "saved", published)

    def fit(model, *rest, stage, **told):
        seen.update(stage=stage, weights=checkpoint.weights_of(model)["params"])

    monkeypatch.setattr(module.core, "fit", fit)
    monkeypatch.setattr(module.recipe, "test", lambda *args, **options: {})
    args = module.Args(
        workdir=tmp_path / "run",
        start=tmp_path / "saved",
        frozen=True,
        stage="hmdb51",
        frames=4,
    )
    module.main(args, resnet3d.TINY)
    assert seen["stage"].trained == ("head",)
    assert same(
        seen["weights"]["slow"], checkpoint.weights_of(published)["params"]["slow"]
    )
    assert seen["weights"]["head"]["projection"]["kernel"].shape[1] == 8
    with pytest.raises(ValueError, match="`model` must be one of"):
        module.main(dataclasses.replace(args, model="nothing"))


def test_a_model_without_a_classifier_of_its_own_is_not_frozen(recipes):
    class Whole(nnx.Module):
        def __init__(self, config, *, rngs):
            self.config = config
            self.kernel = nnx.Param(jnp.zeros((3, config.num_classes)))

    model = Whole(r3d.TINY, rngs=nnx.Rngs(0))
    recipe = recipes["recipe"]
    with pytest.raises(ValueError, match="no classifier apart"):
        recipe.freeze(model, recipes["r3d"].KINETICS)


def test_several_classes_have_a_cross_entropy_each(recipes):
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(4, 3)) * 3, rng.random((4, 3)) < 0.5
    share = 1 / (1 + np.exp(-scores))
    expected = -np.where(labels, np.log(share), np.log(1 - share)).mean()
    loss, _ = recipes["charades"].classify_loss(
        lambda clip: jnp.float32(scores), {"clip": None, "labels": jnp.asarray(labels)}
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_overlaid_clips_show_the_classes_of_both(recipes):
    clips = jnp.arange(6.0).reshape(3, 1, 1, 2, 1)
    one = {"clip": clips, "label": jnp.array([0, 1, 3])}
    two = {"clip": 2 * clips, "label": jnp.array([2, 1, 0])}
    both = recipes["charades"].overlay(one, two, 4)
    np.testing.assert_array_equal(both["clip"], 1.5 * clips)
    expected = [[1, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 1]]
    np.testing.assert_array_equal(both["labels"], np.array(expected, bool))


def test_a_video_of_several_lines_shows_the_classes_of_all(
    recipes, tmp_path, monkeypatch
):
    module = recipes["charades"]
    path = tmp_path / "test.csv"
    path.write_text("path,label,start,end\na.mp4,0|2,0.5,2\nb.mp4,1,0,4\na.mp4,1,3,4\n")
    for video in ("a.mp4", "b.mp4"):
        (tmp_path / video).touch()
    model = r3d.Model(dataclasses.replace(r3d.TINY, num_classes=3), rngs=nnx.Rngs(0))
    args = module.Args(workdir=tmp_path, test=(str(path),))
    found = module.list_test(model, args, "charades")
    assert [(video.name, labels.tolist()) for video, labels in found] == [
        ("a.mp4", [True, True, True]),
        ("b.mp4", [False, True, False]),
    ]
    told = {}

    def classify(model, path, **options):
        told.update(options)
        return np.array([0.9, 0.5, 0.8] if path.name == "a.mp4" else [0.1, 0.6, 0.2])

    monkeypatch.setattr(module.recipe.classify, "classify_video", classify)
    result = module.test(model, args, "charades", views=(2, 3))
    assert result == {"map": 1.0, "videos": 2, "damaged": 0}
    assert told == {
        "clips": 2, "crops": 3, "activation": "sigmoid", "combine": "max",
    }  # fmt: skip
    lists.save_classes(tmp_path / "charades", ("0", "1"))
    with pytest.raises(ValueError, match=r"test\.csv"):
        module.list_test(model, args, "charades")


def test_multigrid_has_the_published_turns_in_eight_shapes(recipes):
    module = recipes["multigrid"]
    found = module.phases(32, 224)
    # What the authors' code says of their schedule.
    until = [73, 110, 142, 158, 205, 228, 248, 259, 291, 308, 322, 329, 358.5]
    seen = np.cumsum([phase.epochs for phase in found])
    np.testing.assert_allclose(seen, until, atol=0.5)
    assert [phase.shapes[-1] for phase in found[:4]] == [
        (8, 8, 158), (4, 16, 158), (2, 16, 224), (1, 32, 224),
    ]  # fmt: skip
    shapes = {shape for phase in found for shape in phase.shapes}
    assert len(shapes) == 8
    for clips, frames, side in shapes:
        assert abs(clips * frames * side**2 / (32 * 224**2) - 1) < 0.01
    last = module.ends(found, 1300)
    assert last[-1] == 1300
    first = [module.shape_at(found, last, step) for step in range(4)]
    assert first == [(16, 8, 112), (8, 8, 158), (8, 8, 158), (16, 8, 112)]
    assert module.shape_at(found, last, 1299).frames == 32


def test_multigrid_rates_follow_the_batch(recipes):
    module = recipes["multigrid"]
    found = module.phases(32, 224)
    stage = dataclasses.replace(module.STAGES["multigrid"], steps=10_000)
    last, at = module.ends(found, 10_000), module.pace(found, stage)
    np.testing.assert_allclose(at(0), 0.01, rtol=1e-5)
    middle = [(a + b) // 2 for a, b in zip([0, *last], last, strict=False)]
    rates = [float(at(step)) for step in middle[:-1]]
    expected = [8, 4, 2, 1, 0.8, 0.4, 0.2, 0.1, 0.08, 0.04, 0.02, 0.01]
    np.testing.assert_allclose(rates, 0.1 * np.array(expected), rtol=1e-5)
    np.testing.assert_allclose(at(last[-2] + 1), 1e-3, rtol=1e-5)
    np.testing.assert_allclose(at(9_999), 1e-4, rtol=1e-5)


def test_multigrid_goes_on_where_it_was(recipes):
    module = recipes["multigrid"]
    found, made = module.phases(4, 32), []
    batches = module.Batches(found, 50, lambda shape, step: (shape, step), {})
    for _ in range(20):
        made.append(next(batches))
    other = module.Batches(found, 50, lambda shape, step: (shape, step), {})
    other.set_state(json.loads(json.dumps(batches.get_state())))
    assert [next(other) for _ in range(5)] == [next(batches) for _ in range(5)]
    assert [step for _, step in made] == list(range(20))


class Cheap(nnx.Module):
    """A network that compiles at once, and notes what it is compiled for."""

    shapes: ClassVar[list] = []

    def __init__(self, config, *, rngs):
        self.config = config
        self.head = nnx.Linear(3, config.num_classes, rngs=rngs)

    def __call__(self, clip):
        self.shapes.append(clip.shape)
        return self.head(clip.mean((1, 2, 3)))


@pytest.mark.slow
def test_multigrid_compiles_each_shape_once(recipes, tmp_path, monkeypatch):
    module = recipes["multigrid"]

    def draw(args, stage, shape, step):
        clips = shape.clips * stage.batch_size
        size = (clips, shape.frames, shape.side, shape.side, 3)
        return {"clip": np.zeros(size, np.float32), "label": np.zeros(clips, np.int32)}

    monkeypatch.setattr(module, "draw", draw)
    monkeypatch.setattr(module.resnet3d, "Model", Cheap)
    monkeypatch.setattr(module.recipe, "test", lambda *args, **options: {})
    monkeypatch.setattr(Cheap, "shapes", [])
    args = module.Args(
        workdir=tmp_path, model="slow_r50", steps=120, batch_size=1, held_out=0,
        frames=4, size=32, precise_batches=0,
    )  # fmt: skip
    module.main(args, resnet3d.TINY)
    assert logged_steps(tmp_path / "multigrid")[-1] == 120
    found = {shape for phase in module.phases(4, 32) for shape in phase.shapes}
    expected = [(s.clips, s.frames, s.side, s.side, 3) for s in found]
    assert len(expected) == 8 and sorted(Cheap.shapes) == sorted(expected)


@pytest.mark.slow
def test_the_teacher_sees_motion_at_half_the_size(recipes):
    module = recipes["actionflownet"]
    y, x = np.indices((33, 40)).astype(np.float32)
    clip = [0.5 + 0.4 * np.sin(0.3 * (x - 2 * t)) * np.cos(0.2 * y) for t in range(3)]
    clip = np.repeat(np.stack(clip)[None, ..., None], 3, axis=-1).astype(np.float32)
    flow = np.asarray(module.teach(jnp.asarray(clip)))
    assert flow.shape == (1, 2, 17, 20, 2)
    np.testing.assert_allclose(np.median(flow, axis=(0, 1, 2, 3)), [1, 0], atol=0.1)


@pytest.mark.slow
@pytest.mark.usefixtures("one_compilation")
def test_tvnet_learns_without_flow_and_resumes(recipes, tmp_path, capsys, monkeypatch):
    module = recipes["tvnet"]
    config = tvnet.Config(iterations=2)
    args = module.Args(workdir=tmp_path, steps=2, batch_size=2, size=32, save_every=1)
    whole = module.main(args, config)
    errors = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert 0 < errors["trained"] != errors["tvl1"] > 0
    fresh = tvnet.Model(config, rngs=nnx.Rngs(0))
    began = checkpoint.weights_of(fresh)["params"]
    assert not same(whole.params["divergence"], began["divergence"])

    monkeypatch.setattr(module, "error", lambda model, args: 0.0)
    shutil.rmtree(tmp_path / "checkpoints" / "2")
    assert same(whole.params, module.main(args, config).params)


@pytest.mark.slow
def test_the_comparison_trains_and_draws_each_rival(recipes, tmp_path, monkeypatch):
    module = recipes["motion8"]
    tiny = dataclasses.replace(
        module.NETS["3-D"], config=dataclasses.replace(r3d.TINY, dropout_rate=0.0)
    )
    monkeypatch.setitem(module.NETS, "3-D", tiny)
    frames = dataclasses.replace(
        module.NETS["single frame"],
        config=dataclasses.replace(
            repflow.TINY, flow="none", fusion="none", dropout_rate=0.0
        ),
    )
    monkeypatch.setitem(module.NETS, "single frame", frames)
    monkeypatch.setattr(module, "CHUNK", 16)
    args = module.Args(
        nets=("3-D", "single frame"), steps=2, batch_size=2, test_clips=32,
        output=tmp_path,
    )  # fmt: skip
    results = module.main(args)
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").open()]
    assert [row["net"] for row in rows] == ["3-D", "single frame"]
    assert all(result.confusion.sum() == 32 for result in results)
    assert all(result.curve[-1][0] == 2 for result in results)
    picture = io.read_image(tmp_path / "motion8.png")
    assert picture.shape[0] > 500 and picture.std() > 10


@pytest.mark.slow
def test_every_rival_of_every_task_is_a_net(recipes):
    module = recipes["motion8"]
    for task, rivals in module.RIVALS.items():
        for name in rivals:
            net = module.NETS[name]
            frames = module.motion_classes.TASKS[task].frames
            size = module.motion_classes.TASKS[task].size
            model = nnx.eval_shape(
                lambda net=net: net.file.Model(net.config, rngs=nnx.Rngs(0))
            )
            clip = jax.ShapeDtypeStruct((2, frames, *size, 3), jnp.float32)
            graph, state = nnx.split(model)
            scores = jax.eval_shape(
                lambda state, clip, graph=graph, net=net: nnx.merge(graph, state)(
                    net.view(clip)
                ),
                state,
                clip,
            )
            assert scores.shape == (2, net.config.num_classes)
