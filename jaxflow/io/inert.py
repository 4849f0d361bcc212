"""Inert stand-ins for the foreign objects that lie beside the weights in a pickle.

Training scripts save their options, loggers and dates with the tensors. A pickle names
the class of each; here no name is ever looked up. What the file would call or build
becomes a `Foreign` that knows its name and does nothing. If it is a table of some kind
(a defaultdict, a configuration), its items are kept.
"""

from collections.abc import Mapping
from typing import Any

# Modules whose functions have no business in a checkpoint, harmless as they are here.
_ALARMING = (
    *("os", "posix", "nt", "subprocess", "pty", "sys", "shutil", "socket", "ctypes"),
    *("runpy", "importlib", "imp", "code", "codeop", "marshal", "pickle", "_pickle"),
    *("webbrowser", "multiprocessing", "asyncio", "commands", "urllib", "jaxflow"),
)
_BUILTINS = ("builtins", "__builtin__")
_HARMLESS_BUILTINS = (
    *("set", "frozenset", "slice", "complex", "range", "xrange", "object", "type"),
    *("list", "dict", "tuple", "int", "long", "float", "bool", "str", "unicode"),
    *("bytes", "bytearray", "print", "len", "sum", "max", "min", "abs", "id", "iter"),
)
_READERS = {("torch", "load"), ("torch", "jit"), ("numpy", "load"), ("torch", "hub")}


def is_alarming(module: str, name: str) -> bool:
    """Tells whether a name belongs to what attacks call.

    Nothing is called in any case: such a file is refused so that its owner hears of it.

    Args:
        module: E.g. "posix".
        name: E.g. "system".
    """
    if module in _BUILTINS:
        return name not in _HARMLESS_BUILTINS
    root = module.partition(".")[0]
    return root in _ALARMING or (module, name) in _READERS


class Foreign:
    """Something that the file names; calling it gives another one, and runs nothing.

    Args:
        name: What the file calls it, for messages.

    Attributes:
        items: What was put into it under keys.
    """

    def __init__(self, name: str):
        self.name = name
        self.items: dict[Any, Any] = {}

    def __repr__(self) -> str:
        return f"<{self.name}, not loaded>"

    def __call__(self, *arguments: Any, **_: Any) -> "Foreign":
        made = Foreign(self.name)
        for argument in arguments:
            if type(argument) is dict:  # dict(...), Counter(...), EasyDict(...)
                made.items.update(argument)
        return made

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value

    def append(self, _: Any) -> None:
        """Takes an element of a list or set, which holds no weights."""

    add = append

    def extend(self, _: Any) -> None:
        """Takes elements of a list or set, which holds no weights."""


def reconstruct(kind: Any, _: Any, state: Any) -> Foreign:
    """Stands in for `copyreg._reconstructor`, which old protocols build objects with.

    Args:
        kind: The class.
        state: Its contents, if it is a kind of dict.
    """
    made = Foreign(kind.name if isinstance(kind, Foreign) else "object")
    if isinstance(state, Mapping):
        made.items.update(state)
    return made
