"""Tests for jaxflow.splitting."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxflow
from jaxflow import spec, splitting


class Part(nnx.Module):
    def __init__(self, value):
        self.weight = nnx.Param(jnp.full((), value))
        self.gain = 1.0

    def __call__(self, x):
        return self.gain * self.weight[...] * x


class Net(nnx.Module):
    """A "network" whose flow is what its parts make of the frames."""

    def __init__(self):
        self.frames = spec.Frames(multiple=1)
        self.parts = nnx.data([Part(2.0), Part(3.0)])
        self.settings = (0.0, "shift")
        self.deterministic = True

    def __call__(self, image1, image2):
        assert self.deterministic
        x = image1[..., :2] + self.settings[0]
        for part in self.parts:
            x = part(x)
        return x


FRAMES = np.full((2, 4, 5, 3), 51, np.uint8)


def answer(model):
    return float(jaxflow.estimate_flow(model, *FRAMES)[0, 0, 0])


def tie(net):
    net.parts[1].weight = net.parts[0].weight


def swap(net):
    net.parts[0], net.parts[1] = Part(5.0), net.parts[0]


def equal_weight(net):
    """Replaces a weight by an equal one, which then changes in place."""
    net.parts[0].weight = nnx.Param(jnp.full((), 2.0))
    answer(net)
    net.parts[0].weight[...] = jnp.full((), 4.0)


CHANGES = {
    "weight in place": lambda net: (
        net.parts[0].weight.set_value(jnp.full((), 7.0))
        if hasattr(nnx.Variable, "set_value")
        else setattr(net.parts[0].weight, "value", jnp.full((), 7.0))
    ),
    "update": lambda net: nnx.update(
        net, jax.tree.map(lambda x: x + 1, nnx.state(net))
    ),
    "setting": lambda net: setattr(net.parts[1], "gain", 10.0),
    "layer": lambda net: setattr(net, "parts", nnx.data([Part(1.0)])),
    "layers of a list": swap,
    "tied weights": tie,
    "equal weight": equal_weight,
    "setting of a tuple": lambda net: setattr(net, "settings", (0.25, "shift")),
    "new attribute": lambda net: setattr(net, "extra", nnx.Param(jnp.ones(3))),
    "training": lambda net: net.train(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_what_changes_between_calls_is_seen(change):
    net = Net()
    before = answer(net)
    assert before == pytest.approx(0.2 * 6)
    change(net)
    fresh = nnx.merge(*nnx.split(net), copy=True)  # an object never seen before
    assert answer(net) == pytest.approx(answer(fresh))
    assert answer(net) == answer(net)


def test_the_changes_above_do_change_the_answer():
    known = ("weight in place", "setting", "layer", "layers of a list")
    for name in known:
        net = Net()
        before = answer(net)
        CHANGES[name](net)
        assert abs(answer(net) - before) > 0.1, name


def test_equal_networks_share_one_structure_and_keep_their_weights():
    one, two = Net(), Net()
    two.parts[0].weight[...] = jnp.full((), 9.0)
    (first, a), (second, b) = map(splitting.split, (one, two))
    assert first is second
    assert sorted(map(float, a)) == [2, 3] and sorted(map(float, b)) == [3, 9]
    again, leaves = splitting.split(one)
    assert again is first and all(x is y for x, y in zip(leaves, a, strict=True))
    assert isinstance(first.model(a), Net)


def test_a_network_that_is_gone_is_forgotten():
    net = Net()
    splitting.split(net)
    count, watch = len(splitting._known), weakref.ref(net)
    del net
    gc.collect()
    assert watch() is None and len(splitting._known) == count - 1


def test_a_known_network_is_not_walked_again(monkeypatch):
    model, walks = Net(), []
    walk = nnx.split
    monkeypatch.setattr(nnx, "split", lambda m: walks.append(m) or walk(m))
    for _ in range(3):
        splitting.split(model)
    assert len(walks) == 1
    model.parts[0].gain = 2.0
    splitting.split(model)
    assert len(walks) == 2
