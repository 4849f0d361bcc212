"""Draws the floors of the package: ``python colabs/site/draw_floors.py``.

They are those of the test that holds them. A part's floor may be named only there.
"""

import ast
import html
import pathlib

HERE = pathlib.Path(__file__).parent
TEST = HERE.parents[1] / "tests/test_architecture.py"
PICTURE = HERE / "architecture.svg"
WIDTH, ROW, BOX, GAP, MARGIN = 860, 54, 26, 8, 16
COLOURS = ("#2f6f8f", "#2a7f62", "#4f7a28", "#8a7414", "#a2571f", "#9a3f4b", "#7a4a8c")


def floors() -> list[list[str]]:
    """Returns the parts of each floor, from the ground up."""
    for node in ast.parse(TEST.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "FLOORS":
            sets = eval(compile(ast.Expression(node.value), TEST.name, "eval"), {})
            return [sorted(name for name in parts if name != "__version__")
                    for parts in sets]  # fmt: skip
    raise ValueError(f"{TEST} has no FLOORS")


def draw(parts: list[list[str]]) -> str:
    """Returns the picture as SVG, the ground at the bottom."""
    height = len(parts) * ROW + 2 * MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="Verdana, DejaVu Sans, sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" rx="8" fill="#ffffff"/>',
    ]
    for level, names in enumerate(parts):
        top = MARGIN + (len(parts) - 1 - level) * ROW
        colour = COLOURS[min(level, len(COLOURS) - 1)]
        lines.append(
            f'<text x="{MARGIN}" y="{top + 31}" fill="#444444">{level}</text>'
            f'<line x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{top + ROW - 3}" '
            f'y2="{top + ROW - 3}" stroke="#cccccc"/>'
        )
        left = 2 * MARGIN + 20
        sizes = [7.4 * len(name) + 2 * GAP for name in names]
        # A full floor is drawn closer together.
        room = WIDTH - left - MARGIN - GAP * (len(names) - 1)
        scale = min(1.0, room / sum(sizes))
        for name, size in zip(names, sizes, strict=True):
            box = size * scale
            lines.append(
                f'<rect x="{left:.0f}" y="{top + 12}" width="{box:.0f}" '
                f'height="{BOX}" rx="4" fill="{colour}"/>'
                f'<text x="{left + box / 2:.0f}" y="{top + 29}" fill="#ffffff" '
                f'text-anchor="middle" font-size="{12 * min(1, scale * 1.05):.1f}">'
                f"{html.escape(name)}</text>"
            )
            left += box + GAP
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    PICTURE.write_text(draw(floors()))
