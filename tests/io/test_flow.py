"""Tests for jaxflow.io.flow."""

import numpy as np
import pytest

from jaxflow import io


@pytest.mark.parametrize("name", ["a.flo", "a.FLO", "a.pfm", "a.png"])
def test_every_kind_keeps_the_flow_and_its_mask(tmp_path, rng, name):
    # Multiples of 1/64 survive every format.
    flow = rng.integers(-2000, 2000, (7, 5, 2)) / 64
    valid = rng.uniform(size=(7, 5)) > 0.3
    io.write_flow(tmp_path / name, flow, valid=valid)
    read, known = io.read_flow(str(tmp_path / name))
    assert read.dtype == np.float32 and read.shape == flow.shape
    np.testing.assert_array_equal(known, valid)
    np.testing.assert_array_equal(read, np.where(valid[..., None], flow, 0))


@pytest.mark.parametrize("name", ["a.jpg", "a", "a.flo.txt"])
def test_an_unknown_extension_is_refused_by_name(tmp_path, name):
    with pytest.raises(ValueError, match=r"flow files end in \.flo, \.png, \.pfm, "):
        io.read_flow(tmp_path / name)
    with pytest.raises(ValueError, match=r"flow files end in \.flo, \.png, \.pfm"):
        io.write_flow(tmp_path / name, np.zeros((1, 1, 2)))
