"""Each recipe of experiments/flow trains, stops, and goes on where it was."""

import dataclasses
import functools
import importlib.util
import json
import pathlib
import shutil
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow import checkpoint, spec
from jaxflow.data import folders
from jaxflow.models.flow import (
    flownet2,
    flownets,
    flownetsd,
    irr_pwc,
    liteflownet,
    pwcnet,
    raft,
    spynet,
    vcn,
)
from tests import golden

FOLDER = pathlib.Path(__file__).parents[2] / "experiments" / "flow"
RECIPES = (
    *("flownet", "flownet2", "hd3", "irr_pwc", "liteflownet", "pwcnet", "raft"),
    *("spynet", "unsupervised", "vcn"),
)


@pytest.fixture
def load(monkeypatch):
    """Imports a recipe by name, as if its folder were where Python looks."""
    if not FOLDER.is_dir():
        pytest.skip("installed without its experiments")
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, "recipe", raising=False)

    def load(name):
        spec = importlib.util.spec_from_file_location(
            f"flow_recipe_{name}", FOLDER / f"{name}.py"
        )
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look it up
        spec.loader.exec_module(module)
        return module

    yield load
    sys.modules.pop("recipe", None)


@pytest.fixture
def one_device(monkeypatch):
    """Keeps to one device: compiling for eight takes longer."""
    device = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda *args: device)


def tiny_options(module, workdir, **changes):
    """Returns options of two steps on two small scenes."""
    options = {
        "workdir": workdir,
        "preset": "translation",
        "steps": 2,
        "batch_size": 2,
        "size": (64, 64),
        "save_every": 1,
        "held_out": 0,
    }
    return module.recipe.Options(**options | changes)


def logged_steps(folder):
    return [json.loads(row)["step"] for row in (folder / "metrics.jsonl").open()]


