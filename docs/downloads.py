"""What a tutorial's notebook and zip need to run by themselves: the modules beside it that it imports."""

from __future__ import annotations

import ast
import json
import zipfile
from pathlib import Path
from typing import Any

MAGIC = "%%writefile "


def complete(folder: Path) -> list[str]:
    """Put the modules that the tutorials in `folder` import into their notebooks and zips; names of those tutorials.

    The modules lie beside the tutorials' sources. A notebook writes them, in cells of its own before the first that
    computes; a zip holds them. What was completed before is done again.
    """
    found = []
    for script in sorted(folder.glob("*.py")):
        modules = beside(script, folder.parent / "tutorials")
        notebook = script.with_suffix(".ipynb")
        if not modules or not notebook.is_file():
            continue
        content = json.loads(notebook.read_text(encoding="utf-8"))
        content["cells"] = with_modules(content["cells"], modules)
        notebook.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        with zipfile.ZipFile(script.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
            for path in (script, notebook, *modules):
                archive.write(path, path.name)
        found.append(script.stem)
    return found


def beside(script: Path, sources: Path) -> list[Path]:
    """The modules in `sources` that a script imports, and what those import."""
    found: dict[Path, None] = {}
    todo = [script]
    while todo:
        tree = ast.parse(todo.pop().read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            new = [path for name in names if (path := sources / f"{name}.py").is_file() and path not in found]
            found |= dict.fromkeys(new)
            todo += new
    return list(found)


def with_modules(cells: list[dict[str, Any]], modules: list[Path]) -> list[dict[str, Any]]:
    """A notebook's cells with those that write the modules, before the first cell of code."""
    own = [cell for cell in cells if not "".join(cell["source"]).startswith(MAGIC)]
    first = next((place for place, cell in enumerate(own) if cell["cell_type"] == "code"), len(own))
    return [*own[:first], *map(_writing, modules), *own[first:]]


def _writing(module: Path) -> dict[str, Any]:
    text = f"{MAGIC}{module.name}\n{module.read_text(encoding='utf-8')}"
    about: dict[str, Any] = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
    return {**about, "source": text.splitlines(keepends=True)}
