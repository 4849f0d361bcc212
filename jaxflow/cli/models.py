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


def run(args: argparse.Namespace) -> None:
    """Prints every model: what it costs, and what others say about that."""
    from jaxflow import classical, evaluate, models

    flow = args.task != "video"
    if flow:
        names = [n for n in models.list_models(args.task) if not _is_video(n)]
        rows = {
            name: _describe(name)
            for name in common.progress(names, "model", quiet=args.quiet)
        }
        if args.task in (None, "flow"):
            about = {
                "task": "flow",
                "parameters": 0,
                "multiple": 1,
                "weights": "none needed",
            }
            rows |= {name: about for name in sorted(classical.METHODS)}
        columns = ("task", "parameters", "multiple", "weights")
        print(evaluate.format_table(rows, columns=columns, title="model"))
    if args.task in (None, "video"):
        names = models.list_models("video")
        rows = {
            name: _describe_video(name)
            for name in common.progress(names, "model", quiet=args.quiet)
        }
        notes = [f"  {name}: {row.pop('note')}" for name, row in rows.items()]
        columns = (
            *("task", "parameters", "published M", "GMACs", "published G"),
            *("clip", "weights"),
        )
        print("\n" if flow else "", end="")
        print(evaluate.format_table(rows, columns=columns, title="model"))
        print(NOTE_ON_COSTS)
        print("\n".join(note for note in notes if not note.endswith(": ")))


def _is_video(name: str) -> bool:
    """Tells whether a model is for video."""
    from jaxflow import models

    return models.task_of(models.find(name)) == "video"


def _describe(name: str) -> dict[str, Any]:
    """Returns a network's line of the table, without allocating its weights."""
    from jaxflow import cost, models

    model = cost.describe(name)
    policy = getattr(model, "frames", None)
    return {
        "task": models.task_of(models.find(name)),
        "parameters": cost.count_parameters(model),
        "multiple": policy.multiple if policy else None,
        "weights": _licences(name),
    }


def _describe_video(name: str) -> dict[str, Any]:
    """Returns a recognition network's line: our cost beside the published one."""
    from jaxflow import cost, models

    known = cost.published(name)
    config = models.find(name).VARIANTS[name]
    side = (known and known.crop_size) or config.crop_size
    frames = (known and known.num_frames) or config.num_frames
    parameters, products = cost.remembered_video_cost(
        name, crop_size=side, num_frames=frames
    )
    row = {
        "task": "video",
        "parameters": parameters,
        "GMACs": products / 1e9,
        "clip": f"{frames} x {side}^2",
        "weights": _licences(name),
        "note": "",
    }
    if known is None:
        return row
    figures = (
        ("published M", parameters / 1e6, known.parameters),
        ("published G", products / 1e9, known.multiply_adds),
    )
    for column, ours, printed in figures:
        if printed:
            mark = "" if cost.agrees(ours, printed) else " !"
            row[column] = printed + mark
            if mark:
                row["note"] = f"{known.reason} ({known.source})"
    return row


def _licences(name: str) -> str:
    """Returns the licences of a network's published weights."""
    from jaxflow import models

    published = getattr(models.find(name), "WEIGHTS", {})
    licences = {w.licence for key, w in published.items() if key.startswith(f"{name}/")}
    return "; ".join(sorted(licences)) or "none published"