def same(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


def moved(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return any(not np.array_equal(x, y) for x, y in pairs)


def rates(schedule, steps):
    with jax.numpy_dtype_promotion("standard"):
        return [float(schedule(jnp.array(step))) for step in steps]


@pytest.mark.slow
@pytest.mark.usefixtures("one_device")
def test_a_run_that_was_stopped_goes_on_bit_for_bit(load, tmp_path):
    module = load("pwcnet")
    options = tiny_options(module, tmp_path, stage="chairs", held_out=2)
    whole = module.main(options, pwcnet.TINY)
    shutil.rmtree(tmp_path / "chairs" / "checkpoints" / "2")
    parts = module.main(options, pwcnet.TINY)
    assert same(parts.params, whole.params) and same(parts.stats, whole.stats)
    assert logged_steps(tmp_path / "chairs") == [1, 2]
    rows = [json.loads(row) for row in (tmp_path / "chairs/metrics.jsonl").open()]
    assert all(0 < row["held_out_epe"] < 100 for row in rows)
    assert all(0 <= row["held_out_fl"] <= 100 for row in rows)


SPYNET = spynet.Config(networks=2, max_levels=2, features=(4, 4), kernel_size=3)


@pytest.mark.slow
@pytest.mark.usefixtures("one_device")
def test_the_next_stage_in_the_same_folder_trains_on_from_the_one_before(
    load, tmp_path, capsys
):
    module = load("flownet")
    options = tiny_options(module, tmp_path, batch_size=1, steps=1)
    seen = {}
    fit = module.recipe.core.fit

    def spy(model, *args, name, **told):
        seen[name] = jax.tree.map(np.array, checkpoint.weights_of(model)["params"])
        return fit(model, *args, name=name, **told)

    module.recipe.core.fit = spy
    try:
        first = module.main(dataclasses.replace(options, stage="long"), flownets.TINY)
        second = module.main(dataclasses.replace(options, stage="fine"), flownets.TINY)
    finally:
        module.recipe.core.fit = fit
    assert same(seen["fine"], first.params)
    assert not same(second.params, first.params) and int(second.step) == 1
    assert f"fine: begins with {tmp_path}" in capsys.readouterr().err


@pytest.mark.usefixtures("one_device")
def test_a_stage_begins_with_another_run_or_model(load, tmp_path, capsys):
    module = load("pwcnet")
    model = pwcnet.Model(pwcnet.TINY, rngs=nnx.Rngs(5))
    wanted = checkpoint.weights_of(model)
    checkpoint.save(tmp_path / "before" / "chairs", model)
    stage = module.STAGES["things"]
    for start in (tmp_path / "before", tmp_path / "before" / "chairs"):
        options = tiny_options(module, tmp_path / "after", start=start)
        built = module.recipe.build(pwcnet, options, pwcnet.TINY)
        module.core.begin(built, "things", stage, options, first=True)
        assert same(checkpoint.weights_of(built), wanted)
        assert "things: begins with" in capsys.readouterr().err
    options = tiny_options(module, tmp_path / "after")
    built = module.recipe.build(pwcnet, options, pwcnet.TINY)
    module.core.begin(built, "things", stage, options, first=True)
    assert not same(checkpoint.weights_of(built), wanted)
    assert "begins with new weights" in capsys.readouterr().err
    checkpoint.save(tmp_path / "before" / "other", model)
    options = tiny_options(module, tmp_path, start=tmp_path / "before")
    with pytest.raises(ValueError, match=r"several runs \['chairs', 'other'\]"):
        module.core.begin(built, "chairs", module.STAGES["chairs"], options, first=True)


def test_what_the_data_lacks_is_said_before_anything_is_trained(load, tmp_path):
    module = load("raft")
    (tmp_path / "there").mkdir()

    def refused(error, match, **changes):
        with pytest.raises(error, match=match):
            module.main(tiny_options(module, tmp_path / "run", **changes), raft.TINY)

    there = f"chairs={tmp_path / 'there'}"
    refused(FileNotFoundError, "no such folder", data=("chairs=/nowhere",))
    refused(FileNotFoundError, "no such folder", validate=("sintel_clean=/nowhere",))
    refused(ValueError, "LAYOUT=FOLDER", data=("FlyingChairs",))
    refused(ValueError, "LAYOUT must be one of", data=("mars=/nowhere",))
    refused(ValueError, "nothing for stage 'things'", data=(there,))
    refused(ValueError, "`steps` must be at least 1", steps=0)
    refused(ValueError, "`accumulate` must be at least 1", accumulate=0)
    assert not (tmp_path / "run").exists()


def test_a_run_that_was_recorded_with_the_data_of_all_stages_goes_on(load, tmp_path):
    recipe = load("raft").recipe
    stage = load("raft").STAGES["things"]
    own = ("things_clean=B", "things_final=B")
    for before in (own, ("chairs=A", *own)):
        text = json.dumps({"run": {"config": {"data": before}}, "starts": []})
        (tmp_path / "run.json").write_text(text)
        assert recipe.as_recorded(own, stage, tmp_path) == before
        other = ("things_clean=C",)
        assert recipe.as_recorded(other, stage, tmp_path) == other
        assert recipe.as_recorded((), stage, tmp_path) == ()
    assert recipe.as_recorded(own, stage, tmp_path / "new") == own


def test_stages_and_variants_that_there_are_not_raise(load, tmp_path):
    module = load("vcn")
    options = tiny_options(module, tmp_path, stage="mars")
    with pytest.raises(ValueError, match="`stage` must be one of"):
        module.main(options, vcn.TINY)
    with pytest.raises(ValueError, match="`variant` must be one of"):
        module.main(tiny_options(module, tmp_path, variant="raft_large"))


# Steps and rates of the papers and of their authors' code.
LONG = {0: 1e-4, 399_999: 1e-4, 400_000: 5e-5, 600_000: 2.5e-5, 1_000_000: 6.25e-6}
FINE = {0: 1e-5, 200_000: 5e-6, 300_000: 2.5e-6, 400_000: 1.25e-6, 500_000: 6.25e-7}
PUBLISHED = {
    ("pwcnet", "chairs"): (LONG, 1_200_000, 8, (320, 448)),
    ("pwcnet", "things"): (FINE, 600_000, 4, (384, 768)),
    ("pwcnet", "sintel1"): ({0: 5e-5, 45_000: 2.5e-5}, 150_000, 4, (320, 768)),
    ("pwcnet", "sintel5"): ({97_499: 5e-6 / 16, 97_500: 5e-6 / 32}, 150_000, 4, None),
    ("pwcnet", "kitti4"): ({0: 1e-5, 140_000: 1e-5 / 1024}, 150_000, 4, (320, 896)),
    ("flownet", "short"): (
        {299_999: 1e-4, 300_000: 5e-5, 400_000: 2.5e-5, 500_000: 1.25e-5},
        *(600_000, 8, (320, 448)),
    ),
    ("flownet", "long"): (LONG, 1_200_000, 8, (320, 448)),
    ("flownet", "fine"): (FINE, 600_000, 4, (384, 768)),
    ("liteflownet", "level6"): (
        {0: 4e-5, 120_000: 2e-5, 160_000: 1e-5, 240_000: 2.5e-6},
        *(300_000, 8, (320, 448)),
    ),
    ("irr_pwc", "chairs"): (
        {0: 1e-4, 54 * 5558: 5e-5, 72 * 5558: 2.5e-5, 90 * 5558: 1.25e-5},
        *(108 * 5558, 4, (320, 448)),
    ),
    ("irr_pwc", "things"): ({0: 1e-5}, 510_000, 4, (384, 768)),
    ("hd3", "chairs"): (
        {0: 1e-4, 70 * 694: 5e-5, 160 * 694: 6.25e-6},
        *(200 * 694, 32, (384, 512)),
    ),
    ("vcn", "chairs"): (
        {0: 1e-3, 70_000: 5e-4, 130_000: 2.5e-4},
        *(140_000, 16, (320, 448)),
    ),
    ("vcn", "things"): ({0: 2.5e-4, 50_000: 1.25e-4}, 80_000, 16, (320, 448)),
    ("vcn", "kitti"): ({0: 1.25e-4, 20_000: 6.25e-5}, 70_000, 16, (256, 768)),
}


@pytest.mark.parametrize(("name", "stage"), PUBLISHED)
def test_the_published_schedule_is_followed(load, name, stage):
    module = load(name)
    expected, steps, batch_size, size = PUBLISHED[name, stage]
    found = module.STAGES[stage]
    assert (found.steps, found.batch_size) == (steps, batch_size)
    assert size is None or found.size == size
    np.testing.assert_allclose(
        rates(module.core.pace(found), expected),
        list(expected.values()),
        rtol=1e-5,
    )


def test_rafts_rate_makes_one_cycle(load):
    module = load("raft")
    published = {"chairs": 4e-4, "things": 1.25e-4, "sintel": 1.25e-4, "kitti": 1e-4}
    for name, peak in published.items():
        stage = module.STAGES[name]
        rise = stage.steps // 20
        np.testing.assert_allclose(
            rates(module.one_cycle(stage), (0, rise, stage.steps)),
            (peak / 25, peak, peak / 25e4),
            rtol=1e-3,
        )
    decays = [stage.decay for stage in module.STAGES.values()]
    assert decays == [1e-4, 1e-4, 1e-5, 1e-5]
    assert [stage.steps for stage in module.STAGES.values()] == [100_000] * 3 + [50_000]


def test_flownetc_warms_up_and_spynet_drops(load, tmp_path):
    module = load("flownet")
    options = module.recipe.Options(workdir=tmp_path)
    warm = module.core.pace(module.stages_of("flownetc")["short"])
    assert options.stage is None and module.stages_of("flownets")["short"].warm_up == 0
    np.testing.assert_allclose(
        rates(warm, (0, 5_000, 10_000, 299_999, 300_000, 500_000)),
        (1e-6, 5.05e-5, 1e-4, 1e-4, 5e-5, 1.25e-5),
        rtol=1e-5,
    )
    module = load("spynet")
    np.testing.assert_allclose(
        rates(module.schedule(module.STAGE.steps), (0, 9_999, 10_000, 160_000)),
        (5e-3, 5e-3, 1e-4, 5e-5),
        rtol=1e-5,
    )


def test_shrinking_moves_every_halving(load, tmp_path):
    module = load("pwcnet")
    options = tiny_options(module, tmp_path, steps=12)
    stage = module.recipe.adapt(module.STAGES["chairs"], options)
    np.testing.assert_allclose(
        rates(module.core.pace(stage), (0, 4, 6, 8, 10)),
        [1e-4 / 2**n for n in range(5)],
        rtol=1e-5,
    )
    # Two halvings may meet in one step.
    stage = dataclasses.replace(stage, drops=(1, 1, 2))
    np.testing.assert_allclose(
        rates(module.core.pace(stage), (0, 1, 2)),
        (1e-4, 2.5e-5, 1.25e-5),
        rtol=1e-5,
    )


def test_only_kernels_decay(load, tmp_path):
    module = load("pwcnet")
    stage = module.recipe.adapt(module.STAGES["chairs"], tiny_options(module, tmp_path))
    params = {"kernel": np.ones((2, 2), np.float32), "bias": np.ones(2, np.float32)}
    optimiser = module.core.adam(stage)
    zeros = jax.tree.map(np.zeros_like, params)
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = optimiser.update(zeros, optimiser.init(params), params)
    # Adam's first step is the rate, and only what decays has a gradient.
    np.testing.assert_allclose(updates["kernel"], -1e-4, rtol=1e-3)
    np.testing.assert_array_equal(updates["bias"], 0)


@pytest.mark.slow
@pytest.mark.usefixtures("one_device")
def test_spynet_trains_level_by_level_and_leaves_the_coarser_ones(load, tmp_path):
    module = load("spynet")
    config = SPYNET
    options = tiny_options(module, tmp_path)
    first = module.main(options, config)
    states = []
    for level in (0, 1):
        model = spynet.Model(config, rngs=nnx.Rngs(5))
        checkpoint.restore(tmp_path / f"level{level}", model)
        states.append(checkpoint.weights_of(model)["params"]["levels"])
    assert same(states[0][0], states[1][0])
    assert moved(states[1][0], states[1][1])
    assert moved(states[0][1], states[1][1])
    again = module.main(options, config)  # nothing is left to do
    assert same(first.params, again.params)


def test_spynet_counts_the_levels_of_the_network(load):
    module = load("spynet")
    model = spynet.Model(
        spynet.Config(networks=5, max_levels=5, features=(2,), kernel_size=1),
        rngs=nnx.Rngs(0),
    )
    for size in ((32, 32), (64, 96), (384, 512), (448, 1024)):
        image = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
        found = nnx.eval_shape(model, image, image)
        assert module.count_levels(model.config, size) == len(found.predictions)


@pytest.mark.slow
@pytest.mark.usefixtures("one_device")
def test_liteflownet_adds_a_level_and_leaves_those_to_come(load, tmp_path):
    module = load("liteflownet")
    options = tiny_options(module, tmp_path, stage="level5", steps=1)
    state = module.main(options, liteflownet.TINY)
    first = module.recipe.build(liteflownet, options, liteflownet.TINY)
    first = checkpoint.weights_of(first)["params"]
    for name, part in state.params.items():
        trained = name == "features" or name[-1] in "65"
        assert moved(part, first[name]) == trained, name


@pytest.mark.slow
def test_liteflownet_goes_through_all_stages(load, tmp_path, monkeypatch):
    module = load("liteflownet")
    seen = []

    def fit(model, *args, name, stage, **told):
        seen.append((name, stage.after))
        checkpoint.save(tmp_path / name, model)

    monkeypatch.setattr(module.core, "fit", fit)
    module.main(tiny_options(module, tmp_path), liteflownet.TINY)
    names, before = zip(*seen, strict=True)
    levels = [f"level{level}" for level in (6, 5, 4, 3, 2)]
    assert list(names) == [*levels, "joint", "things"]
    assert [first for first, *_ in before[1:]] == list(names[:-1])
    assert module.levels_of("level4") == (6, 5, 4)
    assert module.levels_of("joint") == (6, 5, 4, 3, 2)


def save_flownet2_part(module, folder, name, seed):
    """Saves a part of the curriculum with random weights, as if it had been run."""
    model = module.build(name, flownet2.TINY.width, rngs=nnx.Rngs(seed))
    checkpoint.save(folder / name, model)
    return model


@pytest.mark.slow
@pytest.mark.usefixtures("one_device")
def test_flownet2_trains_a_network_and_freezes_those_before(load, tmp_path):
    module = load("flownet2")
    before = save_flownet2_part(module, tmp_path / "before", "c_things", seed=7)
    options = tiny_options(
        module, tmp_path / "run", stage="cs_chairs", start=tmp_path / "before"
    )
    state = module.main(options, flownet2.TINY)
    frozen = checkpoint.weights_of(before)["params"]["flownetc"]
    assert same(state.params["flownetc"], frozen)
    width = flownet2.TINY.width
    fresh = module.build("cs_chairs", width, rngs=module.core.seeded(options))
    fresh = checkpoint.weights_of(fresh)["params"]["flownets_1"]
    pairs = zip(
        jax.tree.leaves(state.params["flownets_1"]), jax.tree.leaves(fresh), strict=True
    )
    assert all(not np.array_equal(a, b) for a, b in pairs)
    assert logged_steps(tmp_path / "run" / "cs_chairs") == [1, 2]


@pytest.mark.slow
@pytest.mark.usefixtures("one_device")
def test_flownet2_fuses_what_was_trained_before(load, tmp_path):
    module = load("flownet2")
    stack = save_flownet2_part(module, tmp_path, "css_ft_sd", seed=1)
    small = save_flownet2_part(module, tmp_path, "sd", seed=2)
    options = tiny_options(module, tmp_path, stage="fusion", steps=1)
    state = module.main(options, flownet2.TINY)
    for name, part in checkpoint.weights_of(stack)["params"].items():
        assert same(state.params[name], part), name
    # FlowNetSD speaks of 20 pixels by itself, and of 1/20 pixel here.
    joined = state.params["flownets_d"]
    alone = checkpoint.weights_of(small)["params"]
    for leaf in ("kernel", "bias"):
        np.testing.assert_array_equal(
            joined["decoder"]["predict_flow2"][leaf],
            400 * alone["decoder"]["predict_flow2"].pop(leaf),
        )
        joined["decoder"]["predict_flow2"].pop(leaf)
    assert same(joined, alone)


@pytest.mark.slow
def test_flownet2s_curriculum_leads_from_c_to_the_fusion(load, tmp_path, monkeypatch):
    module = load("flownet2")
    seen = []

    def fit(model, *args, name, stage, **told):
        assert all(before in seen for before in stage.after)
        seen.append(name)
        checkpoint.save(tmp_path / name, model)
        return name

    monkeypatch.setattr(module.core, "fit", fit)
    assert module.main(tiny_options(module, tmp_path), flownet2.TINY) == "fusion"
    assert seen == list(module.CURRICULUM)
    sizes = [stage.steps for stage in module.CURRICULUM.values()]
    assert set(sizes) == {1_200_000, 600_000}
    with pytest.raises(FileNotFoundError, match="begins with 'c_things'"):
        options = tiny_options(module, tmp_path / "none", stage="cs_chairs")
        module.main(options, flownet2.TINY)


def test_a_stage_of_flownet2_begins_with_the_last_step_not_the_best(load, tmp_path):
    module = load("flownet2")
    assert module.core.last_step(tmp_path) is None
    place = tmp_path / "checkpoints"
    with checkpoint.Checkpoints(place) as saved:
        for step, loss in ((9, 0.1), (10, 0.2)):
            saved.save(step, {"x": np.ones(1)}, metrics={"loss": loss})
    assert module.core.last_step(tmp_path) == place / "10"


def test_flownetsd_means_the_same_alone_and_in_flownet2(load):
    module = load("flownet2")
    width = flownet2.TINY.width
    small = flownetsd.Model(flownetsd.Config(width=width), rngs=nnx.Rngs(3))
    whole = module.build("fusion", width, rngs=nnx.Rngs(4))
    module.adopt(whole, small)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 64, 64, 6)), jnp.float32)
    pixels = 20 * golden.run(small, x, method="flows")[-1]
    # What the fusion is given (`Model._fuse`).
    given = golden.run(whole.flownets_d, x, method="flows")[-1] / 20
    np.testing.assert_allclose(given, pixels, rtol=1e-4)


