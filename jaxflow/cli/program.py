"""The program: its commands, their exit codes, and errors of one line."""

import argparse
import sys
from collections.abc import Sequence

from jaxflow import __version__
from jaxflow.cli import classify, common, convert, demo, evaluate, flow, models


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: Words of the command line, without the program; None takes the process's.

    Returns:
        0 if it went well, 2 if the input was bad, 130 if it was interrupted.

    Raises:
        SystemExit: After --help and --version (0), and if the words make no command
            (2).
    """
    args = _parser().parse_args(argv)
    try:
        args.run(args)
    except (ValueError, OSError, ImportError) as error:
        print(
            f"jaxflow {args.command}: error: {common.one_line(error)}", file=sys.stderr
        )
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands."""
    parser = common.Parser(
        prog="jaxflow",
        description="Motion and video understanding in JAX.",
        epilog="example: jaxflow flow frame1.png frame2.png --image flow.png",
    )
    version = f"%(prog)s {__version__}"
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for verb in (models, flow, classify, evaluate, convert, demo):
        verb.add_command(commands)
    return parser
