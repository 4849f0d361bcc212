"""Tests for jaxflow.convert.recorded."""

import dataclasses
import json

import pytest
from flax import nnx

from jaxflow import checkpoint, convert, models, weights
from jaxflow.convert import recorded
from jaxflow.models.video import r3d
from tests.convert import states


@pytest.fixture(scope="module")
def own():
    """A network of one's own width and classes."""
    config = dataclasses.replace(r3d.TINY, num_classes=4)
    return r3d.Model(config, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("name", [None, "r3d_18", "r2plus1d_18"])
def test_a_network_of_ones_own_is_made_as_its_weights_say(tmp_path, own, name):
    checkpoint.save(tmp_path / "own", own)
    model = convert.load_model(name, tmp_path / "own")
    assert model.config == own.config
    states.assert_same(model, own)


def test_what_is_said_beside_the_weights_counts_more(tmp_path, own):
    checkpoint.save(tmp_path / "own", own)
    found = weights.read(tmp_path / "own")
    model = convert.load_model("r3d_18", found, num_classes=9, head="fresh")
    assert model.config == dataclasses.replace(own.config, num_classes=9)
    message = (
        r"with width=\d+ \(width=3 here\); let `jaxflow.load_model\(None, path\)` make "
        r"the model; on the command line, --option width=\d+$"
    )
    with pytest.raises(ValueError, match=message):
        convert.load_model("r3d_18", found, width=3)


def test_every_config_is_made_again_from_its_record():
    for module in {models.find(name) for name in models.list_models()}:
        name = next(iter(module.RECORD.variants))
        fields = json.loads(json.dumps(dataclasses.asdict(module.RECORD.tiny)))
        record = {"model": module.__name__, "variant": "", "config": fields}
        config = module.RECORD.variants[name]
        made = dataclasses.replace(config, **recorded.fields_of(record, name))
        assert made == module.RECORD.tiny
        found = weights.Found({}, "run", record)
        assert models.find(recorded.name_of(found)) is module
        assert recorded.fields_of({**record, "variant": name}, name) == {}


def test_weights_that_do_not_say_what_they_are_of_need_a_name():
    own = {"model": "mine", "variant": "", "config": {}}
    for record, told in (({}, "does not say which network"), (own, "class of mine")):
        with pytest.raises(ValueError, match=rf"a\.pth .*{told}"):
            recorded.name_of(weights.Found({}, "a.pth", record))
