"""Recipes import each other by their short names, and two folders have a `recipe`."""

import pathlib
import sys

import pytest

_FOLDER = pathlib.Path(__file__).parents[2] / "experiments"


def _forget():
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and "." not in name and _FOLDER in pathlib.Path(file).parents:
            del sys.modules[name]


@pytest.fixture(autouse=True, scope="module")
def own_recipes():
    """Lets each file of tests find the modules of its own folder, not of another."""
    _forget()
    yield
    _forget()
