"""A lock on a folder that ends with the process that holds it, however it ends."""

import contextlib
import os
import socket
from collections.abc import Iterator
from typing import IO

from jaxflow.io import folders

_HELD: set[IO[bytes]] = set()


@contextlib.contextmanager
def held(path: folders.Place) -> Iterator[bool]:
    """Holds a lock while the block runs.

    The system releases it when the process dies, also of SIGKILL, and processes that
    this one forks do not inherit it. The file stays; it is the lock on it that counts.

    Args:
        path: A file, which is made; its folder must be there.

    Yields:
        Whether it is held. Cloud storage, some mounted drives and Windows have no such
        locks; the block runs nevertheless.

    Raises:
        OSError: If another process, or another part of this one, holds it; or if the
            file cannot be made.
    """
    try:
        import fcntl
    except ImportError:
        yield False
        return
    if folders.is_remote(path):
        yield False
        return
    with open(path, "a+b", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(
                f"{path.parent} is in use by {_holder(file)}; wait for it, or choose "
                "another folder"
            ) from None
        except OSError:
            yield False
            return
        _note_holder(file)
        _HELD.add(file)
        try:
            yield True
        finally:
            _HELD.discard(file)


def _note_holder(file: IO[bytes]) -> None:
    with contextlib.suppress(OSError):  # a full disk is no reason to have no lock
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())


def _holder(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(200).decode(errors="replace") or "another process"


def _leave_to_parent() -> None:
    """Closes what a fork copied: the lock is the parent's, and ends with it."""
    for file in _HELD:
        file.close()
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
