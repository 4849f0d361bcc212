"""The page of the bench: verdicts, a table of claims, and two pictures."""

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from experiments.evidence import claims, flow_claims

CLAIMS = claims.CLAIMS + flow_claims.CLAIMS
Results = Mapping[tuple[str, int], Mapping[str, float]]


def values(claim: claims.Claim, results: Results) -> np.ndarray:
    """Returns a claim's number of each seed that has all that it needs, in percent."""
    seeds = sorted({seed for name, seed in results if name == claim.run})
    found = []
    for seed in seeds:
        number = results[claim.run, seed][claim.metric]
        if claim.less:
            if (claim.less, seed) not in results:
                continue
            number -= results[claim.less, seed][claim.less_metric or claim.metric]
        found.append(number)
    return np.array(found)


def interval(numbers: Sequence[float] | np.ndarray) -> tuple[float, float, float]:
    """Returns the mean and the two ends of Student's 95 % interval.

    Fewer than two numbers have no interval: its ends are infinite.
    """
    if len(numbers) < 2:
        mean = float(numbers[0]) if len(numbers) else math.nan
        return mean, -math.inf, math.inf
    mean = float(np.mean(numbers))
    error = float(np.std(numbers, ddof=1)) / math.sqrt(len(numbers))
    half = float(stats.t.ppf(0.975, len(numbers) - 1)) * error
    return mean, mean - half, mean + half


def verdict(claim: claims.Claim, numbers: Sequence[float] | np.ndarray) -> str:
    """Returns "confirmed", "refuted" or "undecided".

    A claim is confirmed if the interval of the mean lies inside its range, and refuted
    if it lies outside; one that reaches across an end of the range is undecided.

    Args:
        claim: Tells the range, whose ends do not belong to it.
        numbers: One a seed.
    """
    if len(numbers) < 2:
        return "undecided"
    _, low, high = interval(numbers)
    if claim.range[0] < low and high < claim.range[1]:
        return "confirmed"
    if high <= claim.range[0] or low >= claim.range[1]:
        return "refuted"
    return "undecided"


