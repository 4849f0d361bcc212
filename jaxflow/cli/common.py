"""What the commands share: words of the command line, progress, and messages."""

import argparse
import ast
import math
import sys
from typing import Any, NoReturn

import numpy as np
import tqdm

PROGRESS_AFTER = 0.5
"""Seconds until progress is shown, so that quick work is silent."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose error is one line."""

    def error(self, message: str) -> NoReturn:
        """Ends the program with one line and exit code 2."""
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def add_command(
    commands, name: str, run, about: str, example: str
) -> argparse.ArgumentParser:
    """Adds one command."""
    parser = commands.add_parser(
        name, help=about, description=f"{about}.", epilog=f"example: {example}"
    )
    parser.set_defaults(run=run)
    return parser


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


def parse_options(args: argparse.Namespace) -> dict[str, Any]:
    """Returns what is given as --option NAME=VALUE."""
    options = {}
    for word in args.option:
        name, equals, text = word.partition("=")
        if not equals:
            raise ValueError(f"--option: give NAME=VALUE; got {word!r}")
        try:
            options[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            options[name] = text
    return options


def progress(items, unit: str, *, total: int | None = None, about: str | None = None):
    """Shows progress on the standard error, once there is something to wait for."""
    return tqdm.tqdm(
        items, total=total, unit=unit, desc=about, delay=PROGRESS_AFTER, file=sys.stderr
    )


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
