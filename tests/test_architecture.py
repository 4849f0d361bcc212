"""The architecture, as a test."""

import ast
import pathlib
import runpy

import pytest

import jaxflow

ROOT = pathlib.Path(jaxflow.__file__).parent
FLOORS = (
    {"__version__", "_checks", "_mesh", "_shapes", "spec"},
    {"ops", "io"},
    {
        "classical",
        "layers",
        "losses",
        "metrics",
        "class_metrics",
        "linear",
        "viz",
        "data",
        "diffusion",
        "quality",
        "averaging",
        "detections",
        "tables",
    },
    {"models"},
    {"weights", "inference", "splitting", "stopping", "reporting", "mesh", "spreading"},
    {"generation", "views", "convert", "cost", "restoring", "pictures", "tiles"}
    | {"run_record"},
    {"programs", "listing"},
    {"estimate", "explain", "checkpoint", "viewer", "banks", "two_stream"},
    {"classify", "detect", "evaluate", "runs", "flow_cache", "maximise"},
    {"train", "extract"},
    {"demo"},
    {"cli"},
    {"__main__"},
)
FLOOR = {part: level for level, parts in enumerate(FLOORS) for part in parts}
# Models that contain other models: file -> the models it may import.
CONTAINS: dict[str, set[str]] = {
    "flownet2": {"flownetc", "flownetfusion", "flownets", "flownetsd"},
    "i3d_two_stream": {"i3d_inception"},
}
FILES = sorted(set(ROOT.rglob("*.py")) - {ROOT / "__init__.py"})
MODULES = [path for path in FILES if path.name != "__init__.py"]


def imported_modules(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            assert node.names[0].name != "*", "star import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_only_from_lower_floors(path):
    relative = path.relative_to(ROOT)
    part = relative.parts[0].removesuffix(".py")
    for name in imported_modules(path):
        package, _, rest = name.partition(".")
        if package == "jaxflow":
            other = rest.split(".")[0]
            if part == other == "models":
                contained = CONTAINS.get(relative.stem, set())
                assert rest.split(".")[-1] in contained, f"{relative} imports {name}"
                continue
            assert other == part or FLOOR[other] < FLOOR[part], f"{part} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_module_has_a_test_file(path):
    relative = path.relative_to(ROOT)
    assert (
        pathlib.Path(__file__).parent / relative.parent / f"test_{relative.name}"
    ).exists()


def test_top_level_is_fixed():
    allowed = {
        "pyproject.toml", "jaxflow", "experiments", "tests", "colabs", "README.md",
        "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile",
    }  # fmt: skip
    root = pathlib.Path(__file__).parent.parent
    if not (root / ".git").exists():
        pytest.skip("installed without its repository")
    import subprocess

    tracked = subprocess.run(
        ["git", "-C", root, "ls-files"], capture_output=True, text=True, check=True
    ).stdout.split()
    found = {name.split("/")[0] for name in tracked}
    assert {name for name in found if not name.startswith(".")} <= allowed


def test_the_picture_of_the_floors_is_theirs():
    script = pathlib.Path(__file__).parents[1] / "colabs/site/draw_floors.py"
    if not script.exists():
        pytest.skip("installed without its repository")
    drawn = runpy.run_path(str(script))
    assert [{*parts} for parts in drawn["floors"]()] == [
        parts - {"__version__"} for parts in FLOORS
    ]
    picture = script.with_name("architecture.svg").read_text()
    assert picture == drawn["draw"](drawn["floors"]()), f"run python {script.name}"