def test_frozen_batch_norm_uses_its_statistics_and_leaves_them(load):
    module = load("raft")
    model = raft.Model(raft.TINY, rngs=nnx.Rngs(0))
    model.train()
    module.recipe.freeze_batch_norm(model)
    before = jax.tree.map(np.array, checkpoint.weights_of(model)["stats"])
    assert jax.tree.leaves(before)
    image = jnp.ones((1, 128, 128, 3))
    model.cnet(image)
    assert same(before, checkpoint.weights_of(model)["stats"])


def test_a_batch_has_equal_parts_of_the_presets(load, tmp_path, monkeypatch):
    module = load("flownet2")

    def flow_batch(key, *, preset, batch_size, size):
        speed = {"things": 30.0, "sdhom": 1.0}[preset]
        return {"flow": jnp.full((batch_size, *size, 2), speed)}

    monkeypatch.setattr(module.recipe.synthetic, "flow_batch", flow_batch)
    stage = module.recipe.adapt(
        module.CURRICULUM["fusion"],
        tiny_options(module, tmp_path, preset=None),
    )
    batch = module.recipe.draw(jax.random.key(0), stage=stage)
    assert batch["flow"].shape == (2, 64, 64, 2)
    np.testing.assert_array_equal(batch["flow"][:, 0, 0, 0], (30, 1))
    with pytest.raises(ValueError, match="multiple of 2"):
        odd = dataclasses.replace(stage, batch_size=3)
        module.recipe.draw(jax.random.key(0), stage=odd)


