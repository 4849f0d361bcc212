"""Tests for jaxflow.ops.padding."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow import ops


@pytest.fixture(scope="module")
def golden(test_data):
    return np.load(test_data / "golden/flow/ops.npz")


def channels_last(array):
    return jnp.asarray(np.moveaxis(array, 1, -1))


@pytest.mark.parametrize("where, name", [("both", "sintel"), ("bottom", "kitti")])
def test_pads_as_raft_does_and_back(where, name, golden):
    image = channels_last(golden["padder_in"])
    padded, pads = ops.pad_to_multiple(image, 8, where=where)
    np.testing.assert_array_equal(padded, channels_last(golden[f"padder_{name}"]))
    np.testing.assert_array_equal(ops.unpad(padded, pads), image)


def test_pads_below_and_right_to_two_multiples():
    padded, pads = ops.pad_to_multiple(
        jnp.ones((2, 5, 6, 1)), (4, 5), where="bottom_right", mode="constant"
    )
    assert pads == ((0, 3), (0, 4))
    assert padded.shape == (2, 8, 10, 1)
    assert padded.sum() == 2 * 5 * 6


def test_padding_to_a_multiple_already_met_changes_nothing(rng):
    image = jnp.asarray(rng.random((8, 16, 3)), jnp.float32)
    padded, pads = ops.pad_to_multiple(image, 8)
    assert pads == ((0, 0), (0, 0))
    np.testing.assert_array_equal(ops.unpad(padded, pads), image)


def test_rejects_what_it_cannot_do():
    image = jnp.zeros((3, 4, 1))
    with pytest.raises(ValueError, match="where"):
        ops.pad_to_multiple(image, 8, where="left")
    with pytest.raises(ValueError, match="mode"):
        ops.pad_to_multiple(image, 8, mode="wrap")
    with pytest.raises(ValueError, match="multiple"):
        ops.pad_to_multiple(image, 0)
