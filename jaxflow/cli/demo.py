"""``jaxflow demo``: trains, restores, measures and shows, in minutes, offline."""

import argparse
import os
import pathlib
import sys

from jaxflow import io
from jaxflow.cli import common, paths
from jaxflow.io import folders


def add_command(commands) -> None:
    """Adds the command and its options to the parser."""
    about = "Train a small PWC-Net, restore it, measure it and write a report"
    example = "jaxflow demo --minutes 5 --frames a.png b.png"
    add = common.add_command(commands, "demo", run, about, example).add_argument
    helps = {
        "minutes": "how long to train, in minutes (default: %(default)s)",
        "frames": "two pictures of yours, whose flow the report shows, too",
        "output": "folder of the report and of the run (default: %(default)s)",
        "steps": "train N steps, whatever the time",
        "pairs": "scenes that are not trained on, to measure errors (default: "
        "%(default)s)",
        "seed": "what the draws of weights and data begin with (default: %(default)s)",
    }
    add("--minutes", type=common.positive, default=9.2, help=helps["minutes"])
    add("--frames", nargs=2, metavar=("A", "B"), help=helps["frames"])
    add("-o", "--output", default="demo_report", metavar="DIR", help=helps["output"])
    add("--steps", type=common.whole, metavar="N", help=helps["steps"])
    add("--pairs", type=common.whole, default=64, metavar="N", help=helps["pairs"])
    add("--seed", type=common.seed, default=0, metavar="N", help=helps["seed"])
    common.add_json(add)


def run(args: argparse.Namespace) -> None:
    """Runs the demo, and prints what it measured."""
    given = args.frames or ()
    report = str(pathlib.Path(args.output, "report.html"))
    paths.check_targets([("--output", report)], given)
    # It is made when there is something to put into it.
    folders.check_target("--output", args.output)
    if os.path.isdir(args.output):
        paths.check_file("--output", report)
    frames = [io.read_image(path) for path in given]

    from jaxflow import demo, evaluate

    result = demo.run(
        args.output,
        minutes=args.minutes,
        steps=args.steps,
        frames=frames,
        seed=args.seed,
        pairs=args.pairs,
        progress=sys.stderr.isatty() and not args.quiet,
    )
    if args.json:
        tables = {"scenes": result.scenes, "photograph": result.photograph or {}}
        common.print_json(
            tables
            | {"ratio": result.ratio, "seconds": result.seconds}
            | {"report": str(result.path)}
        )
        return
    columns = ("epe", "visible", "1px", "seconds")
    print(evaluate.format_table(result.scenes, columns=columns, title="scenes"))
    if result.photograph:
        print(evaluate.format_table(result.photograph, columns=columns, title="photo"))
    print(f"error relative to zero flow: {result.ratio:.3f}")
    print(f"{result.seconds / 60:.1f} minutes; report: {result.path}")
