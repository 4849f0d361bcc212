"""Tests for jaxflow.demo.page."""

import base64
import io
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
from PIL import Image

from jaxflow.demo import page

ROW = {"epe": 2.0, "visible": 1.5, "1px": 0.25, "seconds": 0.012}


def test_a_figure_holds_its_picture_bit_for_bit(rng):
    picture = rng.integers(0, 255, (4, 5, 3), np.uint8)
    code = re.search(r"base64,([^\"]+)", page.figure(picture, "a < b"))[1]
    read = np.asarray(Image.open(io.BytesIO(base64.b64decode(code))))
    np.testing.assert_array_equal(read, picture)
    assert "a &lt; b" in page.figure(picture, "a < b")


def test_the_table_divides_by_zero_flow_and_marks_ours():
    rows = {"nothing": {**ROW, "epe": 8.0}, "net": ROW}
    table = ElementTree.fromstring(
        page.table("Scenes", rows, zero="nothing", ours="net").replace(
            "class=ours", 'class="ours"'
        )
    )
    texts = [[cell.text for cell in row] for row in table.iter("tr")]
    assert texts[2] == ["net", "2.000", "0.25", "1.500", "25 %", "12"]
    assert [row.get("class") for row in table.iter("tr")] == [None, None, "ours"]


def test_the_curve_falls_to_the_right():
    svg = ElementTree.fromstring(
        page.draw_curve([(0.0, 0, 1.0), (30.0, 5, 0.5), (60.0, 9, 0.25)])
    )
    points = svg.find("polyline").get("points").split()
    x, y = np.array([point.split(",") for point in points], float).T
    assert (np.diff(x) > 0).all() and (np.diff(y) > 0).all()  # down is larger y


def test_the_page_is_whole_and_asks_for_nothing():
    text = page.render(
        facts=["one"],
        tables=[page.table("Scenes", {"net": ROW}, zero="net", ours="net")],
        curve=[(0.0, 0, 1.0), (1.0, 1, 0.9)],
        pictures=[page.gallery("A & B", ["<i>1</i>"], text="x < y")],
    )
    assert text.startswith("<!doctype html>") and text.rstrip().endswith("</html>")
    assert "A &amp; B" in text and "x &lt; y" in text
    assert "http" not in text
