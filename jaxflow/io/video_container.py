"""What the container of a video claims to be: its bytes, counted against the file's.

FFmpeg plays what is left of a file that was cut, and is silent about the rest.
"""

import os
import struct
from typing import BinaryIO

from jaxflow.io import files

_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")


def check_length(path: files.Path) -> None:
    """Raises if a container claims more bytes than its file has.

    AVI, Matroska and MP4 say how long they are; other containers are not checked.

    Args:
        path: The video.

    Raises:
        ValueError: If it claims more.
        OSError: If the file cannot be opened.
    """
    size = os.stat(path).st_size
    with open(path, "rb") as file:
        head = file.read(64)
        if head[:4] == b"RIFF":
            claimed = 8 + int.from_bytes(head[4:8], "little")
            claimed = 0 if claimed >= 2**32 else claimed
        elif head[:4] == b"\x1a\x45\xdf\xa3":
            claimed = _matroska_length(head)
        elif head[4:8] in _MP4_BOXES:
            claimed = _mp4_length(file, size)
        else:
            return
    if claimed > size:
        raise files.fault(
            path, f"is truncated: it claims {claimed} bytes, and has {size}"
        )


def _matroska_length(head: bytes) -> int:
    """Returns where the segment of a Matroska file claims to end; 0 if unknown."""
    length, start = _matroska_number(head, 4)
    segment = start + length
    if head[segment : segment + 4] != b"\x18\x53\x80\x67":
        return 0
    length, start = _matroska_number(head, segment + 4)
    return start + length if length else 0


def _matroska_number(head: bytes, start: int) -> tuple[int, int]:
    """Reads a variable-length number: (its value, 0 if unknown; where it ends)."""
    if start >= len(head) or head[start] == 0:
        return 0, start
    width = 9 - head[start].bit_length()
    value = int.from_bytes(head[start : start + width], "big")
    value -= 1 << (7 * width)
    return (0 if value == (1 << (7 * width)) - 1 else value), start + width


def _mp4_length(file: BinaryIO, size: int) -> int:
    """Returns where the last top-level box of an MP4 file claims to end."""
    start = 0
    while start < size:
        file.seek(start)
        head = file.read(16)
        if len(head) < 8:
            return start + 8
        length, name = struct.unpack(">I4s", head[:8])
        if not name.isalnum():  # what follows the boxes is not one
            return start
        if length == 1 and len(head) == 16:
            (length,) = struct.unpack(">Q", head[8:])
        if length < 8:  # 0: to the end of the file
            return size
        start += length
    return start
