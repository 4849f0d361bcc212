"""Tests for jaxflow.tiles."""

import jax
import numpy as np
import pytest
from flax import nnx

import jaxflow
from jaxflow import spec, tiles
from jaxflow.models.flow import spynet
from tests import probe


@pytest.fixture
def pair(rng):
    return rng.integers(0, 256, (2, 37, 53, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def tiny():
    model = spynet.Model(spynet.TINY, rngs=nnx.Rngs(jax.random.key(0)))
    model.eval()
    return model


@pytest.mark.parametrize("size", [(37, 53), (40, 53), (16, 90), (100, 20)])
def test_tiles_of_a_local_method_add_up_to_the_whole(rng, size):
    frames = rng.uniform(size=(2, *size, 3)).astype(np.float32)
    model = probe.Probe(spec.Frames(multiple=8, fit="pad"))
    whole = jaxflow.estimate_flow(model, *frames)
    tiled = jaxflow.estimate_flow(model, *frames, tile=(24, 32), overlap=7)
    # What a pixel answers depends on that pixel alone; the weights sum to 1.
    np.testing.assert_allclose(tiled, whole, atol=1e-6)


def test_tiles_cover_everything_and_overlap_enough():
    for length in range(24, 200):
        starts = tiles._starts(length, 24, 7)
        assert starts[0] == 0 and starts[-1] == length - 24
        assert np.all(np.diff(starts) <= 24 - 7)


def test_weights_of_tiles_fade_towards_inner_edges_only():
    np.testing.assert_allclose(
        tiles._ramp(6, 2, True, False), [1 / 3, 2 / 3, 1, 1, 1, 1]
    )
    np.testing.assert_allclose(
        tiles._ramp(6, 2, False, True), [1, 1, 1, 1, 2 / 3, 1 / 3]
    )


def test_frames_that_fit_are_not_tiled(tiny, pair):
    whole = jaxflow.estimate_flow(tiny, *pair)
    np.testing.assert_array_equal(
        jaxflow.estimate_flow(tiny, *pair, tile=64, overlap=8), whole
    )


@pytest.mark.parametrize("overlap", [-1, 24, 30])
def test_an_impossible_overlap_raises(pair, overlap):
    with pytest.raises(ValueError, match="`overlap` must be less than `tile`"):
        jaxflow.estimate_flow(
            probe.Probe(spec.Frames(multiple=1)), *pair, tile=24, overlap=overlap
        )


def test_with_tiles_each_pair_keeps_its_options(rng):
    one, two = rng.integers(0, 256, (2, 3, 37, 53, 3), dtype=np.uint8)
    model = probe.Probe(spec.Frames(multiple=8, fit="pad"))
    gain = np.arange(1, 4, dtype=np.float32).reshape(3, 1, 1, 1)
    keywords = {"options": {"gain": gain}, "tile": 24, "overlap": 8}
    found = jaxflow.estimate_flow(model, one, two, **keywords)
    np.testing.assert_allclose(found[..., 0], gain[..., 0] * (one[..., 0] / 255), 1e-5)
