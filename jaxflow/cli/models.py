"""``jaxflow models``: what there is, and what it costs."""

import argparse
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
    from jaxflow import listing, tables

    if args.measure:
        _measure(args)
    rows = listing.rows(args.task)
    if args.json:
        common.print_json(rows)
        return
    others = {name: row for name, row in rows.items() if row["task"] != "video"}
    if args.task != "video":
        columns = ("task", "parameters", "multiple", "weights")
        print(tables.format_table(others, columns=columns, title="model"))
    if args.task in (None, "video"):
        videos = {
            name: _beside_published(row)
            for name, row in rows.items()
            if row["task"] == "video"
        }
        notes = [f"  {name}: {row.pop('note')}" for name, row in videos.items()]
        columns = (
            *("task", "parameters", "published M", "GMACs", "published G"),
            *("clip", "weights"),
        )
        print("" if args.task == "video" else "\n", end="")
        print(tables.format_table(videos, columns=columns, title="model"))
        print(NOTE_ON_COSTS)
        print("\n".join(note for note in notes if not note.endswith(": ")))


def _measure(args: argparse.Namespace) -> None:
    """Measures the networks of the task, or all, and writes the tables."""
    from jaxflow import cost, listing, models

    known = cost.read_table()
    kept = {name: known[name] for name in models.list_models() if name in known}
    names = models.list_models(args.task)
    for name in common.progress(names, "model", about="measure", quiet=args.quiet):
        kept[name] = cost.measured(name)
    cost.write_table(kept)
    listing.write()
    for table in (cost.TABLE, listing.TABLE):
        common.wrote(args, str(table))


def _beside_published(row: dict[str, Any]) -> dict[str, Any]:
    """Returns a recognition network's line: our cost beside the published one."""
    from jaxflow import tables

    line = {
        "task": "video",
        "parameters": row["parameters"],
        "GMACs": (row["multiply_adds"] or 0) / 1e9,
        "clip": f"{row['num_frames']} x {row['crop_size']}^2",
        "weights": row["weights"],
        "note": "",
    }
    known = row["published"]
    if known is None:
        return line
    figures = (
        ("published M", row["parameters"] / 1e6, known["parameters"]),
        ("published G", line["GMACs"], known["multiply_adds"]),
    )
    for column, figure, printed in figures:
        if printed:
            mark = "" if tables.agrees(figure, printed) else " !"
            line[column] = printed + mark
            if mark:
                line["note"] = f"{known['reason']} ({known['source']})"
    return line
