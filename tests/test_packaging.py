"""The package's name on PyPI, and the versions that it asks for."""

import importlib.resources
import pathlib
import re
import subprocess
import tomllib
import zipfile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from jaxflow import _checks

ROOT = pathlib.Path(__file__).parent.parent
CONSTRAINTS = pathlib.Path(__file__).parent / "constraints-colab.txt"
# Colab's image for TPUs differs from the constraints in this alone.
TPU = {"protobuf": "7.35.1"}
# What would install the project that is called `jaxflow` on PyPI.
FOREIGN = (
    r"\bjaxflow\[",
    r"pip\w* install[^\n]*[\s\"'`]jaxflow(?![\w.@/-])",
    r"(version|distribution|metadata|requires)\([\"']jaxflow[\"']",
)


@pytest.fixture(scope="module")
def project():
    """The table `project` of pyproject.toml."""
    if not (ROOT / "pyproject.toml").exists():
        pytest.skip("installed without its repository")
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def requirements(project):
    """What the package and each of its extras ask for, but not itself."""
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    found = [Requirement(line) for group in groups for line in group]
    return [each for each in found if each.name != project["name"]]


def constraints():
    lines = CONSTRAINTS.read_text().splitlines()
    pairs = (line.split("==") for line in lines if line and line[0] != "#")
    return {canonicalize_name(name): version for name, version in pairs}


def test_messages_and_extras_use_the_name_of_the_distribution(project):
    assert project["name"] == _checks._DISTRIBUTION != "jaxflow"
    for extra, lines in project["optional-dependencies"].items():
        for line in lines:
            if line.startswith("jaxflow"):
                assert Requirement(line).name == project["name"], extra


@pytest.mark.parametrize("pattern", FOREIGN)
def test_nothing_installs_a_stranger(project, pattern):
    if not (ROOT / ".git").exists():
        pytest.skip("no repository")
    names = subprocess.run(
        ["git", "-C", ROOT, "ls-files"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    texts = {".py", ".md", ".toml", ".ipynb", ".yml", ".yaml", ".txt", ".cfg", ""}
    for name in names:
        path = ROOT / name
        if path.suffix in texts and path.exists() and path != pathlib.Path(__file__):
            found = re.search(pattern, path.read_text().replace("\\", ""))
            assert not found, f"{name}: {found[0]}"


@pytest.mark.parametrize(
    "line",
    [
        'run `pip install "jaxflow[video]"`',
        "%pip install -q jaxflow",
        "importlib.metadata.version('jaxflow')",
    ],
)
def test_the_patterns_find_a_stranger(line):
    assert any(re.search(pattern, line) for pattern in FOREIGN)


@pytest.mark.parametrize("image", [{}, TPU], ids=["cpu and gpu", "tpu"])
def test_what_colab_preinstalls_satisfies_every_requirement(project, image):
    preinstalled = constraints() | image
    for requirement in requirements(project):
        version = preinstalled.get(canonicalize_name(requirement.name))
        if version is not None:
            assert requirement.specifier.contains(version), f"{requirement}, {version}"


def test_the_constraints_hold_what_the_package_is_made_of(project):
    required = {canonicalize_name(Requirement(line).name)
                for line in project["dependencies"]}  # fmt: skip
    assert {"jax", "flax", "optax", "orbax-checkpoint", "numpy"} <= required
    assert required - {"pooch", "safetensors", "tqdm"} <= set(constraints())


def test_the_wheel_tells_type_checkers_that_it_is_typed(tmp_path):
    if not (ROOT / "pyproject.toml").exists():
        pytest.skip("installed without its repository")
    wheels = pytest.importorskip("hatchling.builders.wheel")
    (path,) = wheels.WheelBuilder(str(ROOT)).build(directory=str(tmp_path))
    with zipfile.ZipFile(path) as wheel:
        assert "jaxflow/py.typed" in wheel.namelist()


def test_the_package_is_marked_as_typed():
    assert importlib.resources.files("jaxflow").joinpath("py.typed").is_file()
