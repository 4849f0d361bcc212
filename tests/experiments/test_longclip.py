"""Tests for experiments/video/longclip.py."""

import json

import jax
import numpy as np
import pytest
from flax import nnx

from jaxflow import banks
from jaxflow.data import motion_classes
from tests.experiments import scripts


@pytest.fixture(scope="module")
def longclip():
    with scripts.imported("video", "longclip") as module:
        yield module


@pytest.mark.slow
def test_trains_tests_and_writes_a_line_a_seed(longclip, tmp_path, capsys):
    args = longclip.Args(
        seeds=(3,),
        backbone_steps=2,
        width=2,
        steps=2,
        train_clips=4,
        test_clips=2,
        output=tmp_path,
    )
    (row,) = longclip.main(args)
    assert row["seed"] == 3
    assert all(0 <= row[reading] <= 1 for reading in longclip.READINGS)
    assert json.loads(capsys.readouterr().out) == row
    assert json.loads((tmp_path / "results.jsonl").read_text()) == row


@pytest.mark.slow
def test_its_bank_is_that_of_the_library(longclip):
    config = longclip.r3d.Config(
        crop_size=32, num_frames=8, blocks=(1,), kinds=("3d",), width=2
    )
    model = longclip.r3d.Model(config, rngs=nnx.Rngs(0))
    found = longclip.banks_of(model, "test", 1)
    clips = np.asarray(motion_classes.load("test", 1, task="longclip")["clip"])
    bank = banks.compute_bank(
        model, clips[0], fps=8, stride=1, short_side=32, batch_size=16
    )
    np.testing.assert_allclose(found["bank"][0], bank.features[:, 0], atol=1e-4)
    assert found["bank"].shape == (1, 16, 2)


def test_a_short_window_sees_the_last_entry_alone(longclip):
    bank = jax.random.normal(jax.random.key(0), (2, 5, 3))
    other = bank.at[:, :-1].add(1.0)
    for reading in longclip.READINGS:
        reader = longclip.Reader(3, reading, rngs=nnx.Rngs(0))
        for step in reader.operator.steps:
            shape = step.out.kernel.shape
            step.out.kernel[...] = jax.random.normal(jax.random.key(1), shape)
        reader.eval()
        score = jax.jit(lambda bank, reader=reader: reader(bank))
        same = np.allclose(score(bank), score(other), atol=1e-6)
        assert same == (reading == "short window")
