"""Executes notebooks at their own settings and stores them with their pictures.

    python experiments/notebooks.py                    # all that are not stored yet
    python experiments/notebooks.py quickstart --again
    python experiments/notebooks.py --pictures DIR     # and the pictures as files

A notebook is colabs/NAME.py; stored is colabs/NAME.ipynb. One whose stored cells are
those of its source, executed without an error, is not executed again, so that the
command goes on where it was stopped. Each runs in an empty folder. What it prints and
its pictures are stored; warnings, progress bars and times are not.
"""

import argparse
import base64
import os
import pathlib
import resource
import sys
import tempfile

import jupytext
import nbclient
import nbformat

FOLDER = pathlib.Path(__file__).parents[1] / "colabs"
LARGEST = 400_000  # bytes of a stored notebook


def read_source(folder, name):
    """Reads a notebook's source as a notebook that has not been executed."""
    notebook = jupytext.read(folder / f"{name}.py")
    notebook.metadata.pop("jupytext", None)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"{name.replace('_', '-')}-{number}"
    return notebook


def is_stored(folder, name):
    """Tells whether the stored notebook is its source, executed to its end."""
    path = folder / f"{name}.ipynb"
    if not path.is_file():
        return False
    stored, source = nbformat.read(path, as_version=4), read_source(folder, name)
    cells = [[(c.cell_type, c.source) for c in n.cells] for n in (stored, source)]
    code = [cell for cell in stored.cells if cell.cell_type == "code"]
    counts = [cell.execution_count for cell in code]
    return cells[0] == cells[1] and counts == [*range(1, len(code) + 1)]


def execute(notebook, *, timeout):
    """Executes a notebook in an empty folder; leaves what is worth keeping."""
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        client = nbclient.NotebookClient(
            notebook, timeout=timeout, resources=resources, record_timing=False
        )
        client.execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
            for output in cell.outputs:
                output.get("data", {}).pop("image/jpeg", None)  # beside the PNG
    return notebook


def pictures(notebook):
    """Returns the PNG files that a notebook shows, in order."""
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    data = [out.get("data", {}).get("image/png") for out in outputs]
    return [base64.b64decode(png) for png in data if png]


def store(folder, name, notebook):
    """Writes a notebook, whole or not at all; refuses one that is too large."""
    text = nbformat.writes(notebook)
    if len(text.encode()) > LARGEST:
        raise SystemExit(
            f"{name}: {len(text.encode())} bytes with its pictures; at most {LARGEST} "
            "are stored: show fewer or smaller pictures"
        )
    part = folder / f".{name}.part"
    part.write_text(text)
    part.replace(folder / f"{name}.ipynb")


def main(arguments):
    """Executes and stores the notebooks that the arguments name."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="notebooks; without it all")
    parser.add_argument("--folder", type=pathlib.Path, default=FOLDER)
    parser.add_argument("--again", action="store_true", help="execute what is stored")
    parser.add_argument("--pictures", type=pathlib.Path, help="folder for pictures")
    parser.add_argument("--timeout", type=int, default=3600, help="seconds for a cell")
    args = parser.parse_args(arguments)
    known = sorted(path.stem for path in args.folder.glob("*.py"))
    if unknown := [name for name in args.names if name not in known]:
        parser.error(f"no notebook {unknown[0]!r}; there are {', '.join(known)}")
    if os.environ.get("JAXFLOW_SMOKE") == "1":
        parser.error("JAXFLOW_SMOKE is 1: these would be stored at tiny settings")
    for name in args.names or known:
        if is_stored(args.folder, name) and not args.again:
            print(f"{name}: stored already", flush=True)
            continue
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        notebook = execute(read_source(args.folder, name), timeout=args.timeout)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if args.pictures:
            args.pictures.mkdir(parents=True, exist_ok=True)
            for number, png in enumerate(pictures(notebook)):
                (args.pictures / f"{name}_{number}.png").write_bytes(png)
        store(args.folder, name, notebook)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        print(f"{name}: executed and stored, {seconds:.0f} s of CPU time", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
