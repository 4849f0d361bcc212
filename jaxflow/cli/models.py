"""``jaxflow models``: what there is, and what it costs."""

import argparse
import dataclasses
from typing import Any

from jaxflow.cli import common

NOTE_ON_COSTS = """
GMACs are billions of multiply-adds of convolutions and products for one clip of that
many frames and size, at which the published figure is given. What is published is
printed as its source has it; ! marks what differs by more than its last digit:"""


def add_command(commands) -> None:
    """Adds the command and its options to the parser."""
    example = "jaxflow models --task flow"
    parser = common.add_command(commands, "models", run, "List what there is", example)
    tasks = ("flow", "video", "generation")
    parser.add_argument("--task", choices=tasks, help="only the models of one task")
    measure = (
        "measure the cost of every network anew, and write the table that it is read "
        "from; for those who add or change a network (takes minutes)"
    )
    parser.add_argument("--measure", action="store_true", help=measure)
    common.add_json(parser.add_argument)


def run(args: argparse.Namespace) -> None:
    """Prints every model: what it costs, and what others say about that."""
    from jaxflow import models, tables

    if args.measure:
        _measure(args)
    names = models.list_models(args.task)
    if args.json:
        common.print_json(_everything(names, args.task))
        return
    videos = [name for name in names if _task(name) == "video"]
    others = [name for name in names if _task(name) != "video"]
    if args.task != "video":
        rows = {
            name: _describe(name)
            for name in common.progress(others, "model", quiet=args.quiet)
        }
        if args.task != "generation":
            rows |= _methods()
        columns = ("task", "parameters", "multiple", "weights")
        print(tables.format_table(rows, columns=columns, title="model"))
    if args.task in (None, "video"):
        rows = {
            name: _describe_video(name)
            for name in common.progress(videos, "model", quiet=args.quiet)
        }
        notes = [f"  {name}: {row.pop('note')}" for name, row in rows.items()]
        columns = (
            *("task", "parameters", "published M", "GMACs", "published G"),
            *("clip", "weights"),
        )
        print("" if args.task == "video" else "\n", end="")
        print(tables.format_table(rows, columns=columns, title="model"))
        print(NOTE_ON_COSTS)
        print("\n".join(note for note in notes if not note.endswith(": ")))


def _everything(names: list[str], task: str | None) -> dict[str, dict[str, Any]]:
    """Returns what is known of networks, and of methods, by their names."""
    from jaxflow import cost

    rows = {}
    for name in names:
        known = cost.published(name)
        rows[name] = {
            "task": _task(name),
            **dataclasses.asdict(cost.listed(name)),
            "published": None if known is None else dataclasses.asdict(known),
            "weights": _licences(name),
        }
    return rows | (_methods() if task in (None, "flow") else {})


def _measure(args: argparse.Namespace) -> None:
    """Measures the networks of the task, or all, and writes the table."""
    from jaxflow import cost, models

    known = cost.read_table()
    kept = {name: known[name] for name in models.list_models() if name in known}
    names = models.list_models(args.task)
    for name in common.progress(names, "model", about="measure", quiet=args.quiet):
        kept[name] = cost.measured(name)
    cost.write_table(kept)
    common.wrote(args, str(cost.TABLE))


def _task(name: str) -> str:
    """Returns the task of a network."""
    from jaxflow import models

    return models.task_of(models.find(name))


def _methods() -> dict[str, dict[str, Any]]:
    """Returns the lines of the methods without weights."""
    from jaxflow import classical

    about = {"task": "flow", "parameters": 0, "multiple": 1, "weights": "none needed"}
    return {name: about for name in sorted(classical.METHODS)}


def _describe(name: str) -> dict[str, Any]:
    """Returns a network's line of the table."""
    from jaxflow import cost

    known = cost.listed(name)
    return {
        "task": _task(name),
        "parameters": known.parameters,
        "multiple": known.multiple,
        "weights": _licences(name),
    }


def _describe_video(name: str) -> dict[str, Any]:
    """Returns a recognition network's line: our cost beside the published one."""
    from jaxflow import cost

    ours, known = cost.listed(name), cost.published(name)
    row = {
        "task": "video",
        "parameters": ours.parameters,
        "GMACs": (ours.multiply_adds or 0) / 1e9,
        "clip": f"{ours.num_frames} x {ours.crop_size}^2",
        "weights": _licences(name),
        "note": "",
    }
    if known is None:
        return row
    figures = (
        ("published M", ours.parameters / 1e6, known.parameters),
        ("published G", row["GMACs"], known.multiply_adds),
    )
    for column, figure, printed in figures:
        if printed:
            mark = "" if cost.agrees(figure, printed) else " !"
            row[column] = printed + mark
            if mark:
                row["note"] = f"{known.reason} ({known.source})"
    return row


def _licences(name: str) -> str:
    """Returns the licences of a network's published weights."""
    from jaxflow import models

    published = models.find(name).RECORD.weights
    licences = {w.licence for key, w in published.items() if key.startswith(f"{name}/")}
    return "; ".join(sorted(licences)) or "none published"
