"""Damage inside a Matroska or WebM file, which FFmpeg leaves out without a word.

Where the bytes of such a file make no sense, FFmpeg searches for the next place where
they do, and plays on. Here the elements are walked through as the format nests them
(RFC 9559): each must be a known one that fits into its parent, a block must belong to a
track, and a cluster with a checksum must have it, which FFmpeg writes and finds in all
of a cluster. Where a file has no checksums, only what the elements say is verified:
damage of pixels alone is for the decoder to find.
"""

import struct
import zlib
from typing import BinaryIO, NamedTuple

HEADER, SEGMENT, CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
_TRACKS, _ENTRY, _NUMBER, _KIND = 0x1654AE6B, 0xAE, 0xD7, 0x83
_GROUP, _BLOCK, _SIMPLE = 0xA0, 0xA1, 0xA3
_VOID, _CHECKSUM = 0xEC, 0xBF
_EVERYWHERE = {_VOID, _CHECKSUM}
# SeekHead, Info, Cues, Chapters, Tags, Attachments.
_TOP = {0x114D9B74, 0x1549A966, 0x1C53BB6B, 0x1043A770, 0x1254C367, 0x1941A469}
_TOP |= {_TRACKS, CLUSTER, SEGMENT, HEADER} | _EVERYWHERE
# Timestamp, SilentTracks, Position, PrevSize, EncryptedBlock.
_IN_CLUSTER = {0xE7, 0x5854, 0xA7, 0xAB, 0xAF, _SIMPLE, _GROUP} | _EVERYWHERE
# BlockAdditions, duration, priority, references, CodecState, DiscardPadding, slices.
_IN_GROUP = {0x75A1, 0x9B, 0xFA, 0xFB, 0xFD, 0xA4, 0x75A2, 0xA2, 0x8E, 0xC8, _BLOCK}
_IN_GROUP |= _EVERYWHERE
_VIDEO = 1
_LACING = 0x06


class Damage(Exception):
    """A file is not what its format asks for."""


class _Element(NamedTuple):
    """An element: its name, where its contents start and end, None if not known."""

    name: int
    start: int
    end: int | None