def test_irr_learns_occlusion_too_and_does_without(load):
    module = load("irr_pwc")
    rng = np.random.default_rng(0)
    sides = [2**n for n in range(7)]

    def draw(*shape):
        return jnp.asarray(rng.normal(size=(1, *shape)), jnp.float32)

    def estimates(scale):
        maps = [[scale * draw(n, n, c) for n in sides] for c in (2, 1)]
        flows, occlusions = maps
        return irr_pwc.Estimates(flows, flows[:5], occlusions, occlusions[:5])

    both = estimates(1.0), estimates(2.0)
    truth = {
        "flow": draw(64, 64, 2),
        "flow_backward": draw(64, 64, 2),
        "occlusion": draw(64, 64) > 1,
        "occlusion_backward": draw(64, 64) > 1,
        "image1": None,
        "image2": None,
    }

    def loss(truth):
        model = types.SimpleNamespace(both_directions=lambda *frames: both)
        return module.loss(model, {**frames, **truth})

    frames = {name: truth.pop(name) for name in ("image1", "image2")}
    total, parts = jax.jit(loss)(truth)
    larger = max(float(parts["flow_loss"]), float(parts["occlusion_loss"]))
    np.testing.assert_allclose(total, 2 * larger, rtol=1e-5)
    assert parts["flow_loss"] != parts["occlusion_loss"]
    total, parts = jax.jit(loss)({"flow": truth["flow"]})
    assert set(parts) == {"flow_loss"} and total == parts["flow_loss"]

    # An estimate that is the truth, in full-size pixels / 20, costs nothing.
    flow = jnp.broadcast_to(jnp.array([3.0, -5.0]), (1, 64, 64, 2))
    right = [jnp.broadcast_to(flow[0, 0, 0] / 20, (1, n, n, 2)) for n in sides]
    perfect = irr_pwc.Estimates(right, right[:5], [], [])
    assert jax.jit(lambda e: module.flow_loss(e, flow, None))(perfect) < 1e-4


