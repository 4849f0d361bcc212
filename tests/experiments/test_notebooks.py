"""Notebooks are executed in an empty folder, stored whole, and not executed twice."""

import importlib.util
import pathlib

import pytest

PATH = pathlib.Path(__file__).parents[2] / "experiments" / "notebooks.py"
SOURCE = """# %% [markdown]
# # Title

# %%
import os
import sys
from IPython.display import display
from PIL import Image

print("files:", os.listdir())
print("a warning", file=sys.stderr)
display(Image.new("RGB", (4, 3)).quantize(2))

# %%
print({})
"""


@pytest.fixture
def notebooks():
    pytest.importorskip("jupytext")
    pytest.importorskip("nbclient")
    if not PATH.is_file():
        pytest.skip("installed without its experiments")
    specification = importlib.util.spec_from_file_location("notebooks", PATH)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_it_goes_on_where_it_was_stopped(notebooks, tmp_path, capsys):
    import nbformat

    folder, shown = tmp_path / "colabs", tmp_path / "pictures"
    folder.mkdir()
    (folder / "good.py").write_text(SOURCE.format("1 + 1"))
    (folder / "wrong.py").write_text(SOURCE.format("1 / 0"))
    command = ["--folder", str(folder), "--pictures", str(shown)]
    with pytest.raises(Exception, match="ZeroDivisionError"):
        notebooks.main(command)
    assert "good: executed and stored" in capsys.readouterr().out
    assert [path.name for path in folder.glob("*.ipynb")] == ["good.ipynb"]
    assert [path.name for path in shown.iterdir()] == ["good_0.png"]
    code = nbformat.read(folder / "good.ipynb", as_version=4).cells[1:]
    kinds = [[out.output_type for out in cell.outputs] for cell in code]
    assert kinds == [["stream", "display_data"], ["stream"]]
    assert code[0].outputs[0].text == "files: []\n"
    assert set(code[0].outputs[1].data) == {"image/png", "text/plain"}
    notebooks.main(["good", *command])
    assert "good: stored already" in capsys.readouterr().out
    (folder / "good.py").write_text(SOURCE.format("1 + 2"))
    assert not notebooks.is_stored(folder, "good")


def test_what_is_wrong_is_named_in_one_line(notebooks, tmp_path, capsys, monkeypatch):
    with pytest.raises(SystemExit):
        notebooks.main(["quickstrat"])
    assert "no notebook 'quickstrat'; there are" in capsys.readouterr().err
    monkeypatch.setattr(notebooks, "LARGEST", 10)
    empty = notebooks.nbformat.v4.new_notebook()
    with pytest.raises(SystemExit, match="at most 10 are stored"):
        notebooks.store(tmp_path, "empty", empty)
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("JAXFLOW_SMOKE", "1")
    with pytest.raises(SystemExit):
        notebooks.main(["quickstart"])
    assert "JAXFLOW_SMOKE is 1" in capsys.readouterr().err
