"""Puts claims of the field to the test: tiny networks, drawn clips and scenes.

    python -m experiments.evidence                    # what is missing; then the page
    python -m experiments.evidence --only 'order/*' --seeds 0 1 2
    python -m experiments.evidence --page             # the page alone

Run it from the repository's root. What each claim foretells is in `claims.py` and
`flow_claims.py`, and was written there before it was run. Each run of a seed is one
line of results.jsonl; stopped at any time, the same command goes on with what is
missing.
"""

import dataclasses
import fnmatch
import json
import pathlib
import platform
import time
from typing import Any

import jax
import tyro

from experiments.evidence import clip_runs, estimation, page, recognition
from jaxflow.cli import common
from jaxflow.io import folders


@dataclasses.dataclass(frozen=True, kw_only=True)
class Args:
    """Options.

    Attributes:
        only: Pattern of the names of runs.
        seeds: Of weights, training and test.
        page: Whether to write the page alone.
        folder: Where the lines and the page are.
    """

    only: str = "*"
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    page: bool = False
    folder: pathlib.Path = pathlib.Path(__file__).parent


def read(path: pathlib.Path) -> list[dict[str, Any]]:
    """Reads the lines of results that are whole; a run that was cut off wrote half."""
    rows = []
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def missing(args: Args, rows: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """Returns (run, seed) that are not in `rows`, in the order of the claims."""
    done = {(row["run"], row["seed"]) for row in rows}
    names = dict.fromkeys(name for claim in page.CLAIMS for name in claim.runs)
    chosen = fnmatch.filter(names, args.only)
    return [
        (name, seed)
        for name in chosen
        for seed in args.seeds
        if (name, seed) not in done
    ]


def main(args: Args) -> list[dict[str, Any]]:
    """Runs what is missing, a line each, and writes the page.

    Returns:
        All lines.
    """
    folders.check_target("--folder", args.folder)
    args.folder.mkdir(parents=True, exist_ok=True)
    path = args.folder / "results.jsonl"
    rows = read(path)
    cut_off = path.is_file() and not path.read_text().endswith("\n")
    for name, seed in () if args.page else missing(args, rows):
        began = time.process_time()
        bench = recognition if name in clip_runs.RUNS else estimation
        metrics = bench.measure(name, seed)
        row = {
            "run": name,
            "seed": seed,
            "metrics": {key: round(value, 3) for key, value in metrics.items()},
            "seconds": round(time.process_time() - began, 1),
            "machine": f"{jax.default_backend()}, {platform.machine()}, "
            f"jax {jax.__version__}",
        }
        with path.open("a") as file:
            file.write("\n" * cut_off + json.dumps(row) + "\n")
        cut_off = False
        print(json.dumps(row), flush=True)
        rows.append(row)
    page.write(args.folder, rows)
    return rows


if __name__ == "__main__":
    with common.quiet_if_unread():
        main(tyro.cli(Args, description=__doc__))
