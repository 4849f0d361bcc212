"""Tests for jaxflow.convert.slots."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxflow import convert, models
from jaxflow.convert import slots
from jaxflow.layers import conv
from jaxflow.models.flow import spynet


def test_a_slot_takes_torch_layouts_flat_and_two_dimensional_kernels(rng):
    layer = conv.Conv3d(3, 4, (2, 5, 5), rngs=nnx.Rngs(0))
    slot = slots.find_slot(layer, "weight")
    assert slot.foreign_shape == (4, 3, 2, 5, 5)
    flat, image = rng.normal(size=(4, 150)), rng.normal(size=(4, 3, 5, 5))
    assert slot.accepts(flat.shape) and slot.accepts(image.shape)
    assert not slot.accepts((4, 3, 5, 4)) and not slot.accepts((600,))
    slot.fill(flat)
    expected = flat.reshape(4, 3, 2, 5, 5).transpose(2, 3, 4, 1, 0)
    np.testing.assert_allclose(layer.kernel[...], expected, rtol=1e-6)
    slot.fill(image)
    expected = np.stack([image.transpose(2, 3, 1, 0)] * 2) / 2
    np.testing.assert_allclose(layer.kernel[...], expected, rtol=1e-6)


def test_a_described_model_is_filled_in_part_and_says_what_is_left():
    model = models.described(lambda rngs: spynet.Model(spynet.TINY, rngs=rngs))
    paths = list(slots.weight_slots(model))
    assert list(slots.unfilled(model)) == paths
    first = slots.weight_slots(model)[paths[0]]
    slots.write(model, {paths[0]: jnp.ones(first.variable.shape)})
    assert list(slots.unfilled(model)) == paths[1:]
    assert isinstance(slots.node_at(model, paths[0])[...], jax.Array)


def test_paths_lead_through_attributes_keys_and_indices():
    layer = conv.Conv(1, 1, rngs=nnx.Rngs(0))
    tree = {"a": [0, {"b": layer}]}
    assert convert.node_at(tree, "a.1.b.kernel") is layer.kernel
    assert convert.node_at(tree, "a.2") is convert.node_at(tree, "c") is None
    assert convert.node_at(tree, "") is tree
