"""The program: its commands, their exit codes, and errors of one line."""

import argparse
import functools
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from jaxflow import __version__
from jaxflow.cli import (
    classify,
    common,
    completion,
    convert,
    demo,
    detect,
    evaluate,
    extract,
    flow,
    generate,
    models,
    submit,
    view,
)


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
    parser = _parser()
    args, strange = parser.parse_known_args(argv)
    if strange:
        parser.prog += f" {args.command}"
        parser.error(f"unrecognized arguments: {' '.join(strange)}")
    usual = warnings.formatwarning
    warnings.formatwarning = functools.partial(_warning, args.command)
    try:
        args.run(args)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Nobody reads any more, as after `jaxflow models | head`.
        common.forget_output()
        return common.UNREAD
    except Exception as error:
        message = _message(args, error)
        if message is None:
            raise
        print(f"jaxflow {args.command}: error: {message}", file=sys.stderr)
        return 2
    finally:
        warnings.formatwarning = usual
    return 0


def _warning(command: str, message: Warning | str, *_: Any) -> str:
    """Returns a warning as one line, without the line of code that gave it."""
    return f"jaxflow {command}: warning: {' '.join(str(message).split())}\n"


def _message(args: argparse.Namespace, error: Exception) -> str | None:
    """Returns one line about an error that the input is to blame for; None if not."""
    line = common.one_line(error)
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in line:
        return (
            "out of memory: cut frames into tiles (--tile 512), run fewer together "
            "(--batch-size 1), or give RAFT --option correlation=on_demand, which "
            "keeps no correlation of all pairs"
        )
    if isinstance(error, (ValueError, OSError, ImportError)):
        return line
    given = [f"--option {word}" for word in getattr(args, "option", None) or ()]
    for name in ("crop", "frames"):
        if args.command == "classify" and getattr(args, name) is not None:
            given.append(f"--{name} {getattr(args, name)}")
    wrong = (TypeError, AssertionError, ArithmeticError, LookupError)
    if given and isinstance(error, wrong):
        return f"{', '.join(given)}: {args.model} cannot run so: {line[:300]}"
    return None


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
    for verb in (
        models,
        flow,
        view,
        classify,
        detect,
        generate,
        extract,
        evaluate,
        submit,
        convert,
        demo,
        completion,
    ):
        verb.add_command(commands)
    parser.set_defaults(parser=parser)
    return parser
