"""Downloads that go on where they were interrupted, verified by SHA-256.

The bytes that have come are kept as ``FILE.part``, beside ``FILE.part.tag`` with the
server's name of the version (its ETag or the time of its last change), so that pieces
of two versions are never joined. The file appears under its own name when it is whole
and is what was published.
"""

import hashlib
import os
import pathlib
import zipfile
from typing import Any, cast

import tqdm

from jaxflow.io import files

_CHUNK = 2**18
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
            what has come is kept, and the next call goes on from there.
        ValueError: If the file is not the published one.
    """
    import pooch

    path = pathlib.Path(path)
    whole = path.with_name(f"{path.name}.zip") if member else path
    known = f"sha256:{sha256}" if len(sha256) == 64 else None

    def download(url: Any, temporary: Any, _: Any, **options: Any) -> None:
        part = _download(url, whole, verified=bool(sha256))
        _verify(part, sha256, url)
        os.replace(part, temporary)

    if not path.is_file():
        pooch.get_logger().setLevel("WARNING")
        pooch.retrieve(
            url,
            known,
            fname=whole.name,
            path=whole.parent,
            downloader=cast(Any, download),
        )
        if member:
            _extract(whole, member, path)
    return path


def _download(url: str, path: pathlib.Path, *, verified: bool) -> pathlib.Path:
    """Brings ``FILE.part`` to its full length and returns its path.

    Without the server's name of the version it goes on only if a checksum will show
    whether the pieces belong together.
    """
    import requests

    part = path.with_name(f"{path.name}.part")
    tag = path.with_name(f"{path.name}.part.tag")
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
            _receive(reply, part, begun, total, path.name)
    except (OSError, ValueError) as error:  # requests' own errors are OSErrors
        raise OSError(
            f"{url}: the download of {path.name} failed: {_reason(error)}"
        ) from error
    tag.unlink(missing_ok=True)
    return part


def _receive(reply, part, begun: int, total: int | None, name: str) -> None:
    """Appends what the server sends, and verifies its length."""
    with (
        open(part, "ab" if begun else "wb") as file,
        tqdm.tqdm(
            desc=name, total=total, initial=begun, unit="B", unit_scale=True,
            disable=None,
        ) as bar,
    ):  # fmt: skip
        for chunk in reply.iter_content(_CHUNK):
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
