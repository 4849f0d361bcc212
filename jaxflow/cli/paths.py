"""Where results go: checked before anything is computed."""

import os
from collections.abc import Sequence

from jaxflow.io import files, video


def check_suffix(option: str, path: str | None, allowed: Sequence[str]) -> None:
    """Raises unless a path ends as it should, before anything is computed."""
    if path is not None and files.suffix(path) not in allowed:
        wanted = "a folder" if allowed == ("",) else f"a file in {', '.join(allowed)}"
        if allowed == video.WRITABLE:
            wanted += ", or a folder"
        raise ValueError(f"{option}: must be {wanted}; got {path!r}")


def check_folder(path: str) -> None:
    """Raises unless the folder of a file to write is there."""
    folder = os.path.dirname(os.path.realpath(path))
    if not os.path.isdir(folder):
        raise ValueError(f"{path}: there is no folder {folder}")