def write(folder: pathlib.Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes "page.md", "claims.png" and "runs.png" of the lines of results.

    Args:
        folder: Where to.
        rows: "run", "seed", "metrics", "seconds" and "machine" of each.
    """
    results = {(row["run"], row["seed"]): row["metrics"] for row in rows}
    text = [
        "# Evidence",
        "",
        "Made by `python -m experiments.evidence`; not to be edited. Each number is a "
        "mean over seeds, with Student's 95 % interval; a claim is confirmed if the "
        "interval lies inside the range that the claim foretells, refuted if outside, "
        "undecided if across an end of it. The networks, the clips and the scenes are "
        "tiny (`clip_runs.py` and `estimation.py` have their numbers): a verdict is "
        "about these, and says as much about a paper's networks as tiny ones can. "
        "Errors of flow are end-point errors, in percent of those of no motion.",
        "",
        "| claim | who says so | foretold | found | seeds | verdict |",
        "|---|---|---|---|---|---|",
        *(claim_row(claim, values(claim, results)) for claim in CLAIMS),
        "",
        "![What was found, and what was foretold](claims.png)",
        "",
        "## The runs",
        "",
        "| run | top-1, % | above its reversal, % | error of flow, % | thousands of "
        "weights | CPU seconds a seed |",
        "|---|---|---|---|---|---|",
        *(run_row(name, rows) for name in dict.fromkeys(row["run"] for row in rows)),
        "",
        "![Top-1 and error of each seed](runs.png)",
        "",
        *sorted({f"Run on: {row['machine']}." for row in rows}),
    ]
    (folder / "page.md").write_text("\n".join(text) + "\n")
    draw_claims(folder / "claims.png", results)
    draw_runs(folder / "runs.png", results)


def claim_row(claim: claims.Claim, numbers: np.ndarray) -> str:
    """Returns a claim's row of the table."""
    mean, low, high = interval(numbers)
    found = "not run yet"
    if len(numbers):
        found = f"{mean:.1f}"
    if len(numbers) > 1:
        found += f" ({low:.1f} to {high:.1f})"
    cells = (
        claim.text,
        claim.source,
        foretold(claim),
        found,
        str(len(numbers)),
        f"**{verdict(claim, numbers)}**" if len(numbers) else "-",
    )
    return "| " + " | ".join(cells) + " |"


def foretold(claim: claims.Claim) -> str:
    """Returns what a claim foretells, in words."""
    low, high = claim.range
    what = "difference" if claim.less else claim.metric.replace("_", " ")
    if high == math.inf:
        return f"{what} above {low:g}"
    if low == -math.inf:
        return f"{what} below {high:g}"
    return f"{what} from {low:g} to {high:g}"


def run_row(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns a run's row of the table."""
    own = [row for row in rows if row["run"] == name]
    cells = [name]
    for metric in ("top1", "in_pair", "error"):
        numbers = [row["metrics"][metric] for row in own if metric in row["metrics"]]
        mean, low, high = interval(numbers)
        cells.append(f"{mean:.1f} ({low:.1f} to {high:.1f})" if numbers else "-")
    swapped = [row["metrics"].get("swapped") for row in own]
    if all(number is not None for number in swapped):
        cells[1] += f"; tints swapped {np.mean(swapped):.1f}"
    weights = [row["metrics"]["weights"] for row in own if "weights" in row["metrics"]]
    cells.append(f"{weights[-1]:.1f}" if weights else "-")
    cells.append(f"{np.median([row['seconds'] for row in own]):.0f}")
    return "| " + " | ".join(cells) + " |"


def draw_claims(path: pathlib.Path, results: Results) -> None:
    """Draws each claim's mean, interval and seeds over the range that it foretells."""
    from matplotlib import figure

    shown = [claim for claim in CLAIMS if len(values(claim, results)) > 1]
    page = figure.Figure(figsize=(10, 1.2 + 0.42 * len(shown)), layout="constrained")
    axes = page.subplots()
    colours = {"confirmed": "tab:green", "refuted": "tab:red", "undecided": "0.5"}
    for row, claim in enumerate(shown):
        numbers = values(claim, results)
        mean, low, high = interval(numbers)
        left, right = (float(np.clip(end, -105, 105)) for end in claim.range)
        axes.barh(row, right - left, left=left, color="0.93", height=0.8)
        colour = colours[verdict(claim, numbers)]
        axes.plot(numbers, np.full(len(numbers), row), ".", color=colour, alpha=0.4)
        axes.errorbar(
            mean, row, xerr=[[mean - low], [high - mean]], fmt="o", color=colour,
            capsize=3,
        )  # fmt: skip
    axes.set_yticks(range(len(shown)), [claim.text for claim in shown], fontsize=8)
    axes.invert_yaxis()
    axes.set(xlim=(-105, 105), xlabel="percent; grey: what the claim foretells")
    axes.axvline(0, color="0.7", linewidth=0.8)
    axes.set_title("green: confirmed; red: refuted; grey: undecided", fontsize=9)
    page.savefig(path, dpi=110)


def draw_runs(path: pathlib.Path, results: Results) -> None:
    """Draws top-1 and the error of each seed of each run."""
    from matplotlib import figure

    labels = {
        "top1": "test clips that are right, %; a dot a seed",
        "error": "end-point error, % of that of no motion; a dot a seed",
    }
    names = {
        metric: list(
            dict.fromkeys(run for (run, _), m in results.items() if metric in m)
        )
        for metric in labels
    }
    names = {metric: found for metric, found in names.items() if found}
    rows = [len(found) for found in names.values()]
    page = figure.Figure(
        figsize=(8, 1 + 0.6 * len(rows) + 0.3 * sum(rows)), layout="constrained"
    )
    panels = page.subplots(len(rows), 1, squeeze=False, height_ratios=rows)[:, 0]
    for axes, (metric, found) in zip(panels, names.items(), strict=True):
        for row, name in enumerate(found):
            numbers = [m[metric] for (run, _), m in results.items() if run == name]
            axes.plot(
                numbers, np.full(len(numbers), row), ".", color="tab:blue", alpha=0.6
            )
            axes.plot(np.mean(numbers), row, "|", color="black", markersize=12)
        axes.set_yticks(range(len(found)), found, fontsize=8)
        axes.invert_yaxis()
        axes.set(xlim=(0, 102), xlabel=labels[metric])
        axes.grid(axis="x", color="0.9")
    page.savefig(path, dpi=110)
