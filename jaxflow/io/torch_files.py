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
import os
import pickle
import sys
import zipfile
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn

from jaxflow.io import files, inert
from jaxflow.io.torch_objects import (
    ALLOWED,
    STORAGES,
    Array,
    Dtype,
    Refusal,
    Storage,
    Tensor,
)

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


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
    except Refusal as refusal:
        raise files.fault(path, " ".join(str(refusal).split())[:300]) from None
    except Exception as error:  # opcodes and archives fail in every way there is
        if isinstance(error, OSError) and error.filename is not None:
            raise
        reason = str(error).partition("\n")[0][:200]
        what = f"is not a readable checkpoint ({type(error).__name__}: {reason})"
        raise files.fault(path, what) from error


# The interpreter written in Python, not the faster one in C: the latter allocates
# whatever length or memo index an opcode claims before it looks at the file.
class _Unpickler(pickle._Unpickler):
    """Builds containers, tensors and arrays; all else is inert or refused."""

    def __init__(self, file: io.BytesIO):
        super().__init__(file, encoding="latin1")
        self.storages: dict[str, Storage] = {}

    stack: list  # the operands of the opcodes
    read: Callable[[int], bytes]
    append: Callable[[Any], None]

    def load_build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, (Array, Dtype)):
            target.__setstate__(state)
        elif not isinstance(target, (dict, inert.Foreign)):
            raise Refusal("sets attributes of something that is not an array")

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
            raise Refusal(f"claims {size} bytes and ends after {len(data)}")
        self.append(bytearray(data))

    def _build(self, kind: Any, arguments: Any) -> Any:
        if kind not in (
            collections.OrderedDict,
            Array,
            Dtype,
        ) and not isinstance(kind, inert.Foreign):
            raise Refusal(f"builds {kind!r}, which is no class")
        return kind(*arguments)

    dispatch: ClassVar[dict[int, Any]] = {
        **pickle._Unpickler.dispatch,
        pickle.BUILD[0]: load_build,
        pickle.BYTEARRAY8[0]: load_bytearray8,
        pickle.NEWOBJ[0]: load_newobj,
        pickle.NEWOBJ_EX[0]: load_newobj_ex,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in ALLOWED:
            return ALLOWED[module, name]
        unread = module == "torch._utils" and name.startswith("_rebuild")
        if unread or inert.is_alarming(module, name):
            raise Refusal(
                f"refers to {module}.{name}, which is no part of weights that are read "
                "here: refused, because loading it could run code; save the state dict "
                "alone"
            )
        return inert.Foreign(f"{module}.{name}")

    def get_extension(self, code: int) -> NoReturn:
        raise Refusal(f"refers to extension {code}: refused")

    def persistent_load(self, pid: Any) -> Storage:
        tag, kind, key, _, count, *view = pid
        if tag != "storage" or kind not in STORAGES.values():
            raise Refusal(f"has a record of an unknown kind: {tag!r}")
        if view and view[0] is not None:
            raise Refusal("has a storage that is a view of another; save it again")
        if not isinstance(count, int) or count < 0:
            raise Refusal(f"storage {key} claims {count} elements")
        return self.storages.setdefault(str(key), Storage(kind, str(key), count))


def _read_zip(path: files.Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        entries = {
            name.partition("/")[2]: info for name, info in archive.NameToInfo.items()
        }
        total = os.path.getsize(path)

        def read(name: str) -> bytes:
            if name not in entries:
                raise Refusal(f"is a zip archive without {name}, not a checkpoint")
            info = entries[name]
            if info.compress_type != zipfile.ZIP_STORED or info.file_size > total:
                raise Refusal(f"holds {name} compressed, which torch never does")
            return archive.read(info)

        if "constants.pkl" in entries:
            raise Refusal("is a TorchScript program; save its state dict instead")
        unpickler = _Unpickler(io.BytesIO(read("data.pkl")))
        saved = unpickler.load()
        big = "byteorder" in entries and read("byteorder") == b"big"
        for key, storage in unpickler.storages.items():
            storage.fill(read(f"data/{key}"), ">" if big else "<")
    return _materialise(saved)


def _read_pickles(path: files.Path, data: bytes) -> Any:
    if data[257:262] == b"ustar":
        raise Refusal("is a tar archive of torch 0.1; save it again with a newer one")
    if data[:1] not in (b"\x80", b"(", b"}", b"]", b"c"):
        raise Refusal("is neither a torch checkpoint nor a pickle")
    stream = io.BytesIO(data)
    first = _Unpickler(stream).load()
    if first != _LEGACY_MAGIC:
        return _materialise(first)
    version, system = _Unpickler(stream).load(), _Unpickler(stream).load()
    if version != 1001 or not isinstance(system, dict):
        raise Refusal(f"has version {version} of torch's format; 1001 is known")
    order = "<" if system.get("little_endian", sys.byteorder == "little") else ">"
    unpickler = _Unpickler(stream)
    saved = unpickler.load()
    view = memoryview(data)
    for key in _Unpickler(stream).load():
        storage = unpickler.storages.get(str(key))
        if storage is None:
            raise Refusal(f"lists storage {key}, which nothing uses")
        count = int.from_bytes(stream.read(8), "little" if order == "<" else "big")
        if count != storage.count:
            raise Refusal(f"storage {key} has {count} elements, not {storage.count}")
        start = stream.tell()
        end = start + count * storage.item_bytes
        storage.fill(view[start:end], order)
        stream.seek(end)
    return _materialise(saved)


def _materialise(root: Any) -> Any:
    """Replaces the stand-ins by arrays, each container visited once."""
    done: dict[int, Any] = {}

    def visit(value: Any) -> Any:
        if isinstance(value, (Tensor, Array)):
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
