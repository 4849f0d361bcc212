"""Torch7's binary `.t7` files: tables, tensors and modules, as dicts and arrays.

The format is a little-endian stream of objects. Each begins with an int32 that tells
its kind: 0 nil, 1 number (float64), 2 string (int32 length, bytes), 3 table, 4 Torch
object, 5 boolean (int32). Tables and Torch objects carry an int32 index, and the
contents only where the index occurs first. A Torch object then has a version string
"V 1" and a class name (very old files have the class name alone):

    torch.XTensor     int32 dimensions, int64 sizes, int64 strides, int64 offset (from
                      1), then its storage as an object
    torch.XStorage    int64 count, then the elements
    anything else     one object: the table of its fields

Functions (kinds 6, 7 and 8) are Lua bytecode and are refused.
"""

import math
import struct
from typing import Any

import numpy as np

from jaxflow.io import files

_ELEMENTS = {
    "Byte": "u1",
    "Char": "i1",
    "Short": "<i2",
    "Int": "<i4",
    "Long": "<i8",
    "Float": "<f4",
    "Double": "<f8",
    "Half": "<f2",
    "Cuda": "<f4",
    "CudaDouble": "<f8",
    "CudaHalf": "<f2",
    "CudaLong": "<i8",
    "CudaInt": "<i4",
    "CudaByte": "u1",
}
_MAX_DEPTH = 200


def read_t7(path: files.Path) -> Any:
    """Reads a binary Torch7 file.

    Args:
        path: The file.

    Returns:
        The saved object: arrays for tensors and storages, and a dict for every table
        and module. A table whose keys are 1, 2, … n keeps them, as ints. The class of
        a module stands under the key "__class__".

    Raises:
        ValueError: If the file is damaged, claims more than it holds, or contains
            functions.
        OSError: If the file cannot be read.
    """
    with open(path, "rb") as file:
        data = file.read()
    try:
        return _Reader(data).read_object()
    except _Fault as error:
        raise files.fault(path, f"is not a readable Torch7 file: {error}") from None
    except Exception as error:  # numbers and bytes that fit nowhere
        reason = f"{type(error).__name__}: {error}".partition("\n")[0][:200]
        what = f"is not a readable Torch7 file ({reason})"
        raise files.fault(path, what) from error


class _Fault(Exception):
    pass


class _Reader:
    """A position in the bytes of a file, and the objects met so far."""

    def __init__(self, data: bytes):
        self.data = memoryview(data)
        self.position = 0
        self.depth = 0
        self.objects: dict[int, Any] = {}

    def take(self, count: int) -> memoryview:
        end = self.position + count
        if count < 0 or end > len(self.data):
            raise _Fault(
                f"{count} bytes claimed at {self.position} of {len(self.data)}"
            )
        taken = self.data[self.position : end]
        self.position = end
        return taken

    def int32(self) -> int:
        return struct.unpack("<i", self.take(4))[0]

    def int64s(self, count: int) -> list[int]:
        return list(struct.unpack(f"<{count}q", self.take(8 * count)))

    def string(self) -> str:
        return bytes(self.take(self.int32())).decode("latin1")

    def read_object(self) -> Any:
        kind = self.int32()
        if kind == 0:
            return None
        if kind == 1:
            number = struct.unpack("<d", self.take(8))[0]
            return int(number) if number.is_integer() else number
        if kind == 2:
            return self.string()
        if kind == 5:
            return self.int32() == 1
        if kind not in (3, 4):
            what = "a Lua function" if kind in (6, 7, 8) else f"kind {kind}"
            raise _Fault(f"{what} at byte {self.position - 4}")
        index = self.int32()
        if index in self.objects:
            return self.objects[index]
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise _Fault(f"objects are nested more than {_MAX_DEPTH} deep")
        value = self.read_table(index) if kind == 3 else self.read_torch(index)
        self.depth -= 1
        return value

    def read_table(self, index: int) -> dict:
        table = self.objects[index] = {}
        for _ in range(self.int32()):
            key = self.read_object()
            table[key] = self.read_object()
        return table

    def read_torch(self, index: int) -> Any:
        name = self.string()
        if name.startswith("V "):
            name = self.string()
        library, _, kind = name.partition(".")
        for suffix, read in (
            ("Tensor", self.read_tensor),
            ("Storage", self.read_storage),
        ):
            element = kind.removesuffix(suffix)
            if library == "torch" and element != kind and element in _ELEMENTS:
                value = self.objects[index] = read(_ELEMENTS[element])
                return value
        fields = self.objects[index] = {"__class__": name}
        content = self.read_object()
        fields.update(content if isinstance(content, dict) else {"value": content})
        return fields

    def read_storage(self, dtype: str) -> np.ndarray:
        (count,) = self.int64s(1)
        return np.frombuffer(self.take(count * np.dtype(dtype).itemsize), dtype)

    def read_tensor(self, dtype: str) -> np.ndarray:
        dimensions = self.int32()
        sizes, strides = self.int64s(dimensions), self.int64s(dimensions)
        offset = self.int64s(1)[0] - 1
        storage = self.read_object()
        if storage is None or dimensions == 0:
            return np.zeros(0, dtype)
        if not isinstance(storage, np.ndarray) or min(*sizes, *strides, offset) < 0:
            raise _Fault(f"a tensor has size {sizes} and stride {strides}")
        count = math.prod(sizes)
        pairs = zip(sizes, strides, strict=True)
        last = offset + sum((n - 1) * step for n, step in pairs)
        if count > storage.size or (count and last >= storage.size):
            raise _Fault(f"a tensor of size {sizes} in {storage.size} elements")
        return np.lib.stride_tricks.as_strided(
            storage[offset:],
            sizes,
            [step * storage.itemsize for step in strides],
            writeable=False,
        )
