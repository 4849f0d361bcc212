"""Tests for jaxflow.io.torch7, on files written here from the format's description."""

import struct
import tracemalloc

import numpy as np
import pytest

from jaxflow.io import torch7

NAMES = {"float32": "Float", "float64": "Double", "int64": "Long", "uint8": "Byte"}


class Writer:
    """Writes what `torch.save` of Torch7 writes, one object after the other."""

    def __init__(self):
        self.parts = []
        self.indices = {}
        self.alive = []  # an id is taken again when its object is gone

    def int32(self, *numbers):
        self.parts.append(struct.pack(f"<{len(numbers)}i", *numbers))

    def int64(self, *numbers):
        self.parts.append(struct.pack(f"<{len(numbers)}q", *numbers))

    def string(self, text):
        self.int32(len(text))
        self.parts.append(text.encode())

    def begin(self, kind, value):
        """Returns whether the contents follow, or only the index of an older one."""
        self.alive.append(value)
        known = id(value) in self.indices
        index = self.indices.setdefault(id(value), len(self.indices) + 1)
        self.int32(kind, index)
        return not known

    def torch(self, name, value):
        if self.begin(4, value):
            self.string("V 1")
            self.string(name)
            return True
        return False

    def write(self, value):
        if value is None:
            self.int32(0)
        elif isinstance(value, bool):
            self.int32(5, value)
        elif isinstance(value, (int, float)):
            self.int32(1)
            self.parts.append(struct.pack("<d", value))
        elif isinstance(value, str):
            self.int32(2)
            self.string(value)
        elif isinstance(value, np.ndarray):
            self.tensor(value)
        elif "__class__" in value:
            if self.torch(value["__class__"], value):
                fields = dict(value)
                del fields["__class__"]
                self.write(fields)
        elif self.begin(3, value):
            self.int32(len(value))
            for key, item in value.items():
                self.write(key)
                self.write(item)
        return self

    def tensor(self, array):
        kind = NAMES[array.dtype.name]
        if not self.torch(f"torch.{kind}Tensor", array):
            return
        base = array if array.base is None else array.base
        start = array.ctypes.data - base.ctypes.data
        self.int32(array.ndim)
        self.int64(*array.shape)
        self.int64(*(step // array.itemsize for step in array.strides))
        self.int64(1 + start // array.itemsize)
        self.storage(base, kind)

    def storage(self, base, kind):
        key = base.ravel()
        self.indices.setdefault(("storage", id(base)), key)
        if self.torch(f"torch.{kind}Storage", self.indices["storage", id(base)]):
            self.int64(base.size)
            self.parts.append(base.tobytes())

    def save(self, path):
        path.write_bytes(b"".join(self.parts))
        return path


def saved(value, path):
    return torch7.read_t7(Writer().write(value).save(path))


def test_reads_every_kind_of_value(tmp_path):
    value = {1: "one", "two": 2, 3: 2.5, "yes": True, "no": False, "deep": {1: {}}}
    assert saved(value, tmp_path / "values.t7") == value


@pytest.mark.parametrize("dtype", NAMES)
def test_reads_tensors_of_every_type_and_stride(tmp_path, dtype):
    base = np.arange(24).astype(dtype).reshape(4, 6).copy()
    value = {"whole": base, "column": base[:, 2], "turned": base.T, "tail": base[2:]}
    actual = saved(value, tmp_path / "tensors.t7")
    for key, expected in value.items():
        assert actual[key].dtype == expected.dtype
        np.testing.assert_array_equal(actual[key], expected)


def test_reads_a_network_and_its_shared_parts(tmp_path):
    weight = np.ones((2, 147), np.float32)
    layer = {"__class__": "cudnn.SpatialConvolution", "weight": weight, "kW": 7}
    network = {"__class__": "nn.Sequential", "modules": {1: layer, 2: layer}}
    actual = saved(network, tmp_path / "net.t7")
    assert actual["__class__"] == "nn.Sequential"
    assert actual["modules"][1] is actual["modules"][2]
    np.testing.assert_array_equal(actual["modules"][1]["weight"], weight)


def test_reads_a_table_that_contains_itself(tmp_path):
    value = {}
    value["self"] = value
    actual = saved(value, tmp_path / "loop.t7")
    assert actual["self"] is actual


def test_reads_class_names_without_a_version(tmp_path):
    writer = Writer()
    writer.int32(4, 1)
    writer.string("torch.FloatStorage")
    writer.int64(2)
    writer.parts.append(np.float32([3, 4]).tobytes())
    np.testing.assert_array_equal(
        torch7.read_t7(writer.save(tmp_path / "o.t7")), [3, 4]
    )


@pytest.mark.parametrize("kind", [6, 7, 8, 9, -1])
def test_functions_and_unknown_kinds_are_refused(tmp_path, kind):
    writer = Writer()
    writer.int32(kind, 1)
    with pytest.raises(ValueError, match=r"f\.t7: .*(a Lua function|kind)"):
        torch7.read_t7(writer.save(tmp_path / "f.t7"))


@pytest.mark.parametrize("count", [5, 10**15, -1])
@pytest.mark.parametrize("what", ["string", "table", "storage", "dimensions", "size"])
def test_a_lying_count_is_an_error_and_allocates_nothing(tmp_path, what, count):
    writer = Writer()
    small = max(min(count, 2**31 - 1), -1)
    if what == "string":
        writer.int32(2, small)
    elif what == "table":
        writer.int32(3, 1, small if small >= 0 else 1)
    else:
        writer.torch(f"torch.Float{'Storage' if what == 'storage' else 'Tensor'}", "x")
        if what == "storage":
            writer.int64(count)
        elif what == "dimensions":
            writer.int32(small)
        else:
            writer.int32(1)
            writer.int64(count, 1, 1)
            writer.torch("torch.FloatStorage", "s")
            writer.int64(2)
            writer.parts.append(bytes(8))
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"lie\.t7"):
        torch7.read_t7(writer.save(tmp_path / "lie.t7"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


def test_deep_nesting_is_an_error_not_a_crash(tmp_path):
    value = {}
    for _ in range(300):
        value = {1: value}
    with pytest.raises(ValueError, match="nested more than"):
        saved(value, tmp_path / "deep.t7")
