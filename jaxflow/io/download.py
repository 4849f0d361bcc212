"""Downloads that go on where they were interrupted, verified by SHA-256.

The bytes that have come are kept as ``FILE.part``, beside ``FILE.part.tag`` with the
server's name of the version (its ETag or the time of its last change), so that pieces
of two versions are never joined. The file appears under its own name when it is whole
and is what was published.

One process at a time writes to ``FILE.part``: others that want the file wait, and find
it done, or go on with it. Where a file system has no locks, each has a partial file of
its own, which is not kept.
"""

import contextlib
import hashlib
import os
import pathlib
import uuid
import zipfile
from collections.abc import Iterator
from typing import IO, Any, cast

import tqdm

from jaxflow.io import files, folders

_CHUNK = 2**18
# What is waited for before it is written, and lost if the transfer breaks meanwhile.
_PIECE = 2**13
_TIMEOUT = 30


def sha256(path: files.Path) -> str:
    """Returns the SHA-256 of a file in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(
    url: str, path: files.Path, *, sha256: str = "", member: str = ""
) -> pathlib.Path:
    """Downloads a file, unless it is there.

    Args:
        url: Where from: http or https.
        path: Where to; its folder is made if need be.
        sha256: Checksum of what is downloaded, or the first digits of it; "" accepts
            every content.
        member: Name of the wanted file inside the zip archive at `url`, whose checksum
            `sha256` then is; "" keeps the download itself.

    Returns:
        `path`.

    Raises:
        OSError: If there is no network, the server refuses, or the transfer breaks;
            what has come is kept, and the next call goes on from there. Also if the
            folder is a file, or may not be written to.
        ValueError: If the file is not the published one.
    """
    path = pathlib.Path(path)
    if path.is_file():
        return path
    whole = path.with_name(f"{path.name}.zip") if member else path
    folders.check_target("`path`: the folder", whole.parent)
    whole.parent.mkdir(parents=True, exist_ok=True)
    with _partial(whole) as part:
        if not path.is_file():  # another process was faster
            _retrieve(url, whole, part, sha256)
            if member:
                _extract(whole, member, path)
    return path


def _retrieve(url: str, path: pathlib.Path, part: pathlib.Path, sha256: str) -> None:
    """Downloads a file into `part`, verifies it and gives it its name."""
    import pooch

    def download(url: Any, temporary: Any, _: Any, **options: Any) -> None:
        _download(url, path.name, part, verified=bool(sha256))
        _verify(part, sha256, url)
        os.replace(part, temporary)

    pooch.get_logger().setLevel("WARNING")
    pooch.retrieve(
        url,
        f"sha256:{sha256}" if len(sha256) == 64 else None,
        fname=path.name,
        path=path.parent,
        downloader=cast(Any, download),
    )


@contextlib.contextmanager
def _partial(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Lends ``FILE.part`` to this process alone, and waits while another has it.

    The lock ends with its process, however that ends.
    """
    part = path.with_name(f"{path.name}.part")
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_locked(part))
        except (ImportError, OSError):
            part = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
            stack.callback(part.unlink, missing_ok=True)
            stack.callback(_tag_of(part).unlink, missing_ok=True)
        yield part


@contextlib.contextmanager
def _locked(part: pathlib.Path) -> Iterator[None]:
    """Locks a partial file, which is made if need be, and removed if it stays empty.

    Raises:
        ImportError: If the system has no such locks.
        OSError: If the file system has none.
    """
    import fcntl

    while True:
        with open(part, "ab") as file, contextlib.ExitStack() as stack:
            stack.callback(_remove_empty, file, part)
            fcntl.flock(file, fcntl.LOCK_EX)
            # Who had it before may have renamed or removed it.
            if not _is_named(file, part):
                continue
            yield
            return


def _remove_empty(file: IO[bytes], part: pathlib.Path) -> None:
    """Removes an open file that is still called `part`, and is empty."""
    if os.fstat(file.fileno()).st_size == 0 and _is_named(file, part):
        part.unlink(missing_ok=True)


