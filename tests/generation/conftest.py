"""The networks and the clip of the tests of generation."""

import numpy as np
import pytest
from flax import nnx

from jaxflow.models.generation import fdm, rvd
from tests.generation.network import CONFIG, noisy_weights


@pytest.fixture(scope="package")
def model():
    return noisy_weights(fdm.Model(CONFIG, rngs=nnx.Rngs(0)))


@pytest.fixture(scope="package")
def extending():
    return noisy_weights(rvd.Model(rvd.TINY, rngs=nnx.Rngs(0)))


@pytest.fixture
def clip(rng):
    return rng.uniform(size=(6, 8, 8, 1)).astype(np.float32)
