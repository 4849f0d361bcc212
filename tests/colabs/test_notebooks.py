"""Each notebook runs from top to bottom, and is what its source says."""

import os
import pathlib

import pytest

FOLDER = pathlib.Path(__file__).parents[2] / "colabs"
# notebook: what it prints, how many pictures it shows, what it leaves behind
NOTEBOOKS = {
    "quickstart": (
        ["the same bit for bit: True"],
        None,
        ["quickstart_model", "runs"],
    ),
    "generate_video": (
        ["future given frames kept: True", "numbers shuffled:"],
        10,  # a clip, four tasks, three long videos, two encodings
        ["runs", "shapes.safetensors"],
    ),
    "recognition": (
        ["accuracy on new clips", "the same bit for bit: True"],
        2,  # the clips, and the frames above where the class is seen
        ["clip.mp4", "recognition_model", "runs"],
    ),
}
each_notebook = pytest.mark.parametrize("name", NOTEBOOKS)


def read(name):
    if not FOLDER.is_dir():
        pytest.skip("installed without its notebooks")
    nbformat = pytest.importorskip("nbformat")
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


@pytest.mark.parametrize(
    "name",
    [
        "quickstart",
        pytest.param("generate_video", marks=pytest.mark.slow),
        pytest.param("recognition", marks=pytest.mark.slow),
    ],
)
def test_it_runs_from_top_to_bottom(name, tmp_path, monkeypatch):
    notebook = read(name)
    nbclient = pytest.importorskip("nbclient")
    cache = pathlib.Path(__file__).parents[2] / ".jax_cache"
    monkeypatch.setenv("JAXFLOW_SMOKE", "1")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(cache))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=600, resources=resources).execute()
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    printed = "".join(output.get("text", "") for output in outputs)
    pictures = sum("image/png" in output.get("data", {}) for output in outputs)
    words, shown, written = NOTEBOOKS[name]
    for part in words:
        assert part in printed
    assert pictures == shown if shown else pictures > 0
    assert sorted(os.listdir(tmp_path)) == written


@each_notebook
def test_notebook_and_source_are_in_sync(name):
    jupytext = pytest.importorskip("jupytext")
    notebook, source = read(name), jupytext.read(FOLDER / f"{name}.py")
    cells = [[(c.cell_type, c.source) for c in n.cells] for n in (notebook, source)]
    assert cells[0] == cells[1]
    assert all(not cell.get("outputs") for cell in notebook.cells)


@each_notebook
def test_it_is_short(name):
    code = [cell for cell in read(name).cells if cell.cell_type == "code"]
    assert len(code) <= 10


def test_every_notebook_is_tested():
    if not FOLDER.is_dir():
        pytest.skip("installed without its notebooks")
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(NOTEBOOKS)
