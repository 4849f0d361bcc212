"""The page that the demo writes: one HTML file that needs nothing else."""

import base64
import html
import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

Rows = Mapping[str, Mapping[str, float]]
Point = tuple[float, int, float]


def render(
    *,
    facts: Sequence[str],
    tables: Sequence[str],
    curve: Sequence[Point],
    pictures: Sequence[str],
) -> str:
    """Returns the page.

    Args:
        facts: Sentences on top, as HTML.
        tables: From `table`.
        curve: (seconds of training, step, error relative to zero flow) along the way.
        pictures: From `gallery`.
    """
    return _PAGE.format(
        facts="".join(f"<li>{fact}</li>" for fact in facts),
        tables="".join(tables),
        curve=draw_curve(curve),
        pictures="".join(pictures),
    )


def gallery(title: str, *rows: Sequence[str], text: str = "") -> str:
    """Returns rows of figures under a title.

    Args:
        title: The title, as text.
        *rows: Figures, from `figure`, of each row.
        text: A sentence above them, as text.
    """
    above = f"<p>{html.escape(text)}</p>" if text else ""
    body = "".join(f"<div class=row>{''.join(row)}</div>" for row in rows)
    return f"<h3>{html.escape(title)}</h3>{above}{body}"


def figure(picture: np.ndarray, caption: str) -> str:
    """Returns an HTML figure that holds its picture.

    Args:
        picture: (H, W, 3) uint8.
        caption: The text below it.
    """
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(picture)).save(buffer, format="PNG", optimize=True)
    code = base64.b64encode(buffer.getvalue()).decode()
    caption = html.escape(caption)
    return (
        f'<figure><img alt="{caption}" src="data:image/png;base64,{code}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def table(title: str, rows: Rows, *, zero: str, ours: str) -> str:
    """Returns an HTML table of metrics, one row a method.

    Args:
        title: Its caption.
        rows: Method -> metrics.
        zero: The method whose error the others are divided by.
        ours: The method to highlight.
    """
    reference = rows[zero]["epe"]
    lines = []
    for name, row in rows.items():
        cells = (
            f"{row['epe']:.3f}",
            f"{row['epe'] / reference:.2f}",
            f"{row['visible']:.3f}",
            f"{100 * row['1px']:.0f} %",
            f"{1000 * row['seconds']:.0f}" if name != zero else "",
        )
        kind = " class=ours" if name == ours else ""
        body = "".join(f"<td>{cell}</td>" for cell in cells)
        lines.append(f"<tr{kind}><th>{html.escape(name)}</th>{body}</tr>")
    heads = ("EPE, px", "÷ zero flow", "EPE where visible", "within 1 px", "ms a pair")
    head = "".join(f"<th>{name}</th>" for name in heads)
    return (
        f"<table><caption>{html.escape(title)}</caption><tr><th></th>{head}</tr>"
        f"{''.join(lines)}</table>"
    )


def draw_curve(curve: Sequence[Point]) -> str:
    """Returns the error over time, (seconds, step, error) a point, as SVG."""
    width, height, left, bottom = 640, 240, 50, 40
    longest = max(seconds for seconds, _, _ in curve) or 1.0
    top = max(1.0, *(ratio for _, _, ratio in curve))

    def place(seconds: float, ratio: float) -> tuple[float, float]:
        x = left + seconds / longest * (width - left - 10)
        return x, 10 + (1 - ratio / top) * (height - bottom - 10)

    points = " ".join("{:.1f},{:.1f}".format(*place(s, r)) for s, _, r in curve)
    marks = []
    for ratio in (0.0, 0.3, 0.5, 1.0):
        _, y = place(0, ratio)
        marks.append(
            f'<line x1="{left}" x2="{width - 10}" y1="{y:.1f}" y2="{y:.1f}" />'
            f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{ratio:g}</text>'
        )
    for share in (0, 0.25, 0.5, 0.75, 1):
        x, y = place(share * longest, 0)
        minutes = share * longest / 60
        marks.append(
            f'<text x="{x:.1f}" y="{y + 16:.1f}" text-anchor="middle">{minutes:.1f}'
            "</text>"
        )
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="error over time">{"".join(marks)}<polyline points="{points}" />'
        f'<text x="{width / 2}" y="{height - 6}" text-anchor="middle">minutes of '
        "training</text></svg>"
    )


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>jaxflow demo</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
:root {{ color-scheme: light dark; --back: #ffffff; --ink: #1b1f24; --soft: #555c66;
  --line: #d9dde2; --ours: #eef6ff; --curve: #0b62c4; }}
@media (prefers-color-scheme: dark) {{ :root {{ --back: #14171b; --ink: #e8ebef;
  --soft: #a6afba; --line: #3a424d; --ours: #1d2c3f; --curve: #7db8ff; }} }}
body {{ font: 16px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 72rem;
  background: var(--back); margin: 2rem auto; padding: 0 1rem; }}
.wide {{ overflow-x: auto; }}
h1 {{ margin-bottom: 0; }} h3 {{ margin: 2rem 0 .5rem; }} figure {{ margin: 0; }}
table {{ border-collapse: collapse; margin: 0 2rem 1rem 0; display: inline-table; }}
caption {{ text-align: left; font-weight: 600; padding-bottom: .3rem; }}
th, td {{ padding: .25rem .7rem; border-top: 1px solid var(--line);
  text-align: right; }}
th:first-child {{ text-align: left; }} tr th {{ font-weight: 400; }}
.ours th, .ours td {{ font-weight: 700; background: var(--ours); }}
.row {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr));
  gap: .6rem; margin-bottom: .6rem; }}
img {{ width: 100%; max-height: 14rem; object-fit: contain; display: block; }}
figcaption {{ font-size: .8rem; color: var(--soft); }}
svg {{ max-width: 44rem; width: 100%; display: block; }}
svg line {{ stroke: var(--line); }} svg text {{ font-size: 11px; fill: var(--soft); }}
svg polyline {{ fill: none; stroke: var(--curve); stroke-width: 2; }}
</style></head><body>
<h1>jaxflow demo</h1>
<p>A small PWC-Net, trained from nothing on scenes drawn inside each training step.</p>
<ul>{facts}</ul>
<h2>Errors</h2>
<p>EPE is the mean distance between the estimated and the true motion, in pixels.</p>
<div class="wide">{tables}</div>
<h2>Training</h2>
<p>Error on held-out scenes, relative to zero flow.</p>
{curve}
<h2>Pictures</h2>
<p>The colour of flow is its direction, its strength the speed.</p>
{pictures}
</body></html>
"""
