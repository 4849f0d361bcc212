"""Tests for jaxflow.models: names in, models out."""

import numpy as np
import pytest
from flax import nnx

import jaxflow
from jaxflow import convert, cost, models
from jaxflow.models.flow import spynet


def test_names_are_sorted_and_belong_to_a_task():
    names = jaxflow.list_models()
    assert names == sorted(names)
    by_task = {task: jaxflow.list_models(task) for task in models.TASKS}
    assert sorted(name for found in by_task.values() for name in found) == names
    assert "spynet" in by_task["flow"]


def test_fields_of_the_config_are_keywords():
    model = jaxflow.create_model("spynet", networks=1, features=(4, 4), kernel_size=3)
    assert model.config == spynet.Config(networks=1, features=(4, 4), kernel_size=3)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("repflow_resnet34_787564a", "repflow_hmdb_resnet34"),
        ("repflow_resnet50_787564a", "repflow_hmdb_resnet50"),
        ("repflow_kinetics_head", "repflow_kinetics_resnet50"),
    ],
)
def test_an_earlier_name_still_reads_and_says_what_it_is_called_now(old, new):
    assert old not in models.list_models() and new in models.list_models()
    message = f"the model '{old}' is now called '{new}'"
    with pytest.warns(FutureWarning, match=message):
        assert cost.listed(old) == cost.listed(new)
    with pytest.warns(FutureWarning, match=message):
        model = models.describe(old)
    assert model.config == models.describe(new).config
    with pytest.warns(FutureWarning, match=message):
        assert models.find(old) is models.find(new)


def test_the_seed_decides_the_weights():
    small = {"networks": 1, "features": (4, 4), "kernel_size": 3}
    first, same, other = (
        convert.weight_slots(jaxflow.create_model("spynet", seed=seed, **small))
        for seed in (0, 0, 1)
    )
    path = "levels.0.convs.0.kernel"
    values = [slots[path].variable[...] for slots in (first, same, other)]
    np.testing.assert_array_equal(values[0], values[1])
    assert np.abs(values[0] - values[2]).max() > 0.1


def test_what_does_not_exist_is_one_clear_error():
    with pytest.raises(ValueError, match=r"named 'spinet'; did you mean 'spynet'"):
        jaxflow.create_model("spinet")
    with pytest.raises(ValueError, match="spynet has no config field 'depth'; it has"):
        jaxflow.create_model("spynet", depth=3)
    for seed in ("a", 1.5):
        with pytest.raises(ValueError, match=f"`seed` must be .*; got {seed!r}"):
            jaxflow.create_model("spynet", seed=seed)
    for name in (None, 3, ["spynet"], nnx.Linear(1, 1, rngs=nnx.Rngs(0))):
        with pytest.raises(ValueError, match=r"^`name` must be a name in quotes; got"):
            jaxflow.create_model(name)
    with pytest.raises(ValueError, match="`task` must be one of"):
        jaxflow.list_models("audio")


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("raft_small", {"stages": (2, 2, 4)}, "`stages` must be at least 4 each"),
        ("raft_large", {"bottleneck": True, "stages": (2, 2, 4)}, "got .2, 2, 4."),
        ("actionflownet", {"blocks": ()}, r"cannot be built with blocks=\(\)"),
        ("hd3_dlaup_hda", {"planes": ()}, r"cannot be built with planes=\(\)"),
    ],
)
def test_fields_that_make_no_network_are_one_clear_error(name, fields, message):
    with pytest.raises(ValueError, match=message):
        models.describe(name, **fields)
