"""What the commands share: words of the command line, progress, and messages."""

import argparse
import contextlib
import math
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn

import numpy as np
import tqdm

from jaxflow.io import files

PROGRESS_AFTER = 0.5
"""Seconds until progress is shown, so that quick work is silent."""

SECONDS_A_LINE = 30.0
"""Seconds from line to line of progress where there is no terminal."""

_MOST = float(np.finfo(np.float32).max)


class Parser(argparse.ArgumentParser):
    """An argument parser whose error is one line."""

    def error(self, message: str) -> NoReturn:
        """Ends the program with one line and exit code 2."""
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


UNREAD = 141
"""The exit code of what is printed to nobody, as the shell gives it."""


@contextlib.contextmanager
def quiet_if_unread() -> Iterator[None]:
    """Ends the program without a word if nobody reads what the block prints.

    So it is after `jaxflow models | head`.

    Raises:
        SystemExit: With the code `UNREAD`.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        forget_output()
        sys.exit(UNREAD)


def forget_output() -> None:
    """Lets the interpreter not find out at its end that nobody reads any more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def add_command(
    commands, name: str, run, about: str, example: str
) -> argparse.ArgumentParser:
    """Adds one command."""
    parser = commands.add_parser(
        name, help=about, description=f"{about}.", epilog=f"example: {example}"
    )
    parser.set_defaults(run=run)
    quiet = "no progress, and no line for each file written"
    parser.add_argument("-q", "--quiet", action="store_true", help=quiet)
    return parser


def add_json(add) -> None:
    """Adds the option of a command that prints results."""
    about = "print the results as one JSON document, and nothing else"
    add("--json", action="store_true", help=about)


def print_json(value: Any) -> None:
    """Prints results as JSON, in which NaN and infinity are null."""
    print(files.json_text(shortened(value), indent=1))


def shortened(value: Any) -> Any:
    """Writes the numbers of results with the digits that they have, at most nine.

    What is computed is float32. Its 0.235 would be written as 0.23499999940395355, and
    a mean of such numbers as 0.23500000000000001.

    Args:
        value: Numbers, in mappings and lists of any depth; other things are kept.

    Returns:
        The same, with the shortest number in place of each that is one in float32.
    """
    if isinstance(value, Mapping):
        return {key: shortened(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [shortened(item) for item in value]
    if isinstance(value, (float, np.floating)) and abs(value) < _MOST:
        return float(str(np.float32(value)))
    return value


def positive(text: str) -> float:
    """Reads a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0; got {text}")
    return value


def whole(text: str) -> int:
    """Reads a whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0; got {text}")
    return int(text)


def place(text: str) -> int:
    """Reads a number of a frame, from 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number, from 0; got {text}")
    return int(text)


def seed(text: str) -> int:
    """Reads a whole number that a generator of random numbers begins with."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(
            f"must be a whole number from 0 to {2**32 - 1}; got {text}"
        )
    return int(text)


def rate(text: str) -> float:
    """Reads frames a second."""
    value = positive(text)
    if not 0.001 <= value <= 1000:
        raise argparse.ArgumentTypeError(f"must be from 0.001 to 1000; got {text}")
    return value


def progress(
    items: Iterable,
    unit: str,
    *,
    total: int | None = None,
    about: str | None = None,
    quiet: bool = False,
) -> Iterable:
    """Shows progress on the standard error, once there is something to wait for.

    A terminal gets a bar; a file or a pipe a line now and then.
    """
    if quiet:
        return items
    if not sys.stderr.isatty():
        return _lines(items, unit, total, about)
    return tqdm.tqdm(
        items, total=total, unit=unit, desc=about, delay=PROGRESS_AFTER, file=sys.stderr
    )


@contextlib.contextmanager
def meter(unit: str, *, quiet: bool = False):
    """Gives a function (done, total) that shows progress, as `progress` does."""
    bar: Any = None
    said = time.monotonic()

    def show(done: int, total: int) -> None:
        nonlocal bar, said
        if quiet:
            return
        if sys.stderr.isatty():
            if bar is None:
                bar = tqdm.tqdm(total=total, unit=unit, file=sys.stderr)
            bar.update(done - bar.n)
        elif time.monotonic() - said >= SECONDS_A_LINE:
            said = time.monotonic()
            print(f"{unit} {done}/{total}", file=sys.stderr, flush=True)

    try:
        yield show
    finally:
        if bar is not None:
            bar.close()


def _lines(
    items: Iterable, unit: str, total: int | None, about: str | None
) -> Iterator[Any]:
    """Yields items, and says now and then how many there were."""
    start = "" if about is None else f"{about}: "
    whole = "" if total is None else f"/{total}"
    said = time.monotonic()
    for count, item in enumerate(items, 1):
        yield item
        if time.monotonic() - said >= SECONDS_A_LINE:
            said = time.monotonic()
            print(f"{start}{unit} {count}{whole}", file=sys.stderr, flush=True)


def wrote(args: argparse.Namespace, path: str) -> None:
    """Says that a file was written."""
    if not args.quiet and not getattr(args, "json", False):
        print(f"wrote {path}")


def uint8_or_float(frame: np.ndarray) -> np.ndarray:
    """Brings a picture of 16 bits to float in [0, 1]; leaves others as they are."""
    if frame.dtype == np.uint16:
        return frame.astype(np.float32) / np.float32(65535)
    return frame


def one_line(error: BaseException) -> str:
    """Returns the message of an error on one line, with the file it is about."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__
