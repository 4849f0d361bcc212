"""Every golden file of generation is what some test compares with."""

import ast
import json
import pathlib
import re

import pytest

TESTS = pathlib.Path(__file__).parents[2]
PLACES = ("models/generation/*.py", "diffusion/*.py", "quality/*.py")


@pytest.fixture(scope="module")
def words():
    """All strings of the tests of generation, but for their docstrings."""
    found = set()
    paths = [path for place in PLACES for path in TESTS.glob(place)]
    for path in paths:
        tree = ast.parse(path.read_text())
        docs = {
            node.body[0].value
            for node in ast.walk(tree)
            if isinstance(node, (ast.Module, ast.FunctionDef))
            and isinstance(node.body[0], ast.Expr)
        }
        found |= {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and node not in docs
            if isinstance(node.value, str)
        }
    return found


def test_every_case_of_the_index_is_compared(folder, words):
    rows = re.findall(r"^\| (\w+) \|", (folder / "INDEX.md").read_text(), re.M)
    cases = set(rows) - {"case", "file"}
    files = {path.stem for path in folder.glob("*.json")}
    assert cases == {name for name in files if not name.endswith("_published_keys")}
    assert len(cases) == 22
    used = {pathlib.PurePath(word).stem for word in words}
    assert cases - used == set()


def test_every_published_configuration_is_read(folder, words):
    published = [
        name
        for path in folder.glob("*_published_keys.json")
        for name in json.loads(path.read_text())["models"]
    ]
    assert len(published) == len(set(published)) == 16
    assert set(published) - words == set()
