"""Lays out results as Markdown tables."""

import math
from collections.abc import Sequence
from typing import Any

from experiments.bench import cases


def markdown(lines: list[dict[str, Any]]) -> str:
    """Returns a table of ratios, and one of what has no peer."""
    newest = {line["case"]: line for line in lines}
    ratios = [line for line in newest.values() if _ratio(line) is not None]
    alone = [line for line in newest.values() if _ratio(line) is None]
    parts = []
    if ratios:
        parts.append(_table(("work", "ours, ms", "peer, ms", "ratio", "bar"), ratios))
    if alone:
        parts.append(_table(("work", "figures", "bar"), alone))
    return "\n\n".join(parts)


MARKS = "<!-- results of the bench -->", "<!-- end of the results -->"


def put(page: str, text: str) -> str:
    """Returns a page with `text` between its two marks, instead of what is there.

    Raises:
        ValueError: If the page does not have the marks, once and in this order.
    """
    before, begin, rest = page.partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not (begin and end) or MARKS[0] in rest or MARKS[1] in after:
        raise ValueError(f"the page must have {MARKS[0]} and then {MARKS[1]}, once")
    return f"{before}{begin}\n{text}\n{end}{after}"


def _table(titles: tuple[str, ...], lines: list[dict[str, Any]]) -> str:
    order = {name: place for place, name in enumerate(cases.CASES)}
    lines = sorted(lines, key=lambda line: order.get(line["case"], len(order)))
    rows = [titles, ("---",) * len(titles), *map(_row, lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(line: dict[str, Any]) -> tuple[str, ...]:
    ratio, said = _ratio(line), _bar(line)
    if ratio is None:
        own = ", ".join(f"{k} {v:.4g}" for k, v in line.items() if _is_figure(k, v))
        return line["case"], own, said
    clock = "cpu" if "cpu_ratio" in line else "wall"
    times = (f"{line[f'{side}_{clock}_ms']:.4g}" for side in ("ours", "peer"))
    return line["case"], *times, f"{ratio:.2f}", said


def _is_figure(key: str, value: Any) -> bool:
    return isinstance(value, (int, float)) and key not in (
        *("took_s", "load", "cores", "rounds"),
    )


def _ratio(line: dict[str, Any]) -> float | None:
    return line.get("cpu_ratio", line.get("wall_ratio"))


def _bar(line: dict[str, Any]) -> str:
    """Says what the bar is, and whether it is met."""
    bar = cases.BARS.get(line["case"])
    if bar is None:
        return ""
    key, most = bar if isinstance(bar, tuple) else ("", bar)
    found = line.get(key) if key else _ratio(line)
    if found is None:
        return f"{key} {most}".strip()
    met = "met" if found <= most else "**missed**"
    return f"{key} {most}: {met}".strip()


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Returns p of the power law value ~ size^p that fits best."""
    x = [math.log(size) for size in sizes]
    y = [math.log(value) for value in values]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    pairs = list(zip(x, y, strict=True))
    return sum((a - mean_x) * (b - mean_y) for a, b in pairs) / sum(
        (a - mean_x) ** 2 for a in x
    )
