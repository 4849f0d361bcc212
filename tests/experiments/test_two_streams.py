"""Tests for experiments/video/product.py and appearance_bias.py."""

import dataclasses
import importlib
import pathlib

import jax
import numpy as np
import pytest

FOLDER = pathlib.Path(__file__).parents[2] / "experiments" / "video"


@pytest.fixture(scope="module")
def scripts():
    if not FOLDER.is_dir():
        pytest.skip("installed without its experiments")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        patch.syspath_prepend(FOLDER.parent)
        bias = importlib.import_module("appearance_bias")
        yield bias.product, bias


@pytest.mark.slow
def test_goes_on_where_it_was_stopped(scripts, tmp_path, capsys):
    product, _ = scripts
    small = {"steps": 1, "batch_size": 8, "test_clips": 16, "output": tmp_path}
    args = product.Args(seeds=(3,), nets=("rgb",), **small)
    (row,) = product.main(args)
    assert (row["net"], row["seed"]) == ("rgb", 3) and 0 <= row["top1"] <= 1
    whole = dataclasses.replace(args, nets=("rgb", "flow", "late"))
    weights = (tmp_path / "rgb-3.safetensors").read_bytes()
    rows = product.main(whole)
    assert rows[0] == row and [each["net"] for each in rows] == ["rgb", "flow", "late"]
    assert (tmp_path / "rgb-3.safetensors").read_bytes() == weights
    capsys.readouterr()
    assert product.main(whole) == rows and not capsys.readouterr().out
    with pytest.raises(ValueError, match="holds results of --steps 1; this is 2"):
        product.main(dataclasses.replace(args, steps=2))


@pytest.mark.slow
def test_a_tint_tells_the_class_in_training_alone(scripts, tmp_path):
    _, bias = scripts
    draw = jax.jit(lambda key: bias.draw_linked(key, batch_size=40))
    batch = draw(jax.random.key(0))
    clip, label = np.asarray(batch["clip"]), np.asarray(batch["label"])
    # Red, blue, cyan and yellow: by the largest difference from grey.
    means = clip.mean((1, 2, 3))
    away = means - means.mean(-1, keepdims=True)
    red_or_cyan = np.abs(away[:, 0]) > np.abs(away[:, 2])
    first = away[np.arange(40), np.where(red_or_cyan, 0, 2)] > 0
    found = np.where(red_or_cyan, np.where(first, 0, 2), np.where(first, 1, 3))
    assert (found == label).mean() > 0.9 and len(set(label)) == 4
    args = bias.Args(
        seeds=(0,),
        nets=("rgb",),
        steps=1,
        batch_size=8,
        test_clips=32,
        output=tmp_path,
    )
    (row,) = bias.main(args)
    assert all(0 <= row[kind] <= 1 for kind in ("linked", "any", "swapped"))
