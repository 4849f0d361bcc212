"""Checkpoints written by torch and by NumPy's pickle, read without running their code.

A `.pth` file is a pickle, and a pickle is a program: `torch.load` may call whatever it
names. The reader here executes only the opcodes that build plain containers. No name in
the file is looked up: the constructors of tensors and arrays are replaced by our own,
every other name by an inert stand-in (`jaxflow.io.inert`), and the names that attacks
use are refused.

Three layouts are read: the zip archive of torch 1.6 and later, the chain of pickles of
earlier torch, and a plain pickle of NumPy arrays (Caffe2's `.pkl`). bfloat16, which
NumPy lacks, is widened to float32.
"""

import collections
import io
import math
import os
import pickle
import sys
import zipfile
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn

import numpy as np

from jaxflow.io import files, inert

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
# What a stride of 0 may unfold to beyond the elements that the file holds.
_EXPANDED_ELEMENTS = 2**20

_STORAGES = {
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


def read_torch(path: files.Path) -> Any:
    """Reads a checkpoint of torch, or a pickle of NumPy arrays.

    Args:
        path: The file, whatever its extension.

    Returns:
        What was saved, with NumPy arrays in place of tensors: usually a dict. Arrays
        may share memory as the tensors did.

    Raises:
        ValueError: If the file is damaged, claims more than it holds, or names
            anything but tensors, arrays and plain containers.
        OSError: If the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            is_zip = file.read(4) == b"PK\x03\x04"
            file.seek(0)
            return _read_zip(path) if is_zip else _read_pickles(path, file.read())
    except _Refusal as refusal:
        raise files.fault(path, " ".join(str(refusal).split())[:300]) from None
    except Exception as error:  # opcodes and archives fail in every way there is
        if isinstance(error, OSError) and error.filename is not None:
            raise
        reason = str(error).partition("\n")[0][:200]
        what = f"is not a readable checkpoint ({type(error).__name__}: {reason})"
        raise files.fault(path, what) from error


class _Refusal(Exception):
    """The one-line reason why a file is not read."""


class _Storage:
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
            raise _Refusal(
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


class _Tensor:
    """A strided view of a storage whose bytes may not have been read yet."""

    def __init__(self, storage, offset, size, stride):
        if not isinstance(storage, _Storage):
            raise _Refusal("a tensor has no storage")
        if not isinstance(size, (tuple, list)) or not isinstance(stride, (tuple, list)):
            raise _Refusal(f"a tensor has size {size!r} and stride {stride!r}")
        self.storage = storage
        self.offset = offset
        self.size = tuple(size)
        self.stride = tuple(stride)

    def array(self) -> np.ndarray:
        numbers = (self.offset, *self.size, *self.stride)
        if len(self.size) != len(self.stride) or not all(
            isinstance(n, int) and n >= 0 for n in numbers
        ):
            raise _Refusal(f"a tensor has size {self.size} and stride {self.stride}")
        elements = self.storage.elements
        if elements is None:
            raise _Refusal(f"storage {self.storage.key} is missing")
        count = math.prod(self.size)
        if count == 0:
            return np.zeros(self.size, elements.dtype)
        pairs = zip(self.size, self.stride, strict=True)
        last = self.offset + sum((n - 1) * step for n, step in pairs)
        if last >= elements.size or count > max(elements.size, _EXPANDED_ELEMENTS):
            raise _Refusal(
                f"a tensor of size {self.size} does not fit the {elements.size} "
                f"elements of storage {self.storage.key}"
            )
        return np.lib.stride_tricks.as_strided(
            elements[self.offset :],
            self.size,
            [step * elements.itemsize for step in self.stride],
            writeable=False,
        )


class _Dtype:
    """Stands in for `numpy.dtype`: numbers and short strings, never objects."""

    def __init__(self, code, *_):
        code = code.decode("ascii") if isinstance(code, bytes) else code
        if not isinstance(code, str) or code[:1] not in "?biufSU":
            raise _Refusal(f"an array has elements of type {code!r}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state):
        order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "|", "="):
            raise _Refusal(f"an array has byte order {order!r}")
        self.dtype = np.dtype(f"{order}{self.dtype.str[1:]}")


class _Array:
    """Stands in for `numpy.ndarray` while its parts arrive."""

    def __init__(self, *_):
        self.value: np.ndarray | None = None

    def __setstate__(self, state):
        _, shape, dtype, fortran, data = state
        self.value = _array_from_bytes(data, dtype, shape, "F" if fortran else "C")

    def array(self) -> np.ndarray:
        if self.value is None:
            raise _Refusal("an array has no data")
        return self.value


def _array_from_bytes(data, dtype, shape, order="C"):
    if not isinstance(dtype, _Dtype):
        raise _Refusal(f"an array has elements of type {dtype!r}")
    data = data.encode("latin1") if isinstance(data, str) else data
    flat = np.frombuffer(data, dtype.dtype)
    return flat.reshape(shape, order="F" if order == "F" else "C")


def _scalar(dtype, data):
    return _array_from_bytes(data, dtype, ())[()]


def _buffer_array(data, dtype, shape, order):
    return _array_from_bytes(data, dtype, shape, order)


def _encode(text, encoding):
    if encoding not in ("latin1", "latin-1"):
        raise _Refusal(f"bytes are encoded as {encoding!r}")
    return text.encode("latin1")


def _rebuild_tensor(storage, offset, size, stride, *_):
    return _Tensor(storage, offset, size, stride)


def _rebuild_parameter(tensor, *_):
    return tensor


def _rebuild_with_attributes(rebuild, _, arguments, *__):
    if rebuild not in (_rebuild_tensor, _rebuild_parameter):
        raise _Refusal(f"has a tensor of an unknown kind: {rebuild!r}")
    return rebuild(*arguments)


def _defaultdict(*arguments):
    return dict(arguments[1]) if len(arguments) > 1 else {}


def _numpy_names() -> dict[tuple[str, str], Any]:
    names: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Dtype,
        ("_codecs", "encode"): _encode,
    }
    for core in ("numpy.core", "numpy._core"):
        names[f"{core}.multiarray", "_reconstruct"] = _Array
        names[f"{core}.multiarray", "scalar"] = _scalar
        names[f"{core}.numeric", "_frombuffer"] = _buffer_array
    return names


_ALLOWED = {
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
    **{("torch", name): kind for name, kind in _STORAGES.items()},
    **_numpy_names(),
}


# The interpreter written in Python, not the faster one in C: the latter allocates
# whatever length or memo index an opcode claims before it looks at the file.
class _Unpickler(pickle._Unpickler):
    """Builds containers, tensors and arrays; all else is inert or refused."""

    def __init__(self, file: io.BytesIO):
        super().__init__(file, encoding="latin1")
        self.storages: dict[str, _Storage] = {}

    stack: list  # the operands of the opcodes
    read: Callable[[int], bytes]
    append: Callable[[Any], None]

    def load_build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, (_Array, _Dtype)):
            target.__setstate__(state)
        elif not isinstance(target, (dict, inert.Foreign)):
            raise _Refusal("sets attributes of something that is not an array")

    def load_newobj(self) -> None:
        arguments, kind = self.stack.pop(), self.stack.pop()
        self.stack.append(self._build(kind, arguments))

    def load_newobj_ex(self) -> None:
        self.stack.pop()
        self.load_newobj()

    def load_bytearray8(self) -> None:
        size = int.from_bytes(self.read(8), "little")
        data = self.read(size)  # the original allocates what is claimed first
        if len(data) != size:
            raise _Refusal(f"claims {size} bytes and ends after {len(data)}")
        self.append(bytearray(data))

    def _build(self, kind: Any, arguments: Any) -> Any:
        if kind not in (collections.OrderedDict, _Array, _Dtype) and not isinstance(
            kind, inert.Foreign
        ):
            raise _Refusal(f"builds {kind!r}, which is no class")
        return kind(*arguments)

    dispatch: ClassVar[dict[int, Any]] = {
        **pickle._Unpickler.dispatch,
        pickle.BUILD[0]: load_build,
        pickle.BYTEARRAY8[0]: load_bytearray8,
        pickle.NEWOBJ[0]: load_newobj,
        pickle.NEWOBJ_EX[0]: load_newobj_ex,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        unread = module == "torch._utils" and name.startswith("_rebuild")
        if unread or inert.is_alarming(module, name):
            raise _Refusal(
                f"refers to {module}.{name}, which is no part of weights that are read "
                "here: refused, because loading it could run code; save the state dict "
                "alone"
            )
        return inert.Foreign(f"{module}.{name}")

    def get_extension(self, code: int) -> NoReturn:
        raise _Refusal(f"refers to extension {code}: refused")

    def persistent_load(self, pid: Any) -> _Storage:
        tag, kind, key, _, count, *view = pid
        if tag != "storage" or kind not in _STORAGES.values():
            raise _Refusal(f"has a record of an unknown kind: {tag!r}")
        if view and view[0] is not None:
            raise _Refusal("has a storage that is a view of another; save it again")
        if not isinstance(count, int) or count < 0:
            raise _Refusal(f"storage {key} claims {count} elements")
        return self.storages.setdefault(str(key), _Storage(kind, str(key), count))


def _read_zip(path: files.Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        entries = {
            name.partition("/")[2]: info for name, info in archive.NameToInfo.items()
        }
        total = os.path.getsize(path)

        def read(name: str) -> bytes:
            if name not in entries:
                raise _Refusal(f"is a zip archive without {name}, not a checkpoint")
            info = entries[name]
            if info.compress_type != zipfile.ZIP_STORED or info.file_size > total:
                raise _Refusal(f"holds {name} compressed, which torch never does")
            return archive.read(info)

        if "constants.pkl" in entries:
            raise _Refusal("is a TorchScript program; save its state dict instead")
        unpickler = _Unpickler(io.BytesIO(read("data.pkl")))
        saved = unpickler.load()
        big = "byteorder" in entries and read("byteorder") == b"big"
        for key, storage in unpickler.storages.items():
            storage.fill(read(f"data/{key}"), ">" if big else "<")
    return _materialise(saved)


def _read_pickles(path: files.Path, data: bytes) -> Any:
    if data[257:262] == b"ustar":
        raise _Refusal("is a tar archive of torch 0.1; save it again with a newer one")
    if data[:1] not in (b"\x80", b"(", b"}", b"]", b"c"):
        raise _Refusal("is neither a torch checkpoint nor a pickle")
    stream = io.BytesIO(data)
    first = _Unpickler(stream).load()
    if first != _LEGACY_MAGIC:
        return _materialise(first)
    version, system = _Unpickler(stream).load(), _Unpickler(stream).load()
    if version != 1001 or not isinstance(system, dict):
        raise _Refusal(f"has version {version} of torch's format; 1001 is known")
    order = "<" if system.get("little_endian", sys.byteorder == "little") else ">"
    unpickler = _Unpickler(stream)
    saved = unpickler.load()
    view = memoryview(data)
    for key in _Unpickler(stream).load():
        storage = unpickler.storages.get(str(key))
        if storage is None:
            raise _Refusal(f"lists storage {key}, which nothing uses")
        count = int.from_bytes(stream.read(8), "little" if order == "<" else "big")
        if count != storage.count:
            raise _Refusal(f"storage {key} has {count} elements, not {storage.count}")
        start = stream.tell()
        end = start + count * storage.item_bytes
        storage.fill(view[start:end], order)
        stream.seek(end)
    return _materialise(saved)


def _materialise(root: Any) -> Any:
    """Replaces the stand-ins by arrays, each container visited once."""
    done: dict[int, Any] = {}

    def visit(value: Any) -> Any:
        if isinstance(value, (_Tensor, _Array)):
            if id(value) not in done:
                done[id(value)] = value.array()
            return done[id(value)]
        if isinstance(value, inert.Foreign) and value.items:
            value = value.items
        if not isinstance(value, (dict, list, tuple)):
            return value
        if id(value) not in done:
            done[id(value)] = value
            if isinstance(value, dict):
                done[id(value)] = {key: visit(item) for key, item in value.items()}
            else:
                items = [visit(item) for item in value]
                done[id(value)] = items if isinstance(value, list) else tuple(items)
        return done[id(value)]

    return visit(root)
