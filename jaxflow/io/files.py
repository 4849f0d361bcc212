"""The door to the disk: faults name the file, and a write is all or nothing."""

import contextlib
import errno
import json
import math
import os
import pathlib
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

Path = str | os.PathLike[str]

_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


def fault(path: Path, what: str) -> ValueError:
    """Returns the one-line error for a file that cannot be what it claims to be."""
    return ValueError(f"{os.fspath(path)}: {what}")


def suffix(path: Path) -> str:
    """Returns the extension of a path in lower case, with its dot."""
    return pathlib.Path(path).suffix.lower()


def is_hidden(name: str) -> bool:
    """Tells whether a file or folder is hidden, or one that archives of macOS add.

    Args:
        name: Without the folders above it.

    Examples:
        >>> [jaxflow.io.files.is_hidden(name) for name in ("._a.mp4", "__MACOSX", "a")]
        [True, True, False]
    """
    return name.startswith(".") or name == "__MACOSX"


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[pathlib.Path]:
    """Lends a temporary path that takes the name `path` when the block succeeds.

    The temporary file is in the same folder, so that the rename is atomic: a reader
    sees the old file or the new one, whole. It has the extension of `path`. When the
    block raises, `path` is untouched and the temporary file is removed.

    Args:
        path: Where the file shall be. A symbolic link is followed.

    Raises:
        ValueError: If something other than a regular file has that name.
        OSError: If the folder is missing or may not be written to, or the disk is full;
            the message names `path`.
    """
    target = pathlib.Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        # A rename would replace a device such as /dev/null by a plain file.
        raise fault(path, "cannot be written: it is there, and is no regular file")
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"{os.fspath(path)}: there is no folder {target.parent}"
        )
    temporary = target.with_name(f".{uuid.uuid4().hex}{target.suffix}")
    try:
        with open(temporary, "xb"):
            pass
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        if not _is_about(error, temporary):
            raise
        raise cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def cannot_write(path: Path, error: OSError) -> OSError:
    """Returns the one-line error for a file that the disk does not take."""
    what = error.strerror or " ".join(str(error).split())
    named = OSError(f"{os.fspath(path)}: cannot be written: {what}")
    named.errno = error.errno
    return named


def _is_about(error: OSError, temporary: pathlib.Path) -> bool:
    """Tells whether an error says that the disk took no more of a temporary file.

    Some libraries do not name it, and whoever asked for `path` never heard of it.
    """
    if error.filename is None:
        return error.errno in _FULL
    return os.fspath(error.filename) == os.fspath(temporary)


def write_bytes(path: Path, *parts: bytes | memoryview) -> None:
    """Writes a file atomically: `parts`, one after the other.

    Raises:
        OSError: If it cannot be written, e.g. because the disk is full; it names the
            file.
    """
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        for part in parts:
            file.write(part)


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Returns a value as JSON that every parser takes: NaN and infinity become null.

    Args:
        value: Mappings, lists, tuples, text, numbers (NumPy's scalars, too), None.
        indent: Spaces of a level; None writes one line.

    Raises:
        TypeError: If something in it is none of these.
    """
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    """Replaces what JSON cannot hold."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
