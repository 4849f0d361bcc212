"""Which two frames of a clip each flow file is between, by the names of the files.

A file of flow has the name of the frame that it starts from: that of a picture, or the
number of a frame of a video, from 0, as ``jaxflow flow`` writes it. How far apart the
frames of a pair are is told by the gaps between the names. Whether flow goes to the
frame after or to the one before is told by no name: where both can be, it is refused.
"""

import pathlib
import re
from collections.abc import Sequence
from typing import NamedTuple

from jaxflow.cli import clips


class Told(NamedTuple):
    """What is told of the flow, by the options that ``jaxflow flow`` has, too.

    Attributes:
        start: First frame of the part of the clip that has flow; None if not told.
        stride: Frames of the clip from the first to the second of a pair, or None.
        backward: Whether flow goes from each frame to the one before.
        pattern: Whether the files were chosen by a pattern, and some may be left out.
    """

    start: int | None = None
    stride: int | None = None
    backward: bool = False
    pattern: bool = False


class Pair(NamedTuple):
    """The two frames of a flow file, as places in the clip, from 0.

    Attributes:
        first: The frame that the flow starts from.
        second: The frame that it goes to; None if the clip has only first frames.
    """

    first: int
    second: int | None


class _Starts(NamedTuple):
    """Where the flows start by their names.

    Attributes:
        places: Frames of the clip, from 0; None if the names do not tell.
        sure: Whether the names are those of the frames. If not, they hold numbers that
            may count from another frame.
    """

    places: list[int] | None
    sure: bool


def pair_up(files: Sequence[pathlib.Path], clip: clips.Clip, told: Told) -> list[Pair]:
    """Finds the two frames of each flow file.

    A name is that of a picture, or of a frame of a video (000012), with or without
    ``_flow`` behind. Or else the number in it is that of a picture; or else it counts
    the frames from 0, unless `told.start` says where the first flow starts. Names that
    hold no numbers are taken in their order, and then there must be one frame more
    than flows, or as many.

    Args:
        files: The flow files, in natural order.
        clip: The clip, as a whole.
        told: What options say.

    Returns:
        A pair a file. Where each frame of the clip has a flow file, there is no second
        frame of the last, and none is given.

    Raises:
        ValueError: If names, options and the number of frames do not fit, or leave
            open which frames the pairs are; the message says what to tell.
    """
    found = _find_starts([file.stem for file in files], clip)
    step = _find_step(files, found, clip, told)
    first = None if told.start is None else told.start + step * told.backward
    if found.places is None:
        places = [(first or step * told.backward) + step * t for t in range(len(files))]
        _check_count(files, clip, step, told)
    elif first is None:
        places = found.places
        _check_told(files, found, clip, step, told)
    elif found.sure:
        places = found.places
        if places[0] != first:
            raise ValueError(
                f"--start {told.start}: the first flow would start from "
                f"{_frame(clip, first)}; {files[0].name} has the name of "
                f"{_frame(clip, places[0])}"
            )
    else:
        places = [first + place - found.places[0] for place in found.places]
    seconds = [place - step if told.backward else place + step for place in places]
    if not told.backward and places == list(range(len(clip.names))):
        return [Pair(place, None) for place in places]
    _check_ends(files, clip, places, seconds)
    return [Pair(*pair) for pair in zip(places, seconds, strict=True)]


def caption(file: pathlib.Path, pair: Pair, clip: clips.Clip) -> str:
    """Says which frames a flow file is between: ``000003.flo: frame 3 to frame 2``."""
    ends = [_frame(clip, place) for place in pair if place is not None]
    return f"{file.name}: {' to '.join(ends)}"


def _find_starts(stems: Sequence[str], clip: clips.Clip) -> _Starts:
    """Finds the frames that flows of these names start from."""
    place_of = {name: place for place, name in enumerate(clip.names)}
    for names in (stems, [stem.removesuffix("_flow") for stem in stems]):
        known = [name in place_of for name in names]
        if all(known):
            return _Starts([place_of[name] for name in names], True)
        if any(known) and clip.pictures:
            raise ValueError(
                f"--frame: {clip.source} has no picture {names[known.index(False)]}, "
                f"and one {names[known.index(True)]}: a flow file has the name of the "
                "picture that it starts from"
            )
    numbers = _numbers(stems)
    if numbers is None:
        return _Starts(None, False)
    if not clip.pictures and stems == [f"{number:06d}" for number in numbers]:
        return _Starts(numbers, True)
    theirs = _numbers(clip.names) or []
    if clip.pictures and not stems[0].isdecimal() and set(numbers) <= set(theirs):
        return _Starts([theirs.index(number) for number in numbers], False)
    return _Starts(numbers, False)