class Walk:
    """Walks through a file as far as it is read.

    Args:
        file: The file, opened for reading bytes.
        size: Its length.

    Attributes:
        size: Length of the file.
        frames: Blocks of the video track that were passed; None if they are not to be
            counted, because there are several such tracks, or a block holds several
            frames.
    """

    def __init__(self, file: BinaryIO, size: int):
        self.frames: int | None = 0
        self._file, self.size, self._at = file, size, 0
        self._end = size
        self._tracks: dict[int, int] = {}

    def to(self, position: int) -> None:
        """Walks on until a position is passed, by whole elements of the top level.

        Raises:
            Damage: If something on the way is damaged.
        """
        while self._at <= position and self._at < self._end:
            self._at = self._pass_element()

    def _pass_element(self) -> int:
        """Looks at an element of the top level; returns where the next one is."""
        element = self._element_at(self._at)
        if element.name not in _TOP:
            raise Damage(f"has no element at byte {self._at} that Matroska knows")
        if element.name == SEGMENT:
            # That all of it is there is another's question: `video_container`.
            self._end = min(element.end or self.size, self.size)
            return element.start
        if element.end is not None and element.end > self.size:
            raise Damage(f"has an element at byte {self._at} that ends behind the file")
        if element.end is None:
            if element.name != CLUSTER:
                raise Damage(f"has an element at byte {self._at} without a length")
            return self._pass_open_cluster(element.start)
        if element.name in (CLUSTER, _TRACKS):
            data = self._read(element.start, element.end - element.start)
            _verify(data, element.start)
            if element.name == CLUSTER:
                self._pass_cluster(data, element.start)
            else:
                self._pass_tracks(data, element.start)
        return element.end

    def _pass_open_cluster(self, at: int) -> int:
        """Looks at a cluster of unknown length, which the next one ends."""
        while at < self._end:
            element = self._element_at(at)
            if element.name in _TOP - _EVERYWHERE:
                return at
            if element.end is None or element.end > self.size:
                raise Damage(f"has an element at byte {at} that ends behind the file")
            self._pass_cluster(self._read(at, element.end - at), at)
            at = element.end
        return at

    def _pass_cluster(self, data: bytes, place: int) -> None:
        for element in _children(data, _IN_CLUSTER, place):
            if element.name == _SIMPLE:
                self._count(data, element, place)
            elif element.name == _GROUP:
                inside = data[element.start : element.end]
                for child in _children(inside, _IN_GROUP, place + element.start):
                    if child.name == _BLOCK:
                        self._count(inside, child, place + element.start)

    def _pass_tracks(self, data: bytes, place: int) -> None:
        for entry in _children(data, None, place):
            if entry.name != _ENTRY:
                continue
            inside = data[entry.start : entry.end]
            numbers = {
                child.name: int.from_bytes(inside[child.start : child.end], "big")
                for child in _children(inside, None, place + entry.start)
                if child.name in (_NUMBER, _KIND)
            }
            self._tracks[numbers.get(_NUMBER, 0)] = numbers.get(_KIND, 0)

    def _count(self, data: bytes, block: _Element, place: int) -> None:
        """Counts a block, and raises unless it belongs to a track."""
        number, at = _number(data, block.start)
        if number not in self._tracks or at + 3 > (block.end or 0):
            raise Damage(f"has a block of no track at byte {place + block.start}")
        if self._tracks[number] != _VIDEO or self.frames is None:
            return
        several = list(self._tracks.values()).count(_VIDEO) > 1
        laced = data[at + 2] & _LACING
        self.frames = None if several or laced else self.frames + 1

    def _element_at(self, at: int) -> _Element:
        """Reads the head of an element; it counts from the file's start."""
        name, start, end = _element(self._read(at, 12), 0, at)
        return _Element(name, at + start, None if end is None else at + end)

    def _read(self, at: int, length: int) -> bytes:
        self._file.seek(at)
        return self._file.read(length)


def _children(data: bytes, known: set[int] | None, place: int) -> list[_Element]:
    """Returns the elements inside another; `place` is where it stands in the file."""
    found, at = [], 0
    while at < len(data):
        element = _element(data, at, place)
        strange = known is not None and element.name not in known
        if strange or element.end is None or element.end > len(data):
            raise Damage(f"has no sound element at byte {place + at}")
        found.append(element)
        at = element.end
    return found


def _element(data: bytes, at: int, place: int) -> _Element:
    """Reads the head of an element in `data`, which starts at `place` in the file."""
    width = _width(data, at)
    name, start = int.from_bytes(data[at : at + width], "big"), at + width
    length, start = _number(data, start)
    if not width or start > len(data):
        raise Damage(f"has no sound element at byte {place + at}")
    return _Element(name, start, None if length is None else start + length)


def _width(data: bytes, at: int) -> int:
    """Returns how many bytes a number of variable length takes; 0 if it is none."""
    return 9 - data[at].bit_length() if at < len(data) and data[at] else 0


def _number(data: bytes, at: int) -> tuple[int | None, int]:
    """Reads a number of variable length: (it, None if unknown; where it ends)."""
    width = _width(data, at)
    if not width:
        return 0, len(data) + 1
    bits = 7 * width
    value = int.from_bytes(data[at : at + width], "big") - (1 << bits)
    return (None if value == (1 << bits) - 1 else value), at + width


def _verify(data: bytes, place: int) -> None:
    """Compares a cluster with the checksum that it may begin with."""
    if data[:2] == bytes([_CHECKSUM, 0x84]) and len(data) >= 6:
        (noted,) = struct.unpack("<I", data[2:6])
        if zlib.crc32(data[6:]) != noted:
            raise Damage(f"fails the checksum of what starts at byte {place}")
