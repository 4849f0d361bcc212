"""Tests for jaxflow.restoring; several processes are in test_mesh."""

import json

import jax
import jax.numpy as jnp
import pytest
from etils import epath

from jaxflow import restoring

HERE = epath.Path("run/7")


def test_a_state_is_flattened_with_its_keys_as_numbers():
    tree = {"a": (jnp.ones(2), jnp.zeros(())), "key": jax.random.key(0, impl="rbg")}
    flat = restoring.flatten(tree)
    assert list(flat) == ["a/0", "a/1", "key"]
    assert flat["key"].dtype == jnp.uint32
    assert restoring.key_kinds(tree) == {"key": "rbg"}


def test_positions_of_as_many_processes_are_each_ones_own():
    saved = restoring.plain([{"position": {"n": b"\x00\xff", "at": (1, 2)}}])
    assert json.loads(json.dumps(saved)) == saved
    found = restoring.own_data(saved, HERE)
    assert found == {"position": {"n": b"\x00\xff", "at": [1, 2]}}


def test_another_number_of_processes_takes_over_a_common_position():
    assert restoring.own_data([{"position": 5}] * 4, HERE) == {"position": 5}
    with pytest.raises(ValueError, match=r"run/7: 2 processes were at different"):
        restoring.own_data([{"position": 5}, {"position": 6}], HERE)


def test_what_the_first_version_saved_is_for_every_process():
    assert restoring.own_data({"position": 5}, HERE) == {"position": 5}