def _is_named(file: IO[bytes], path: pathlib.Path) -> bool:
    """Tells whether an open file still has that name."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


def _tag_of(part: pathlib.Path) -> pathlib.Path:
    return part.with_name(f"{part.name}.tag")


def _download(url: str, name: str, part: pathlib.Path, *, verified: bool) -> None:
    """Brings a partial file to its full length.

    Without the server's name of the version it goes on only if a checksum will show
    whether the pieces belong together.
    """
    import requests

    tag = _tag_of(part)
    known = tag.read_text(encoding="utf-8") if tag.exists() else ""
    begun = part.stat().st_size if part.exists() and (known or verified) else 0
    headers = {"Accept-Encoding": "identity"}
    if begun:
        headers["Range"] = f"bytes={begun}-"
    if begun and known:
        headers["If-Range"] = known
    try:
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as reply:
            if reply.status_code == 416:  # nothing is left to send, or too much is here
                part.unlink()
                raise OSError("the partial file was of no use; call again")
            reply.raise_for_status()
            goes_on = reply.status_code == 206 and begun > 0
            if goes_on and not _begins_at(reply.headers, begun):
                raise OSError("the server sent another part than was asked for")
            version = reply.headers.get("ETag") or reply.headers.get("Last-Modified")
            if (version or "").startswith("W/"):  # a weak one does not tell bytes apart
                version = reply.headers.get("Last-Modified")
            if not goes_on:
                begun = 0
                tag.write_text(version or "", encoding="utf-8")
            length = reply.headers.get("Content-Length")
            total = begun + int(length) if length is not None else None
            _receive(reply, part, begun, total, name)
    except (OSError, ValueError) as error:  # requests' own errors are OSErrors
        raise OSError(
            f"{url}: the download of {name} failed: {_reason(error)}"
        ) from error
    tag.unlink(missing_ok=True)


def _receive(reply, part, begun: int, total: int | None, name: str) -> None:
    """Appends what the server sends, and verifies its length."""
    with (
        open(part, "ab" if begun else "wb") as file,
        tqdm.tqdm(
            desc=name, total=total, initial=begun, unit="B", unit_scale=True,
            disable=None,
        ) as bar,
    ):  # fmt: skip
        for chunk in reply.iter_content(_PIECE):
            file.write(chunk)
            bar.update(len(chunk))
    size = part.stat().st_size
    if total is not None and size != total:
        raise OSError(f"{size} of {total} bytes came; call again to go on")


def _begins_at(headers, position: int) -> bool:
    return headers.get("Content-Range", "").startswith(f"bytes {position}-")


def _reason(error: BaseException) -> str:
    """Returns what went wrong, in one line of bearable length."""
    while error.__cause__ is not None or error.args:
        inner = error.__cause__ or getattr(error.args[0], "reason", error.args[0])
        if not isinstance(inner, BaseException) or inner is error:
            break
        error = inner
    return (str(error) or type(error).__name__).partition("\n")[0][:200]


def _verify(path: pathlib.Path, expected: str, url: str) -> None:
    """Raises, and removes the file, if its checksum does not begin as it should."""
    found = sha256(path)
    if not found.startswith(expected.lower()):
        path.unlink()
        raise ValueError(
            f"{url}: what came is not the published file: its SHA-256 is {found}, "
            f"published is {expected}; it was removed, try again"
        )


def _extract(archive: pathlib.Path, member: str, path: pathlib.Path) -> None:
    """Takes one file out of a zip archive."""
    try:
        with (
            zipfile.ZipFile(archive) as opened,
            opened.open(member) as source,
            files.atomic_path(path) as temporary,
            open(temporary, "wb") as file,
        ):
            while chunk := source.read(_CHUNK):
                file.write(chunk)
    except (KeyError, zipfile.BadZipFile, RuntimeError) as error:
        raise files.fault(archive, f"does not hold {member}: {error}") from error
