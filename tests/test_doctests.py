"""The examples in docstrings are run, and public functions have one."""

import doctest
import importlib
import inspect
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxflow

ROOT = pathlib.Path(jaxflow.__file__).parent
MODULES = sorted(
    ".".join(("jaxflow", *path.relative_to(ROOT).with_suffix("").parts))
    for path in ROOT.rglob("*.py")
    if ">>> " in path.read_text()
)
# All of their functions have an example.
COMPLETE = (
    *("jaxflow.ops", "jaxflow.metrics", "jaxflow.losses", "jaxflow.viz"),
    *("jaxflow.quality", "jaxflow.diffusion.schedules"),
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_say(name, tmp_path):
    if name == "jaxflow.io.video":
        pytest.importorskip("av")
    module = importlib.import_module(name.removesuffix(".__init__"))
    known = {"jax": jax, "jnp": jnp, "np": np, "jaxflow": jaxflow}
    finder = doctest.DocTestFinder(exclude_empty=True)
    runner = doctest.DocTestRunner(verbose=False)
    count = 0
    for number, test in enumerate(finder.find(module, globs=known)):
        test.globs["folder"] = tmp_path / str(number)
        test.globs["folder"].mkdir()
        said: list[str] = []
        runner.run(test, out=said.append)
        assert not said, "".join(said)
        count += len(test.examples)
    assert count


def functions(name):
    module = importlib.import_module(name)
    return {
        key: value
        for key, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__.startswith("jaxflow")
        if not key.startswith("_")
    }


@pytest.mark.parametrize("name", COMPLETE)
def test_every_function_has_an_example(name):
    found = functions(name)
    assert len(found) > 9
    without = [key for key, value in found.items() if ">>> " not in value.__doc__]
    assert not without


def test_entries_have_an_example():
    entries = {name: getattr(jaxflow, name) for name in jaxflow._FUNCTIONS}
    found = {k for k, v in entries.items() if inspect.isfunction(v)}
    assert {name for name in found if ">>> " not in entries[name].__doc__} == set()
