"""Tests for jaxflow.generation.stages."""

import numpy as np
import pytest
from flax import nnx

from jaxflow.generation import stages
from jaxflow.models.generation import mcvd, unet3d


def given(length, count):
    return np.arange(length) < count


def test_every_missing_frame_is_made_once_and_from_frames_that_are_there(model):
    for scheme in ("autoreg", "long-range", "hierarchy-2", None):
        known = {0, 1}
        for stage in stages.plan(model, given(11, 2), "future", scheme, 4):
            assert known >= {*stage.observed} and not known & {*stage.latent}
            assert len(stage.observed) + len(stage.latent) <= 4
            known |= {*stage.latent}
        assert known == {*range(11)}


def test_the_past_is_the_future_in_the_mirror(model):
    future = stages.plan(model, given(11, 2), "future", "autoreg", 4)
    past = stages.plan(model, given(11, 2)[::-1], "past", "autoreg", 4)
    for one, other in zip(future, past, strict=True):
        assert [10 - frame for frame in one.observed] == [*other.observed]
        assert sorted(10 - frame for frame in one.latent) == [*other.latent]


@pytest.mark.parametrize(
    ("task", "scheme", "match"),
    [("future", "zigzag", "scheme"), ("any", "autoreg", "at one end")],
)
def test_a_scheme_that_cannot_be_is_refused(model, task, scheme, match):
    with pytest.raises(ValueError, match=match):
        stages.plan(model, given(6, 1), task, scheme, 4)


def test_a_network_that_is_not_told_the_numbers_takes_frames_in_a_row():
    network = unet3d.Model(unet3d.TINY, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="autoreg"):
        stages.plan(network, given(9, 2), "future", "hierarchy-2", 4)
    rows = stages.plan(network, given(9, 2), "future", None, 4)
    for stage in rows:
        frames = sorted([*stage.observed, *stage.latent])
        assert frames == [*range(frames[0], frames[-1] + 1)]


def test_a_network_that_makes_certain_frames_is_asked_for_those():
    network = mcvd.Model(mcvd.TINY, rngs=nnx.Rngs(0))
    count = network.config.num_frames
    mask = ~np.isin(np.arange(count), network.generates)
    (stage,) = stages.plan(network, mask, "any", None, count)
    assert stage.latent == [*network.generates]
    with pytest.raises(ValueError, match="cannot generate"):
        stages.plan(network, given(count, 1), "future", None, count)
