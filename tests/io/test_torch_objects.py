"""Tests for jaxflow.io.torch_objects, beside those of what torch wrote."""

import numpy as np
import pytest

from jaxflow.io import torch_objects


def storage(values, kind="f4"):
    found = torch_objects.Storage(kind, "0", len(values))
    found.fill(np.asarray(values, kind).tobytes())
    return found


def test_a_tensor_is_a_view_of_its_storage():
    ramp = storage(range(24))
    found = torch_objects.Tensor(ramp, 2, (3, 4), (6, 1)).array()
    np.testing.assert_array_equal(found, np.arange(24.0).reshape(4, 6)[:3, 2:])
    assert np.shares_memory(found, ramp.elements) and not found.flags.writeable


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(0, (25,), (1,)), (1, (24,), (1,)), (0, (2, 2), (1,)), (-1, (1,), (1,)),
     (0, (2,), (-1,)), (0, (2**20, 2**10), (0, 0))],
)  # fmt: skip
def test_a_tensor_beyond_its_storage_is_refused(offset, size, stride):
    tensor = torch_objects.Tensor(storage(range(24)), offset, size, stride)
    with pytest.raises(torch_objects.Refusal, match="tensor"):
        tensor.array()


def test_bfloat16_is_widened_and_the_byte_order_obeyed():
    found = torch_objects.Storage("bfloat16", "0", 2)
    found.fill(bytes([0x3F, 0xC0, 0xC0, 0x40]), ">")
    np.testing.assert_array_equal(found.elements, np.array([1.5, -3.0], np.float32))
    with pytest.raises(torch_objects.Refusal, match="3 bytes instead of 4"):
        found.fill(bytes(3))


def test_no_array_holds_objects():
    with pytest.raises(torch_objects.Refusal, match="elements of type 'O8'"):
        torch_objects.Dtype("O8")