def _numbers(names: Sequence[str]) -> list[int] | None:
    """Returns the one number that differs from name to name; None if there is none.

    Of a single name it is the only number in it.
    """
    split = [re.split(r"([0-9]+)", name) for name in names]
    if len({tuple(parts[::2]) for parts in split}) > 1:
        return None
    columns = list(zip(*(map(int, parts[1::2]) for parts in split), strict=True))
    differ = [column for column in columns if len(set(column)) == len(names)]
    same = [column for column in columns if len(set(column)) == 1 < len(names)]
    if len(differ) != 1 or len(differ) + len(same) < len(columns):
        return None
    return list(differ[0])


def _find_step(
    files: Sequence[pathlib.Path], found: _Starts, clip: clips.Clip, told: Told
) -> int:
    """Returns how many frames the two of a pair are apart: as told, or as the gaps."""
    if told.stride is not None:
        return told.stride
    if len(clip.names) <= 2 or (found.places is None and len(files) > 1):
        return 1
    if len(files) == 1:
        raise ValueError(
            f"--stride: one flow file does not tell how many frames of {clip.source} "
            f"its pair is apart; say --stride 1 if they are neighbours"
            f"{_where(found, told)}"
        )
    assert found.places is not None
    gaps = [b - a for a, b in zip(found.places, found.places[1:], strict=False)]
    odd = next((t for t, gap in enumerate(gaps) if gap != gaps[0] or gap < 1), None)
    if odd is not None:
        raise ValueError(
            f"--stride: {files[1].name} is {gaps[0]} frames behind {files[0].name}, "
            f"and {files[odd + 1].name} {gaps[odd]} behind {files[odd].name}; "
            "say --stride N, how many frames apart the two of a pair are"
        )
    if gaps[0] > 1 and (told.pattern or _numbers(clip.names) is None):
        raise ValueError(
            f"--stride: {files[0].name} and {files[1].name} are {gaps[0]} frames "
            f"apart; say --stride {gaps[0]} if the two of a pair are, too, or --stride "
            "1 if flow files between them are left out"
        )
    return gaps[0]


def _where(found: _Starts, told: Told) -> str:
    """Says what is to be told besides of the place of one flow, if anything."""
    if told.backward or told.start is not None or found.places == [0]:
        return ""
    if found.places is None:
        return ", and --start N, the first frame of the pair"
    return f", and --start {found.places[0]} or --backward"


def _check_told(
    files: Sequence[pathlib.Path],
    found: _Starts,
    clip: clips.Clip,
    step: int,
    told: Told,
) -> None:
    """Raises where names leave open whether the flow goes forward or backward."""
    assert found.places is not None
    start, last, length = found.places[0], found.places[-1], len(clip.names)
    if found.sure and last >= length:
        _check_ends(files, clip, found.places, found.places)
    if told.backward or (start == 0 and last < length) or (found.sure and start < step):
        return
    ways = []
    if last + step < length:
        ways.append(f"--start {start} (forward)")
    if start >= step and last < length:
        ways.append("--backward")
    if not found.sure:
        ways.append(f"--start {max(0, start - 1)} (if names count from another frame)")
    raise ValueError(
        f"--frame: by its name {files[0].name} starts from {_frame(clip, start)} of "
        f"{length}, and no name tells whether flow goes forward or backward; say "
        f"{' or '.join(ways)}"
    )


def _check_count(
    files: Sequence[pathlib.Path], clip: clips.Clip, step: int, told: Told
) -> None:
    """Raises unless flows whose names tell nothing are those of the whole clip."""
    count, there = len(files), len(range(0, len(clip.names), step))
    wanted = (count + 1,) if told.backward else (count, count + 1)
    if told.start is None and there not in wanted:
        raise ValueError(
            f"--frame: {clip.source} must hold {' or '.join(map(str, wanted))} frames "
            f"for {count} flow files whose names hold no numbers; it holds {there}; "
            "say --start N if the flow begins at another frame"
        )


def _check_ends(
    files: Sequence[pathlib.Path],
    clip: clips.Clip,
    places: Sequence[int],
    seconds: Sequence[int],
) -> None:
    """Raises unless the clip holds all frames that the pairs need."""
    length = len(clip.names)
    for file, place, second in zip(files, places, seconds, strict=True):
        if not (0 <= place < length and 0 <= second < length):
            way = f"starts from frame {place}"
            if 0 <= place < length:
                way = f"goes from frame {place} to frame {second}"
            raise ValueError(
                f"--frame: {file.name} {way}, and {clip.source} holds the frames 0 to "
                f"{length - 1}; see --start, --stride and --backward"
            )


def _frame(clip: clips.Clip, place: int) -> str:
    """Returns what a frame is called: its file, or its number in a video."""
    if clip.pictures and place < len(clip.pictures):
        return clip.pictures[place].name
    return f"frame {place}"
