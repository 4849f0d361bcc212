"""The package's name on PyPI, and the versions that it asks for."""

import importlib.metadata
import importlib.resources
import os
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import jaxflow
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


def test_the_wheel_is_what_is_tested(project, tmp_path):
    if "JAXFLOW_WHEEL" not in os.environ:
        pytest.skip("only make builds a wheel")
    wheel = pathlib.Path(os.environ["JAXFLOW_WHEEL"])
    assert pathlib.Path(jaxflow.__file__).parent == wheel / "jaxflow"
    # Programs that tests start, too.
    command = [sys.executable, "-c", "import jaxflow; print(jaxflow.__file__)"]
    found = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == jaxflow.__file__
    version = importlib.metadata.version(project["name"])
    assert version == jaxflow.__version__
    held, folder = (
        {
            path.relative_to(root): path.read_bytes()
            for path in (root / "jaxflow").rglob("*")
            if path.is_file() and path.suffix != ".pyc"
        }
        for root in (wheel, ROOT)
    )
    assert held == folder, "make builds the wheel again"


def test_the_package_is_marked_as_typed():
    assert importlib.resources.files("jaxflow").joinpath("py.typed").is_file()


WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_hash_with_their_version_beside(path):
    lines = [line for line in path.read_text().splitlines() if "uses:" in line]
    assert lines
    for line in lines:
        assert re.search(r"uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), (
            line
        )


def test_the_workflow_runs_every_supported_python_on_the_newest_and_oldest(project):
    if not WORKFLOWS:
        pytest.skip("installed without its repository")
    text = "".join(path.read_text() for path in WORKFLOWS)
    assert project["requires-python"] == ">=3.11"
    assert text.count('python: ["3.11", "3.12", "3.13"]') == 2
    assert "make test-colab" in text and ".ci/run" in text and ".ci/package" in text
    # Colab's versions are the oldest that are promised.
    oldest = {each.name: each.specifier for each in requirements(project)}
    for name in ("jax", "flax"):
        assert str(oldest[name]) == f">={constraints()[name]}"


def test_a_tag_names_the_version(project):
    if not (ROOT / ".git").exists():
        pytest.skip("no repository")
    command = ["git", "-C", ROOT, "tag", "--points-at", "HEAD", "v*"]
    tags = subprocess.run(command, capture_output=True, text=True).stdout.split()
    assert tags in ([], [f"v{jaxflow.__version__}"])


def test_every_slow_case_is_one_of_a_test_that_exists():
    folder = pathlib.Path(__file__).parent
    for line in (folder / "slow_cases.txt").read_text().splitlines():
        file, _, name = line.partition("[")[0].partition("::")
        assert f"def {name}(" in (folder.parent / file).read_text(), line
