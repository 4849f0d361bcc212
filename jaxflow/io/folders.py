"""Folders here and in cloud storage, by one kind of path."""

import contextlib
import os
import pathlib
import re

from etils import epath

from jaxflow.io import files

Place = pathlib.Path | epath.Path

# What reads each kind of cloud storage.
_PACKAGES = {"gs": "gcsfs", "s3": "s3fs", "az": "adlfs", "hf": "huggingface_hub"}
# A drive of Windows is one letter.
_REMOTE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+")


def is_remote(path: files.Path) -> bool:
    """Tells whether a path names cloud storage, such as gs://bucket/folder."""
    return _REMOTE.match(os.fspath(path)) is not None


def check_target(name: str, path: files.Path) -> None:
    """Raises unless results can go into a folder; it is neither made nor changed.

    Folders in cloud storage are not looked at.

    Args:
        name: Of the argument that holds it, for the message.
        path: The folder; it need not be there yet.

    Raises:
        OSError: If it is a file or lies in one, or may not be written to.
    """
    text = os.fspath(path)
    if is_remote(text):
        return
    place = pathlib.Path(os.path.abspath(text))
    there = next(each for each in (place, *place.parents) if os.path.lexists(each))
    if not there.is_dir():
        what = "is a file" if there.is_file() else "is no folder"
        raise NotADirectoryError(
            f"{name}: {text} must be a folder, but {there} {what}; name another place"
        )
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(
            f"{name}: {text} cannot be written: {there} may not be written to"
        )
    with contextlib.suppress(FileNotFoundError):
        os.stat(place)  # a name that is too long for the disk is an OSError


def folder(path: files.Path) -> epath.Path:
    """Returns a folder, here or in cloud storage, as an absolute path.

    Args:
        path: A local path, or gs://bucket/folder (also s3://, az://, hf://), be it as
            text or as a `pathlib.Path`, which makes one slash of two. It need not be
            there yet.

    Raises:
        ValueError: If it names another kind of storage.
        OSError: If a package for that storage is missing, or it cannot be reached.
    """
    text = os.fspath(path)
    remote = _REMOTE.match(text)
    if remote is None:
        return epath.Path(text).absolute()
    scheme, rest = remote[1].lower(), text[remote.end() :]
    if scheme == "file":
        return epath.Path("/" + rest)
    if scheme not in _PACKAGES:
        raise ValueError(
            f"{text}: storage {scheme}:// is not known; use a local path or one of "
            f"{sorted(_PACKAGES)}"
        )
    try:
        place = epath.Path(f"{scheme}://{rest}")
        place.exists()
    except ImportError:
        raise OSError(
            f"{text}: {scheme}:// needs a package: pip install {_PACKAGES[scheme]}"
        ) from None
    except Exception as error:  # every storage has errors of its own
        what = str(error).strip().split("\n")[0][:200] or type(error).__name__
        raise OSError(
            f"{text}: the storage cannot be reached: {what}; check the name, the "
            "network and your credentials for it"
        ) from error
    return place
