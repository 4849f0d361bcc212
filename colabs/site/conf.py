"""How the site is built: ``make docs``.

The folder of the notebooks is the source, so that they are its tutorials as they are
stored; nothing is executed. The pages of this folder are the rest.
"""

import inspect
import pathlib
import re
import tomllib

import jaxflow

ROOT = pathlib.Path(__file__).parents[2]
_project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
_repository = _project["urls"]["Repository"]

project = "jaxflow"
author = copyright = "The jaxflow authors"
version = release = jaxflow.__version__
root_doc = "index"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.extlinks",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["**/.ipynb_checkpoints"]
html_theme = "furo"
html_title = "jaxflow"

nb_execution_mode = "off"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

# {repo}`README.md` is a link to a file of the repository.
extlinks = {"repo": (f"{_repository}/blob/main/%s", "%s")}

default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True


def _is_foreign(app, what, name, member, skip, options) -> bool | None:
    """Leaves out what a module imports from elsewhere, and other modules."""
    home = getattr(inspect.unwrap(member) if callable(member) else member,
                   "__module__", None)  # fmt: skip
    if inspect.ismodule(member) or (home and not str(home).startswith("jaxflow")):
        return True
    return None


def _keep_tables(app, what, name, member, options, lines) -> None:
    """Shows what a docstring sets in by four spaces, as a table or a formula, as it is.

    Sections such as "Args:" are set in too, but without a blank line before.
    """
    kept, last = [], ""
    for line in lines:
        inset = line.startswith("    ") and kept and not kept[-1].strip()
        if inset and last.strip() and not last.startswith("    "):
            kept += [] if last.rstrip().endswith("::") else ["::", ""]
        kept.append(line)
        last = line if line.strip() else last
    lines[:] = kept


def _escape(app, what, name, member, options, lines) -> None:
    """Keeps the signs of formulas, as |a| and a * b, from being read as markup."""
    literal: int | None = None  # Indent of the line that a literal block follows.
    example = False
    for number, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if line.strip():
            literal = None if literal is not None and indent <= literal else literal
            example = example or line.lstrip().startswith(">>>")
        else:
            example = False
        if literal is None and not example:
            # What is in backquotes, and what Napoleon escaped, stays.
            parts = re.split(r"(`+[^`]*`+|\\[*|])", line)
            parts[::2] = (re.sub(r"([*|])", r"\\\1", part) for part in parts[::2])
            lines[number] = "".join(parts)
        if line.rstrip().endswith("::") and literal is None:
            literal = indent


def _list_models(app, name: str, text: list[str]) -> None:
    """Puts the table of all models into its page."""
    if name != "site/models":
        return
    from jaxflow import classical, cost, models

    lines = ["| model | task | parameters | GMACs | weights of others | tests |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    for model in models.list_models():
        module = models.find(model)
        task, file = module.__name__.split(".")[-2:]
        known = cost.listed(model)
        products = f"{known.multiply_adds / 1e9:.1f}" if known.multiply_adds else "-"
        licences = {
            weights.licence
            for key, weights in module.RECORD.weights.items()
            if key.startswith(f"{model}/")
        }
        lines.append(
            f"| `{model}` | {task} | {known.parameters:,} | {products} | "
            f"{'; '.join(sorted(licences)) or 'none'} | "
            f"{{repo}}`{file} <tests/models/{task}/test_{file}.py>` |"
        )
    rest = "flow | 0 | - | none needed | {repo}`classical <tests/classical>` |"
    lines += [f"| `{method}` | {rest}" for method in sorted(classical.METHODS)]
    text[0] = text[0].replace("<!-- models -->", "\n".join(lines))


def _list_notebooks(app, name: str, text: list[str]) -> None:
    """Ends the list of tutorials, at its star, with those that it does not name."""
    if name != "index":
        return
    stems = sorted(path.stem for path in (ROOT / "colabs").glob("*.ipynb"))
    more = [stem for stem in stems if f"\n{stem}\n" not in text[0]]
    text[0] = text[0].replace("\n*\n", "\n".join(["", *more, ""]))


def setup(app) -> None:
    """Registers what is special here."""
    app.connect("source-read", _list_models)
    app.connect("source-read", _list_notebooks)
    app.connect("autodoc-skip-member", _is_foreign)
    app.connect("autodoc-process-docstring", _keep_tables, priority=100)
    app.connect("autodoc-process-docstring", _escape, priority=900)
