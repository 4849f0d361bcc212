"""Measures jaxflow against its peers, and prints what came of it.

    python -m experiments.bench --peers PYTHON --only bars   # what has a bar
    python -m experiments.bench --peers PYTHON               # everything: half an hour
    python -m experiments.bench --only "warp*" "networks/*" --rounds 9
    python -m experiments.bench --table                      # results, as Markdown
    python -m experiments.bench --table --into README.md     # between its two marks
    python -m experiments.bench --list

PYTHON is an interpreter that has PyTorch and, for the networks, torchvision, ptlflow
and pytorchvideo; without it only our side runs. One JSON line a case is appended to
--results; a case that has a line there is not measured again, so that a run that was
stopped goes on, and one after a change begins with a new file.

On a CPU every side is bound to one core, the same for both, and processor time counts;
the sides take turns, and medians are compared. A ratio below 1 means that we are
faster. What is measured alone (compilation, growth with the size) has its own figures.
"""

import argparse
import datetime
import fnmatch
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import time
from typing import Any

from experiments.bench import cases, runner, tables
from jaxflow.cli import common

RESULTS = pathlib.Path(__file__).resolve().parent / "results" / "ratios"


def main(argv: list[str] | None = None) -> None:
    """Runs as the referee, or as one of the processes that the referee starts."""
    arguments = parser().parse_args(argv)
    if arguments.rival:
        runner.answer(cases.CASES, arguments.rival, arguments.device)
        return
    if arguments.alone:
        case = cases.CASES[arguments.alone]
        assert isinstance(case, runner.Alone)
        print(json.dumps(case.measure() | {"ours": runner.versions()}))
        return
    names = chosen(arguments.only, arguments.device)
    if arguments.list:
        with common.quiet_if_unread():
            print("\n".join(names))
        return
    path = arguments.results or RESULTS / f"{machine(arguments.device)}.jsonl"
    check(arguments)
    if arguments.table and not path.exists():
        sys.exit(f"--results {path}: no such file")
    try:
        failed = [] if arguments.table else measure(arguments, names, path)
    except KeyboardInterrupt:
        print(f"stopped; the same command goes on from {path}", file=sys.stderr)
        sys.exit(130)
    text = tables.markdown([line for line in read(path) if line["case"] in names])
    if arguments.into:
        arguments.into.write_text(tables.put(arguments.into.read_text(), text))
    with common.quiet_if_unread():
        print(text)
    if failed:
        sys.exit(f"{len(failed)} cases failed: {', '.join(failed)}")


def check(arguments) -> None:
    """Ends with one line where a run could not be compared, or not be written down."""
    peers, into = arguments.peers, arguments.into
    there = len(os.sched_getaffinity(0))
    if arguments.rounds < 1:
        sys.exit(f"--rounds {arguments.rounds}: must be 1 or more")
    if not 1 <= arguments.cores <= there:
        sys.exit(
            f"--cores {arguments.cores}: must be 1 to {there}, the cores there are"
        )
    if arguments.device != "cpu" and not arguments.table:
        place = runner.Place(arguments.device, peers, arguments.cores)
        if not place.exists():
            sys.exit(f"--device {arguments.device}: JAX finds none here")
    if peers and not arguments.table:
        has_torch = shutil.which(peers) and not subprocess.call(
            [peers, "-c", "import torch"], stderr=subprocess.DEVNULL
        )
        if not has_torch:
            sys.exit(f"--peers {peers}: must be an interpreter that has PyTorch")
    if into:
        try:
            tables.put(into.read_text(), "")
        except (OSError, ValueError) as error:
            sys.exit(f"--into {into}: {error}")


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    about = (__doc__ or "").splitlines()[0]
    made = argparse.ArgumentParser(
        prog="python -m experiments.bench", description=about
    )
    made.add_argument("--peers", help="an interpreter that has PyTorch")
    made.add_argument("--device", choices=("cpu", "gpu", "tpu"), default="cpu")
    made.add_argument("--only", nargs="+", default=["*"], help='patterns, or "bars"')
    made.add_argument("--rounds", type=int, default=5, help="3 for slow cases")
    made.add_argument("--cores", type=int, default=1, help="cores of a side, on a CPU")
    made.add_argument("--results", type=pathlib.Path, help="file of JSON lines")
    made.add_argument("--table", action="store_true", help="print results, and end")
    made.add_argument("--into", type=pathlib.Path, help="put the table into this page")
    made.add_argument("--list", action="store_true", help="print the cases, and end")
    made.add_argument("--rival", choices=("ours", "peer"), help=argparse.SUPPRESS)
    made.add_argument("--alone", help=argparse.SUPPRESS)
    return made


