"""The door to the disk: faults name the file, and a write is all or nothing."""

import contextlib
import os
import pathlib
import uuid
from collections.abc import Iterator

Path = str | os.PathLike[str]


def fault(path: Path, what: str) -> ValueError:
    """Returns the one-line error for a file that cannot be what it claims to be."""
    return ValueError(f"{os.fspath(path)}: {what}")


def suffix(path: Path) -> str:
    """Returns the extension of a path in lower case, with its dot."""
    return pathlib.Path(path).suffix.lower()


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
        OSError: If the folder is missing or may not be written to.
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
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, *parts: bytes | memoryview) -> None:
    """Writes a file atomically: `parts`, one after the other."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        for part in parts:
            file.write(part)
