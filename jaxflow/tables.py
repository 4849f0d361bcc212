"""Tables of results as text for people and for programs: columns, csv, Markdown."""

import csv
import io
import math
from collections.abc import Iterable, Mapping
from typing import Any

COLUMNS = ("pairs", "epe", "1px", "3px", "5px", "fl_all", "seconds")
"""Columns of `format_table` that are shown if no others are asked for."""


def format_table(
    rows: Mapping[str, Mapping[str, Any]],
    *,
    columns: Iterable[str] = COLUMNS,
    title: str = "",
) -> str:
    """Lays out results as text: a line for each, numbers aligned on the right.

    Args:
        rows: Name of a line -> column -> value. A column that is missing is "-".
        columns: Columns to show, in this order.
        title: Head of the column of names.

    Returns:
        Lines, joined, without a line break at the end.

    Examples:
        >>> from jaxflow import tables
        >>> rows = {"raft": {"epe": 1.5}}
        >>> print(tables.format_table(rows, columns=["epe"], title="chairs"))
        chairs    epe
        raft    1.500
    """
    columns = tuple(columns)
    cells = [(title, *columns)] + [
        (name, *(_format(column, row.get(column)) for column in columns))
        for name, row in rows.items()
    ]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    numeric = [
        all(isinstance(row.get(c), (int, float, type(None))) for row in rows.values())
        for c in columns
    ]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, (False, *numeric), strict=True)
        ).rstrip()
        for line in cells
    )


def format_csv(
    tables: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> str:
    """Writes results as comma-separated values: a line a data set and an estimator.

    Args:
        tables: Data set -> estimator -> column -> value. What is missing, and NaN, is
            an empty cell.

    Returns:
        Lines that end in a line break, the first with the names of the columns.
    """
    columns = _columns(tables)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("data", "estimator", *columns))
    for data, rows in tables.items():
        for name, row in rows.items():
            cells = (row.get(column) for column in columns)
            writer.writerow((data, name, *("" if _lacks(c) else c for c in cells)))
    return file.getvalue()


def format_markdown(
    tables: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> str:
    """Writes results as Markdown: a table a data set, a line an estimator.

    Args:
        tables: Data set -> estimator -> column -> value. What is missing, and NaN, is
            a dash.

    Returns:
        Text that ends in a line break.
    """
    columns = _columns(tables)
    lines = []
    for data, rows in tables.items():
        lines += ["", *_markdown_row((data, *columns))]
        lines.append("|---|" + "---:|" * len(columns))
        for name, row in rows.items():
            cells = (row.get(column) for column in columns)
            shown = (
                _format(column, None if _lacks(cell) else cell)
                for column, cell in zip(columns, cells, strict=True)
            )
            lines += _markdown_row((name, *shown))
    return "\n".join(lines[1:]) + "\n"


def _markdown_row(cells: Iterable[str]) -> list[str]:
    """Returns a line of a table; a bar would end a cell."""
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"]


def _columns(tables) -> tuple[str, ...]:
    """Returns the columns of all rows, in the order in which they come."""
    rows = (row for table in tables.values() for row in table.values())
    return tuple(dict.fromkeys(column for row in rows for column in row))


def _lacks(value: Any) -> bool:
    """Tells whether there is no number."""
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def _format(column: str, value: Any) -> str:
    """Writes one number as its column needs it."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def agrees(ours: float, printed: str) -> bool:
    """Tells whether a number is the printed one, rounded or cut off.

    Args:
        ours: The number.
        printed: Its decimal digits, such as "36.1"; the two may be apart by less than
            one unit of the last.

    Examples:
        >>> from jaxflow import tables
        >>> tables.agrees(2.0401, "2.04"), tables.agrees(2.06, "2.04")
        (True, False)
    """
    unit = 10.0 ** -len(printed.partition(".")[2])
    return abs(ours - float(printed)) < unit