def chosen(patterns: list[str], device: str) -> list[str]:
    """Returns the cases that patterns name, in the order of the table."""
    names = [
        name
        for name in cases.CASES
        if ("bars" in patterns and name in cases.BARS)
        or any(fnmatch.fnmatch(name, f"*{p}*") for p in patterns if p != "bars")
    ]
    if not names:
        raise SystemExit(f"--only {' '.join(patterns)} names no case; see --list")
    return names if device == "cpu" else [n for n in names if cases.moves(n)]


def measure(arguments, names: list[str], path: pathlib.Path) -> list[str]:
    """Measures the cases that have no line yet, and appends one for each.

    A line without the peer's figures does not count where there is a peer.

    Returns:
        The cases that failed.
    """
    place = runner.Place(arguments.device, arguments.peers, arguments.cores)
    path.parent.mkdir(parents=True, exist_ok=True)
    done = {
        line["case"]
        for line in read(path)
        if not (place.peers and "ours_cpu_ms" in line and "cpu_ratio" not in line)
    }
    if there := done.intersection(names):
        print(
            f"{len(there)} of {len(names)} cases have their line in {path} and are not "
            "measured again; --results FILE begins a new one",
            file=sys.stderr,
        )
    failed = []
    with path.open("a") as file, runner.Referee(place) as referee:
        for name in names:
            if name in done:
                continue
            line = {"case": name} | figures(referee, name, arguments.rounds)
            print(json.dumps(line), flush=True)
            if "failed" not in line:
                file.write(json.dumps(line | about(place)) + "\n")
                file.flush()
            else:
                failed.append(name)
    return failed


def figures(referee: runner.Referee, name: str, rounds: int) -> dict[str, Any]:
    """Returns what a case measures, or how it failed."""
    case, began = cases.CASES[name], time.monotonic()
    try:
        if isinstance(case, runner.Alone):
            found = runner.alone(referee.place, name, case)
        else:
            found = referee.compare(name, case, rounds)
    except RuntimeError as error:
        found = {"failed": str(error)}
    load = round(os.getloadavg()[0], 1)
    return found | {"took_s": round(time.monotonic() - began, 1), "load": load}


def about(place: runner.Place) -> dict[str, Any]:
    """Returns what every line says of the machine and the day."""
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    return {
        "device": place.device,
        "machine": processor(),
        "cores": place.cores,
        "date": day,
    }


def processor() -> str:
    """Names the processor."""
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or "unknown"
    found = re.search(r"model name\s*:\s*(.+)", text)
    return found.group(1).strip() if found else platform.machine()


def machine(device: str) -> str:
    """Names the file of results: the processor, or the kind of device."""
    name = processor() if device == "cpu" else f"{device} {platform.node()}"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def read(path: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the lines of a file of results, none if it is not there."""
    lines = []
    for number, text in enumerate(
        path.read_text().splitlines() if path.exists() else (), start=1
    ):
        try:
            lines += [json.loads(text)] if text else []
        except ValueError:
            sys.exit(f"{path}, line {number}: is cut off or no JSON; delete it")
    return lines


if __name__ == "__main__":
    main(sys.argv[1:])
