"""Where results go: checked before anything is computed.

A target is never a source: what is read is never written over, whatever links lead to
it, and no result overwrites another.
"""

import os
import pathlib
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from jaxflow.io import files, flow, folders, image, video

Target = tuple[str, str]
"""The option that a result was asked for by, and its path."""


def check_suffix(option: str, path: str | None, allowed: Sequence[str]) -> None:
    """Raises unless a file to write ends as it should."""
    if path is not None and files.suffix(path) not in allowed:
        raise ValueError(
            f"{option}: must be a file in {', '.join(allowed)}; got {path!r}"
        )


def is_folder(option: str, path: str, *, allowed: Sequence[str] = ()) -> bool:
    """Tells whether the results of a clip go into a folder, or into one file.

    A path is a folder if it is one, if it ends in a slash, or if its extension is that
    of no file that we know: folders may have dots in their names.

    Args:
        option: The option that named it.
        path: The path.
        allowed: Extensions of the file that it may be instead.

    Raises:
        ValueError: If it is a file of another kind.
    """
    if os.path.isdir(path) or path.endswith(("/", os.sep)):
        return True
    suffix = files.suffix(path)
    if suffix in allowed:
        return False
    if suffix in (*flow.READABLE, *image.READABLE, *video.READABLE):
        file = f"a file in {', '.join(allowed)}, or " if allowed else ""
        raise ValueError(f"{option}: must be {file}a folder; got {path!r}")
    return True


def check_targets(
    targets: Iterable[Target], sources: Iterable[os.PathLike | str]
) -> None:
    """Raises if a result would overwrite an input, or another result.

    Args:
        targets: Files that will be written.
        sources: Files that are read, and folders whose contents are.
    """
    read = set().union(*map(_identities, sources))
    written: dict[Any, str] = {}
    for option, path in targets:
        keys = _identities(path)
        if keys & read or _inside(path, read):
            raise ValueError(
                f"{option}: {path} is an input; a result is never written over what "
                "is read"
            )
        for key in keys:
            if key in written:
                raise ValueError(
                    f"{option}: {path} would be written twice (by {written[key]}, too)"
                )
        written |= dict.fromkeys(keys, option)


def check_folders(targets: Iterable[Target], frames: Sequence[pathlib.Path]) -> None:
    """Raises if a folder of results is one that holds frames of the clip.

    Args:
        targets: Folders that results go into.
        frames: The pictures of the clip.
    """
    homes = set().union(*map(_identities, {frame.parent for frame in frames}))
    for option, path in targets:
        if _identities(path) & homes:
            raise ValueError(
                f"{option}: {path} holds the frames; a folder of its own is needed for "
                "the results"
            )


def check_file(option: str, path: str) -> None:
    """Raises unless a file can be written there."""
    target = os.path.realpath(path)
    if os.path.isdir(target) or path.endswith(("/", os.sep)):
        raise ValueError(f"{option}: {path} is a folder; name a file in it")
    folders.check_target(option, os.path.dirname(target))
    try:
        os.lstat(target)
    except FileNotFoundError:
        pass
    except OSError as error:  # a name that is too long for the disk
        raise ValueError(f"{option}: {path[:80]}: {error.strerror}") from None
    if os.path.exists(target) and not os.path.isfile(target):
        raise ValueError(f"{option}: {path} is there, and is no regular file")
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise ValueError(f"{option}: {path}: there is no folder {folder}")


def given(options: Iterable[tuple[str, str | None]]) -> list[Target]:
    """Returns the targets that are given; raises unless each can be written."""
    targets = [(option, path) for option, path in options if path is not None]
    for option, path in targets:
        check_file(option, path)
    return targets


def make_folder(option: str, path: str) -> None:
    """Makes a folder for results, and raises unless it can be written to."""
    folders.check_target(option, path)
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"{option}: no folder {path} can be made: {error.strerror}"
        ) from None


def check_new(option: str, path: str) -> None:
    """Raises if a folder holds files that would mix with the results."""
    found = sorted(name for name in os.listdir(path) if not name.startswith("."))
    if found:
        raise ValueError(
            f"{option}: {path} is not empty (it holds {found[0]}); name a new folder"
        )


def distinct_names(paths: Sequence[pathlib.Path]) -> list[str]:
    """Returns a name for the result of every picture, without an extension.

    It is the picture's stem; where two are equal, the folders in which they differ are
    put before all of them, and then their extensions behind: cam1_frame, 0001_jpg.

    Raises:
        ValueError: If they are equal even so.
    """
    roots = os.path.commonpath([path.parent.absolute() for path in paths])
    inner = [path.absolute().relative_to(roots) for path in paths]
    choices = (
        [path.stem for path in paths],
        ["_".join(path.with_suffix("").parts) for path in inner],
        ["_".join(path.parts).replace(".", "_") for path in inner],
    )
    for names in choices:
        if len(set(names)) == len(names):
            return names
    twice = next(name for name in choices[-1] if choices[-1].count(name) > 1)
    raise ValueError(
        f"the results of two pictures would both be named {twice}: rename the pictures"
    )


def _identities(path: os.PathLike | str) -> set[Any]:
    """Returns what two names of one file have in common: its place, and its node."""
    found: set[Any] = {os.path.realpath(path)}
    try:
        status = os.stat(path)
    except OSError:
        return found
    return found | {(status.st_dev, status.st_ino)}


def _inside(path: str, sources: Collection) -> bool:
    """Tells whether a file that is there lies in a folder that is read."""
    target = pathlib.Path(os.path.realpath(path))
    return target.exists() and any(str(parent) in sources for parent in target.parents)
