"""What stands in for the objects of a torch checkpoint: tensors, arrays, types.

None of them runs code of the file or needs torch; what does not fit the bytes that the
file holds is a `Refusal`.
"""

import collections
import math
from typing import Any

import numpy as np

from jaxflow.io import inert

# What a stride of 0 may unfold to beyond the elements that the file holds.
_EXPANDED_ELEMENTS = 2**20

STORAGES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}


class Refusal(Exception):
    """The one-line reason why a file is not read."""


class Storage:
    """The flat memory behind one or more tensors."""

    def __init__(self, kind: str, key: str, count: int):
        self.kind = kind
        self.key = key
        self.count = count
        self.elements: np.ndarray | None = None

    @property
    def item_bytes(self) -> int:
        return 2 if self.kind == "bfloat16" else np.dtype(self.kind).itemsize

    def fill(self, data: bytes | memoryview, order: str = "<") -> None:
        """Interprets the bytes of the file, in its byte order."""
        if len(data) != self.count * self.item_bytes:
            raise Refusal(
                f"storage {self.key} has {len(data)} bytes instead of "
                f"{self.count * self.item_bytes}"
            )
        if self.kind == "bfloat16":
            wide = np.frombuffer(data, f"{order}u2").astype(np.uint32) << 16
            self.elements = wide.view(np.float32)
        else:
            dtype = np.dtype(f"{order}{self.kind}")
            elements = np.frombuffer(data, dtype)
            self.elements = elements.astype(dtype.newbyteorder("="), copy=False)


class Tensor:
    """A strided view of a storage whose bytes may not have been read yet."""

    def __init__(self, storage, offset, size, stride):
        if not isinstance(storage, Storage):
            raise Refusal("a tensor has no storage")
        if not isinstance(size, (tuple, list)) or not isinstance(stride, (tuple, list)):
            raise Refusal(f"a tensor has size {size!r} and stride {stride!r}")
        self.storage = storage
        self.offset = offset
        self.size = tuple(size)
        self.stride = tuple(stride)

    def array(self) -> np.ndarray:
        numbers = (self.offset, *self.size, *self.stride)
        if len(self.size) != len(self.stride) or not all(
            isinstance(n, int) and n >= 0 for n in numbers
        ):
            raise Refusal(f"a tensor has size {self.size} and stride {self.stride}")
        elements = self.storage.elements
        if elements is None:
            raise Refusal(f"storage {self.storage.key} is missing")
        count = math.prod(self.size)
        if count == 0:
            return np.zeros(self.size, elements.dtype)
        pairs = zip(self.size, self.stride, strict=True)
        last = self.offset + sum((n - 1) * step for n, step in pairs)
        if last >= elements.size or count > max(elements.size, _EXPANDED_ELEMENTS):
            raise Refusal(
                f"a tensor of size {self.size} does not fit the {elements.size} "
                f"elements of storage {self.storage.key}"
            )
        return np.lib.stride_tricks.as_strided(
            elements[self.offset :],
            self.size,
            [step * elements.itemsize for step in self.stride],
            writeable=False,
        )


class Dtype:
    """Stands in for `numpy.dtype`: numbers and short strings, never objects."""

    def __init__(self, code, *_):
        code = code.decode("ascii") if isinstance(code, bytes) else code
        if not isinstance(code, str) or code[:1] not in "?biufSU":
            raise Refusal(f"an array has elements of type {code!r}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state):
        order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "|", "="):
            raise Refusal(f"an array has byte order {order!r}")
        self.dtype = np.dtype(f"{order}{self.dtype.str[1:]}")


class Array:
    """Stands in for `numpy.ndarray` while its parts arrive."""

    def __init__(self, *_):
        self.value: np.ndarray | None = None

    def __setstate__(self, state):
        _, shape, dtype, fortran, data = state
        self.value = _array_from_bytes(data, dtype, shape, "F" if fortran else "C")

    def array(self) -> np.ndarray:
        if self.value is None:
            raise Refusal("an array has no data")
        return self.value


def _array_from_bytes(data, dtype, shape, order="C"):
    if not isinstance(dtype, Dtype):
        raise Refusal(f"an array has elements of type {dtype!r}")
    data = data.encode("latin1") if isinstance(data, str) else data
    flat = np.frombuffer(data, dtype.dtype)
    return flat.reshape(shape, order="F" if order == "F" else "C")


def _scalar(dtype, data):
    return _array_from_bytes(data, dtype, ())[()]


def _buffer_array(data, dtype, shape, order):
    return _array_from_bytes(data, dtype, shape, order)


def _encode(text, encoding):
    if encoding not in ("latin1", "latin-1"):
        raise Refusal(f"bytes are encoded as {encoding!r}")
    return text.encode("latin1")


def _rebuild_tensor(storage, offset, size, stride, *_):
    return Tensor(storage, offset, size, stride)


def _rebuild_parameter(tensor, *_):
    return tensor


def _rebuild_with_attributes(rebuild, _, arguments, *__):
    if rebuild not in (_rebuild_tensor, _rebuild_parameter):
        raise Refusal(f"has a tensor of an unknown kind: {rebuild!r}")
    return rebuild(*arguments)


def _defaultdict(*arguments):
    return dict(arguments[1]) if len(arguments) > 1 else {}


def _numpy_names() -> dict[tuple[str, str], Any]:
    names: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): Array,
        ("numpy", "dtype"): Dtype,
        ("_codecs", "encode"): _encode,
    }
    for core in ("numpy.core", "numpy._core"):
        names[f"{core}.multiarray", "_reconstruct"] = Array
        names[f"{core}.multiarray", "scalar"] = _scalar
        names[f"{core}.numeric", "_frombuffer"] = _buffer_array
    return names


ALLOWED = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "defaultdict"): _defaultdict,
    ("copyreg", "_reconstructor"): inert.reconstruct,
    ("copy_reg", "_reconstructor"): inert.reconstruct,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _rebuild_parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _rebuild_with_attributes,
    ("torch", "Size"): tuple,
    **{("torch", name): kind for name, kind in STORAGES.items()},
    **_numpy_names(),
}
