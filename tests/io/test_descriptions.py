"""Tests for jaxflow.io.descriptions; what Orbax makes of them is in test_checkpoint."""

import json

import jax.numpy as jnp
import pytest

from jaxflow.io import descriptions

META = {"leaves": {"x": [[2], "float32"]}, "checksums": {"x": 5}, "data": {"1": None}}


def write(folder, meta):
    (folder / "state").mkdir(parents=True)
    (folder / "meta").mkdir()
    (folder / "meta" / "metadata").write_text(json.dumps(meta))


def test_a_description_comes_back_and_what_is_late_is_a_number(tmp_path):
    meta = META | {"checksums": {"x": jnp.uint32(5), "y": lambda: 7}}
    write(tmp_path, descriptions.signed(meta))
    found = descriptions.read(tmp_path)
    assert found.pop("signature")
    assert found == META | {"checksums": {"x": 5, "y": 7}}


def test_a_description_that_was_changed_is_damage(tmp_path):
    write(tmp_path, descriptions.signed(META) | {"data": {"1": 0}})
    with pytest.raises(descriptions.Damage, match="do not match their checksum"):
        descriptions.read(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"leaves"', "5"])
def test_a_torn_description_is_damage(tmp_path, text):
    write(tmp_path, {})
    (tmp_path / "meta" / "metadata").write_text(text)
    with pytest.raises(descriptions.Damage, match="meta/metadata"):
        descriptions.read(tmp_path)


def test_what_others_wrote_has_none(tmp_path):
    (tmp_path / "_CHECKPOINT_METADATA").write_text('{"custom_metadata": null}')
    assert descriptions.read(tmp_path) == {}