def test_unsupervised_loss_prefers_the_true_flow(load):
    module = load("unsupervised")
    rng = np.random.default_rng(0)
    wide = np.cumsum(rng.normal(size=(1, 48, 56, 3)), axis=2)
    wide = jnp.asarray((wide - wide.min()) / np.ptp(wide), jnp.float32)
    first, second = wide[:, :, :48], wide[:, :, 4:52]  # everything moves 4 to the left
    truth = jnp.broadcast_to(jnp.array([-4.0, 0.0]), (1, 48, 48, 2))

    class Guess:
        def __init__(self, flow):
            self.flow = flow

        def __call__(self, image1, image2):
            both = jnp.concatenate([self.flow, -self.flow])
            return spec.Flow(both, (both,))

    @functools.partial(jax.jit, static_argnums=1)
    def cost(k, masked):
        batch = {"image1": first, "image2": second}
        return module.loss(Guess(k * truth), batch, masked=masked)

    for masked in (False, True):
        costs = [float(cost(k, masked)) for k in (1.0, 0.0, 0.5)]
        assert costs[0] < 0.5 * costs[1] and costs[0] < 0.5 * costs[2]
    inside = module.visible(jnp.concatenate([truth, -truth]), masked=False)
    np.testing.assert_array_equal(inside[0].sum(), 48 * 44)


