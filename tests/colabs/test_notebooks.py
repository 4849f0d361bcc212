"""Each notebook runs from top to bottom, and is what its source says."""

import os
import pathlib
import re
import tomllib

import pytest

FOLDER = pathlib.Path(__file__).parents[2] / "colabs"
# notebook: what it prints, how many pictures it shows, what it leaves behind
NOTEBOOKS = {
    "add_a_model": (
        ["the same bit for bit: True", "variants: soft_match"],
        1,  # before and after training
        ["runs", "soft_match"],
    ),
    "classical_motion": (
        ["normal flow (0.5", "pixels by phase correlation:"],
        7,  # aperture, ranks, pyramid, large motion, priors, affine, templates
        [],
    ),
    "quickstart": (
        ["the same bit for bit: True known: True", "of the hidden pixels"],
        6,  # scene, wheel, network, TV-L1, warping, video
        ["a.png", "clip.mp4", "flow.flo", "flow.mp4", "flow.png"],
    ),
    "flownet2_anatomy": (
        ["the parts make the whole: True", "flownets_2: endpoint error", "fused: fast"],
        3,  # scene, stages, fusion
        [],
    ),
    "generate_video": (
        ["future given frames kept: True", "numbers shuffled:"],
        10,  # a clip, four tasks, three long videos, two encodings
        ["runs", "shapes.safetensors"],
    ),
    "convert_weights": (
        ["10 missing", "bit for bit: True", "filled: endpoint error"],
        2,  # a layer, and the flow of weights that come along
        ["fast.safetensors", "mine.safetensors", "official.pth"],
    ),
    "measure_accelerator": (
        ["'case': 'copy'", "'case': 'warp, float32', 'ms':"],
        1,  # shares of what the device can do
        [],
    ),
    "representation_flow": (
        ["iterations:", "new scenes, as published:", "of the flow of flow"],
        3,  # iterations, against TV-L1, flow of flow
        [],
    ),
    "recognition": (
        ["two streams: ", "the same bit for bit: True"],
        3,  # clips, what is taken for what, where a network looks
        ["clip.mp4", "recognition_model", "runs"],
    ),
    "train_flow": (
        ["the same bit for bit: True", "error in pixels, trained:"],
        3,  # a scene, the loss, flows
        ["pwcnet_model", "runs"],
    ),
}
REPOSITORY = "github.com/jaxflow/jaxflow"
each_notebook = pytest.mark.parametrize("name", NOTEBOOKS)


def read(name):
    if not FOLDER.is_dir():
        pytest.skip("installed without its notebooks")
    nbformat = pytest.importorskip("nbformat")
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name != "quickstart" else [])
        for name in NOTEBOOKS
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
    # A cell is written as readers write, whose JAX adds axes by itself.
    monkeypatch.delenv("JAX_NUMPY_RANK_PROMOTION")
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


@each_notebook
def test_it_is_stored_with_its_pictures(name):
    code = [cell for cell in read(name).cells if cell.cell_type == "code"]
    outputs = [output for cell in code for output in cell.outputs]
    assert all(output.output_type != "error" for output in outputs)
    assert (FOLDER / f"{name}.ipynb").stat().st_size <= 400_000
    assert [cell.execution_count for cell in code] == [*range(1, len(code) + 1)]
    pictures = sum("image/png" in output.get("data", {}) for output in outputs)
    assert pictures == (NOTEBOOKS[name][1] or max(pictures, 1))


@each_notebook
def test_it_installs_from_the_one_address(name):
    text = (FOLDER / f"{name}.py").read_text()
    extras = r"\[[a-z]+(?:,[a-z]+)*\]"
    install = (
        rf'    # %pip install -q "jaxflow-motion{extras} @ git\+https://{REPOSITORY}"'
    )
    badge = f"https://colab.research.google.com/{REPOSITORY.replace('.com', '', 1)}"
    assert len(re.findall(install, text)) == text.count("pip install") == 1
    assert f"({badge}/blob/main/colabs/{name}.ipynb)" in text
    assert text.count("github.com/") == text.count(REPOSITORY)


def test_the_address_is_that_of_the_package():
    if not FOLDER.is_dir():
        pytest.skip("installed without its notebooks")
    project = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text())["project"]
    assert project["urls"]["Repository"] == f"https://{REPOSITORY}"


def test_the_readme_names_every_notebook():
    if not FOLDER.is_dir():
        pytest.skip("installed without its notebooks")
    readme = (FOLDER.parent / "README.md").read_text()
    assert {*re.findall(r"colabs/(\w+)\.ipynb", readme)} == set(NOTEBOOKS)


@each_notebook
def test_it_is_short(name):
    code = [cell for cell in read(name).cells if cell.cell_type == "code"]
    assert len(code) <= 10


def test_every_notebook_is_tested():
    if not FOLDER.is_dir():
        pytest.skip("installed without its notebooks")
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(NOTEBOOKS)
