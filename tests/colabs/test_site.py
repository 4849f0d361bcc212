"""Tests for the pages of the site, and for the links of all pages."""

import json
import pathlib
import re
import subprocess
import sys

import pytest

import jaxflow
from jaxflow import cost

ROOT = pathlib.Path(__file__).parents[2]
SITE = ROOT / "colabs/site"
PATTERNS = ("*.md", "experiments/*.md", "colabs/**/*.md", "colabs/*.ipynb")
PAGES = sorted(path for pattern in PATTERNS for path in ROOT.glob(pattern))
# [text](target), and not an address of the net or a place on the page.
LINK = re.compile(r"\]\((?!https?:|#|mailto:|data:|attachment:)([^)\s#]+)")
FILE = re.compile(r"\{repo\}`([^`]+)`")
PAGE = re.compile(r"\{doc\}`([^`]+)`")


def text_of(path):
    """Returns what somebody wrote into a page or a notebook."""
    if path.suffix == ".md":
        return re.sub(r"```.*?```", "", path.read_text(), flags=re.S)
    cells = json.loads(path.read_text())["cells"]
    written = [cell["source"] for cell in cells if cell["cell_type"] == "markdown"]
    return "\n".join("".join(lines) for lines in written)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    text = text_of(path)
    targets = [path.parent / link for link in LINK.findall(text)]
    targets += [ROOT / name for name in FILE.findall(text)]
    targets += [path.parent / f"{name}.md" for name in PAGE.findall(text)]
    assert [target for target in targets if not target.exists()] == []


def test_the_links_that_are_checked_are_found():
    text = "[a](b.md) [c](https://d) [e](#f) ![g](h.png) {repo}`i/j.py` {doc}`k`"
    assert LINK.findall(text) == ["b.md", "h.png"]
    assert FILE.findall(text) == ["i/j.py"] and PAGE.findall(text) == ["k"]
    assert len(FILE.findall(text_of(SITE / "field.md"))) > 30


def test_badges_open_the_notebook_that_they_are_in():
    for path in (ROOT / "colabs").glob("*.ipynb"):
        opened = re.findall(r"blob/main/(colabs/[\w./]+ipynb)", text_of(path))
        assert opened and set(opened) == {f"colabs/{path.name}"}, path.name


def test_every_notebook_is_a_tutorial():
    text = (ROOT / "colabs/index.md").read_text()
    # The star stands for those that are not named.
    assert "\n*\n" in text


def test_the_interface_holds_every_public_name():
    pages = {path.stem for path in (SITE / "api").glob("*.md")} - {"index"}
    assert pages == set(jaxflow._NAMESPACES), "colabs/site/api: a page for each"
    for name in pages:
        text = (SITE / f"api/{name}.md").read_text()
        assert f".. automodule:: jaxflow.{name}\n" in text
    text = (SITE / "api/index.md").read_text()
    assert set(re.findall(r"auto\w+:: jaxflow\.(\w+)", text)) == set(jaxflow._FUNCTIONS)


@pytest.mark.parametrize("path", [SITE / "field.md", ROOT / "README.md"], ids=str)
def test_parameters_in_tables_are_those_that_were_counted(path):
    table = cost.read_table()
    rows = 0
    for line in path.read_text().splitlines():
        cells = [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        if not line.startswith("|") or cells[0] not in table:
            continue
        known = table[cells[0]]
        counted = [cell for cell in cells if re.fullmatch(r"\d{1,3}(,\d{3})+", cell)]
        if counted:
            rows += 1
            assert counted == [f"{known.parameters:,}"], line
        if known.multiply_adds and counted and path.name == "field.md":
            assert f"{known.multiply_adds / 1e9:.1f}" in cells, line
    assert rows >= 20


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip("sphinx")
    pytest.importorskip("myst_nb")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-c", SITE]
    done = subprocess.run(
        [*command, ROOT / "colabs", tmp_path], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site/field.html").exists()