def test_robust_loss_of_fine_tuning_is_eq_4(load):
    module = load("pwcnet")
    truth = jnp.zeros((1, 64, 64, 2))

    def model(image1, image2):
        flows = [jnp.full((1, 64 // 2**n, 64 // 2**n, 2), 1 / 2**n) for n in (3, 2)]
        return spec.Flow(flows[-1], tuple(flows))

    batch = {"image1": truth, "image2": truth, "flow": truth}
    found = jax.jit(lambda batch: module.robust_loss(model, batch, kind="sintel"))(
        batch
    )
    # An error of (1, 1) pixels everywhere; levels 3 and 2, and full size.
    penalty = (2 / 20 + 0.01) ** 0.4
    expected = penalty * (0.01 * 8**2 + 0.005 * 16**2 + 0.0005 * 64**2)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert module.loss_of("kitti2") is not module.loss and module.loss_of("chairs")


@pytest.fixture
def chairs(monkeypatch):
    """Four pairs in place of FlyingChairs."""
    pytest.importorskip("grain")
    flying_chairs = pytest.importorskip("jaxflow.data.builders.flying_chairs")
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

    builder = flying_chairs.FlyingChairs
    monkeypatch.setattr(builder, "prepare", lambda folder, made: Builder())
    return pairs


@pytest.mark.slow
@pytest.mark.usefixtures("one_device")
def test_a_recipe_trains_on_a_prepared_data_set(load, tmp_path, chairs):
    module = load("pwcnet")
    options = tiny_options(
        module, tmp_path, stage="chairs", data=(f"chairs={tmp_path}",)
    )
    whole = module.main(options, pwcnet.TINY)
    shutil.rmtree(tmp_path / "chairs" / "checkpoints" / "2")
    assert same(module.main(options, pwcnet.TINY).params, whole.params)


def test_data_sets_are_mixed_as_the_stage_says(load, tmp_path, chairs, monkeypatch):
    module = load("vcn")
    frame = np.zeros((80, 96, 3), np.uint8)
    sample = folders.Sample(
        frame, frame, np.zeros((80, 96, 2), np.float32), np.zeros((80, 96), bool)
    )
    monkeypatch.setattr(folders, "Folder", lambda layout, folder: [sample] * 3)
    options = tiny_options(module, tmp_path, data=("chairs=A", "hd1k=B"))
    stage = module.recipe.adapt(module.STAGES["sintel"], options)
    pairs = module.recipe.Pairs(module.recipe.sources_of(options.data, options, stage))
    assert len(pairs) == 2 * 4 + 40 * 3
    np.testing.assert_array_equal(pairs[5]["image1"], chairs[1]["image1"])
    assert pairs[7]["valid"].all() and not pairs[8]["valid"].any()
    batches = module.recipe.data_of(options, stage, options.data).batches
    assert next(batches)["image1"].shape == (2, 64, 64, 3)  # cropped to one size


@pytest.mark.parametrize("name", RECIPES)
def test_headers_say_how_to_run_and_what_came_of_it(load, name):
    module = load(name)
    assert f"python experiments/flow/{name}.py" in module.__doc__
    assert "we got" in module.__doc__
    assert "eviations" in module.__doc__
    assert callable(module.main)


def test_every_recipe_is_tested_and_in_the_readme(load):
    load("pwcnet")
    found = {path.stem for path in FOLDER.glob("*.py")} - {"recipe"}
    # These have test files of their own.
    assert found == {*RECIPES, "scale_shared", "scene_ablations"}
    readme = (FOLDER.parent / "README.md").read_text()
    assert all(f"flow/{name}.py" in readme for name in found)


def test_options_can_be_read_from_the_command_line(load, tmp_path):
    tyro = pytest.importorskip("tyro")
    module = load("raft")
    line = f"--workdir {tmp_path} --preset things --size 64 96 --data a=b c=d --steps 5"
    options = tyro.cli(module.recipe.Options, args=line.split())
    assert options.size == (64, 96) and options.data == ("a=b", "c=d")
    stage = module.recipe.adapt(module.STAGES["chairs"], options)
    assert stage.presets == ("things",)
