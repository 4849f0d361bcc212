"""The notebook runs from top to bottom, and is what its source says."""

import os
import pathlib

import pytest

FOLDER = pathlib.Path(__file__).parents[2] / "colabs"


@pytest.fixture
def notebook():
    if not FOLDER.is_dir():
        pytest.skip("installed without its notebooks")
    nbformat = pytest.importorskip("nbformat")
    return nbformat.read(FOLDER / "recognition.ipynb", as_version=4)


def test_it_runs_from_top_to_bottom(notebook, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    cache = pathlib.Path(__file__).parents[2] / ".jax_cache"
    monkeypatch.setenv("JAXFLOW_SMOKE", "1")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(cache))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=600, resources=resources).execute()
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    printed = "".join(output.get("text", "") for output in outputs)
    assert "accuracy on new clips" in printed
    assert "the same bit for bit: True" in printed
    # The clips, and the frames above where the class is seen.
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    written = ["clip.mp4", "recognition_model", "runs"]
    assert sorted(os.listdir(tmp_path)) == written


def test_notebook_and_source_are_in_sync(notebook):
    jupytext = pytest.importorskip("jupytext")
    source = jupytext.read(FOLDER / "recognition.py")
    cells = [[(c.cell_type, c.source) for c in n.cells] for n in (notebook, source)]
    assert cells[0] == cells[1]
    assert all(not cell.get("outputs") for cell in notebook.cells)


def test_it_is_short(notebook):
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) <= 10
