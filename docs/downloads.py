"""Adds to a tutorial's notebook and zip the modules that it imports, so that both run by themselves."""

from __future__ import annotations

import ast
import base64
import io
import json
import zipfile
from pathlib import Path
from typing import Any

MAGIC = "%%writefile "
UNPACK = "# The benchmarks that this page runs, packed.\nimport base64, io, zipfile\n\n"
#: Files of the source folder that a module runs but does not import: added to the zip, and packed in a notebook.
RUNS = {"my_benchmarks.py": ("conftest.py", "pyproject.toml", "bench/*.py", "bench/harness/*.[pc]*")}
ROOT = Path(__file__).parent.parent


def complete(folder: Path, sources: Path | None = None) -> list[str]:
    """Put the modules that the tutorials in `folder` import into their notebooks and zips; returns the tutorials.

    The modules are in `sources`, by default ``tutorials`` beside `folder`. A notebook writes them in cells before its
    first cell that computes. A zip holds them, and the files that they run (:data:`RUNS`). Notebooks and zips that were
    completed before are completed again.
    """
    found = []
    for script in sorted(folder.glob("*.py")):
        modules = beside(script, sources or folder.parent / "tutorials")
        notebook = script.with_suffix(".ipynb")
        if not modules or not notebook.is_file():
            continue
        content = json.loads(notebook.read_text(encoding="utf-8"))
        content["cells"] = with_modules(content["cells"], modules)
        notebook.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        with zipfile.ZipFile(script.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
            for path in (script, notebook, *modules):
                archive.write(path, path.name)
            for path in sorted(path for module in modules for path in runs(module)):
                archive.write(path, path.relative_to(ROOT))
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


def runs(module: Path) -> list[Path]:
    """Files of the source folder that a module runs."""
    return [path for pattern in RUNS.get(module.name, ()) for path in ROOT.glob(pattern) if path.is_file()]


def with_modules(cells: list[dict[str, Any]], modules: list[Path]) -> list[dict[str, Any]]:
    """A notebook's cells with those that write the modules, before the first cell of code."""
    own = [cell for cell in cells if not "".join(cell["source"]).startswith((MAGIC, UNPACK))]
    first = next((place for place, cell in enumerate(own) if cell["cell_type"] == "code"), len(own))
    packed = [_unpacking(files) for module in modules if (files := runs(module))]
    return [*own[:first], *map(_writing, modules), *packed, *own[first:]]


def _writing(module: Path) -> dict[str, Any]:
    return _cell(f"{MAGIC}{module.name}\n{module.read_text(encoding='utf-8')}")


def _unpacking(files: list[Path]) -> dict[str, Any]:
    """A cell that writes files of the source folder below the folder that it runs in."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(files):
            archive.writestr(zipfile.ZipInfo(str(path.relative_to(ROOT))), path.read_bytes(), zipfile.ZIP_DEFLATED)
    text = base64.b64encode(packed.getvalue()).decode()
    cell = _cell(f'{UNPACK}packed = "{text}"\nzipfile.ZipFile(io.BytesIO(base64.b64decode(packed))).extractall()\n')
    return {**cell, "metadata": {"jupyter": {"source_hidden": True}}}


def _cell(text: str) -> dict[str, Any]:
    """A cell of code."""
    about: dict[str, Any] = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
    return {**about, "source": text.splitlines(keepends=True)}
