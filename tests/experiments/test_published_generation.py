"""Each recipe of a published generation network trains on a folder, and goes on."""

import dataclasses
import importlib
import json
import pathlib
import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow import convert, io
from jaxflow.models.generation import fdm, mcvd, ramvid, rvd, unet3d

FOLDER = pathlib.Path(__file__).parents[2] / "experiments" / "generation"
# Recipe -> what it draws its network from, the variant, and a tiny one.
TINY = {
    "fdm": (fdm, "fdm_carla", dataclasses.replace(fdm.TINY, num_classes=None)),
    "mcvd": (
        mcvd,
        "mcvd_smmnist",
        dataclasses.replace(mcvd.TINY, channels=1, num_future=0, cond_emb=False),
    ),
    "ramvid": (
        ramvid,
        "ramvid_bair",
        dataclasses.replace(ramvid.TINY, num_classes=None),
    ),
    "unet3d": (
        unet3d,
        "lucid_unet3d_base",
        dataclasses.replace(unet3d.TINY, cond_dim=None),
    ),
    "rvd_videos": (
        rvd,
        "rvd_64",
        dataclasses.replace(
            rvd.TINY, dim=8, dim_mults=(1,), transform_dim_mults=(1,), image_size=8
        ),
    ),
}


@pytest.fixture(scope="module")
def recipes():
    """Imports the recipes by name, as scripts of one folder see each other."""
    if not FOLDER.is_dir():
        pytest.skip("installed without its experiments")
    names = ("recipe", *TINY)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        for name in names:  # another folder may have a file of that name
            patch.delitem(sys.modules, name, raising=False)
        yield {name: importlib.import_module(name) for name in names}
        for name in names:
            del sys.modules[name]


@pytest.fixture
def folder(tmp_path, rng):
    """A folder of three short videos, one of them in a folder of its own."""
    root = tmp_path / "videos"
    (root / "more").mkdir(parents=True)
    for name in ("a", "b", "more/c"):
        frames = rng.integers(0, 256, size=(7, 18, 20, 3)).astype(np.uint8)
        io.write_video(root / f"{name}.mkv", list(frames), fps=5, lossless=True)
    return root


@pytest.fixture
def tiny(recipes, monkeypatch):
    """Makes the network of a recipe small, and returns what runs it."""
    device = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda *args: device)

    def prepare(name):
        family, variant, config = TINY[name]
        monkeypatch.setitem(family.VARIANTS, variant, config)
        return recipes[name], variant, config

    return prepare


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_a_recipe_trains_on_a_folder_and_goes_on(
    recipes, tiny, name, folder, tmp_path, monkeypatch
):
    recipe, variant, config = tiny(name)
    numbers = {"data": folder, "test": folder, "batch_size": 2, "save_every": 1}
    numbers |= {"held_out": 1, "sampling_steps": 2, "steps": 2}
    numbers |= {"fdm": {"length": 6, "dtype": "bfloat16"}}.get(name, {})
    if name in ("ramvid", "rvd_videos"):
        numbers["frames"] = 3
    args = recipes["recipe"].Args(workdir=tmp_path / "run", **numbers)
    stage = next(iter(recipe.STAGES))
    tasks = tuple(
        ("future", 1) if of != "unconditional" else (of, 0)
        for of, _ in recipe.STAGES[stage].tasks
    )
    if name == "mcvd":
        tasks = (("future", config.num_past),)
    monkeypatch.setitem(
        recipe.STAGES, stage, dataclasses.replace(recipe.STAGES[stage], tasks=tasks)
    )
    recipe.main(args)
    run = tmp_path / "run" / stage
    weights = convert.read_checkpoint(run / "weights.safetensors")
    shutil.rmtree(run / "checkpoints" / "2")
    recipe.main(args)
    again = convert.read_checkpoint(run / "weights.safetensors")
    for key, value in weights.items():
        np.testing.assert_array_equal(again[key], value, err_msg=key)
    rows = [json.loads(row) for row in (run / "metrics.jsonl").open()]
    assert [row["step"] for row in rows if "loss" in row] == [1, 2]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert np.isfinite(losses).all()
    assert any("future_psnr" in key for row in rows for key in row)
    model = convert.load_model(
        variant,
        run / "weights.safetensors",
        **({"num_frames": 3} if "frames" in numbers else {}),
    )
    assert model.config.channels == config.channels


def test_what_is_missing_or_too_short_is_said(recipes, tiny, folder, tmp_path):
    recipe, *_ = tiny("fdm")
    args = recipes["recipe"].Args(data=folder, workdir=tmp_path / "run", batch_size=2)
    with pytest.raises(ValueError, match="7 frames, and 1000 are read"):
        recipe.main(args)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no videos"):
        recipe.main(dataclasses.replace(args, data=tmp_path / "empty"))
    with pytest.raises(ValueError, match="`stage` must be one of"):
        recipe.main(dataclasses.replace(args, stage="kinetics"))


def test_past_and_future_are_masked_as_often_as_the_stage_says(recipes):
    config = dataclasses.replace(mcvd.TINY, num_past=2, num_current=3, num_future=1)

    class Network:
        process = mcvd.Model.process

    network = Network()
    network.config = config
    videos = jnp.zeros((4000, 6, 1, 1, 1))
    draw = recipes["mcvd"].batch_of
    found = draw(jax.random.key(0), videos, network, masked=0.5).selection
    seen, latent = np.asarray(found.observed), np.asarray(found.latent)
    np.testing.assert_array_equal(latent, [[0, 0, 1, 1, 1, 0]] * 4000)
    np.testing.assert_array_equal(seen[:, 0], seen[:, 1])
    assert seen[:, 2:5].max() == 0
    # Half of each, one by one: four standard deviations of a mean of 4000 coins.
    share = 4 * 0.5 / np.sqrt(4000)
    assert abs(seen[:, 0].mean() - 0.5) < share
    assert abs(seen[:, 5].mean() - 0.5) < share
    assert abs((seen[:, 0] * seen[:, 5]).mean() - 0.25) < share
    never = draw(jax.random.key(0), videos, network, masked=0.0).selection
    np.testing.assert_array_equal(never.observed, [[1, 1, 0, 0, 0, 1]] * 4000)


def test_given_frames_are_as_many_as_the_stage_says(recipes):
    class Network:
        process = ramvid.Model.process

    videos = jnp.zeros((8000, 6, 1, 1, 1))
    found = recipes["ramvid"].batch_of(
        jax.random.key(0), videos, Network(), unconditional=0.25
    )
    seen = np.asarray(found.selection.observed)
    np.testing.assert_array_equal(found.selection.latent, 1 - seen)
    counts = np.bincount(seen.sum(1).astype(int), minlength=5) / 8000
    # A quarter of none, and 1 to 4 frames equally often otherwise.
    expected = [0.25, *4 * [0.75 / 4]]
    np.testing.assert_allclose(counts, expected, atol=4 * 0.5 / np.sqrt(8000))
    # Each frame is given equally often.
    np.testing.assert_allclose(seen.mean(0), 0.75 * 2.5 / 6, atol=0.02)


def test_luma_and_the_range_of_networks(recipes):
    clip = jnp.asarray([[[[[1.0, 0.0, 0.0], [0.5, 0.5, 0.5]]]]])
    np.testing.assert_allclose(
        recipes["recipe"].scaled(clip, 1)[0, 0, 0, :, 0], [2 * 0.299 - 1, 0], atol=1e-6
    )
    assert recipes["recipe"].scaled(clip, 3).max() == 1
