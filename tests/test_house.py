"""The rules of the house that a tool can check: who may import whom, and what the package may not contain."""

from __future__ import annotations

import graphlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

PACKAGE = Path(__file__).parent.parent / "pyconv"
COMMANDS = ("train", "sweep", "predict", "export", "info", "report")

# Imports run from a later row to an earlier one, never back (rows of the design's section 3).
ROWS: tuple[tuple[str, ...], ...] = (
    (
        "errors",
        "descriptors",
        "files",
        "plotting",
        "interrupts",
        "invocation",
        "completion",
        "runlog",
        "values",
        "documents",
        "digests",
        "records",
        "shapes",
        "threads",
        "waiting",
        "limits",
        "arithmetic",
        "version",
    ),
    ("reference", "_cpu", "cuda"),
    ("backends", "arrays"),
    ("ops",),
    ("nn", "optim", "datasets", "checkpoint"),
    ("parallel",),
    ("cluster",),
    ("costmodel",),
    ("loop",),
    ("command", "sklearn"),
    ("reporting", "flags"),
    COMMANDS,
    ("__main__",),
)


# A line that imports compiled modules of the package
COMPILED = re.compile(r"import _\w+(, _\w+)*$")


def _row(module: str) -> int | None:
    if module.endswith(".__main__"):  # the command of a package: nothing imports it
        return len(ROWS) - 1
    name = module.split(".")[1] if "." in module else ""
    return next((index for index, names in enumerate(ROWS) if name in names), None)


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("pyconv", include_external_packages=True, cache_dir=None)


def test_every_module_has_a_place(graph: grimp.ImportGraph) -> None:
    tops = {module.split(".")[1] for module in graph.modules if module.startswith("pyconv.")}
    assert tops <= {name for names in ROWS for name in names}


def test_imports_run_downwards(graph: grimp.ImportGraph) -> None:
    wrong = []
    for module in sorted(graph.modules):
        row = _row(module)
        if row is None:
            continue
        for imported in graph.find_modules_directly_imported_by(module):
            other = _row(imported)
            lines = [each["line_contents"] for each in graph.get_import_details(importer=module, imported=imported)]
            if imported == "pyconv" and all(COMPILED.search(line) for line in lines):
                other = _row("pyconv._cpu")  # grimp does not see compiled modules, and names the package
            elif imported == "pyconv":
                other = len(ROWS)
            if other is not None and other > row:
                wrong.append(f"{module} imports {imported}")
    assert not wrong


def _compiled(path: Path) -> tuple[str, set[str]]:
    """A compiled module's name, and those of the package's modules that it imports."""
    package = ("pyconv", *path.relative_to(PACKAGE).parts[:-1])
    found = set()
    for dots, module, names in re.findall(r"^\s*from (\.*)([\w.]*) c?import (.+)$", path.read_text(), re.MULTILINE):
        base = ".".join([*package[: len(package) + 1 - len(dots)], *filter(None, [module])]) if dots else module
        found |= {base, *(f"{base}.{name}" for name in re.findall(r"\w+", names))}
    found |= set(re.findall(r"^\s*c?import (pyconv[\w.]*)", path.read_text(), re.MULTILINE))
    return ".".join((*package, path.stem)), {name for name in found if name.startswith("pyconv.")}


def _imports(graph: grimp.ImportGraph) -> dict[str, set[str]]:
    """What each module imports, anywhere in it: grimp takes a compiled module for a name of its package."""
    found = dict(map(_compiled, PACKAGE.rglob("*.pyx")))
    compiled = set(found)
    for name in graph.modules:
        found[name] = set()
        for imported in graph.find_modules_directly_imported_by(name):
            lines = [each["line_contents"] for each in graph.get_import_details(importer=name, imported=imported)]
            names = {part.split()[0] for line in lines for part in line.partition("import ")[2].split(",")}
            modules = {f"{imported}.{each}" for each in names}
            found[name] |= modules if modules <= compiled else {imported}
    return found


def test_imports_run_in_no_circle(graph: grimp.ImportGraph) -> None:
    imports = _imports(graph)
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        raise AssertionError(f"imports run in a circle: {' <- '.join(error.args[1])}") from None
    named = re.compile(r"sys\.modules\[.pyconv")
    assert [path.name for path in PACKAGE.rglob("*.py") if named.search(path.read_text())] == [], "a hidden import"


@pytest.mark.parametrize(
    ("external", "allowed"),
    [
        ("pycuda", ("pyconv.cuda",)),
        ("multiprocessing", ("pyconv.parallel", "pyconv.cluster.launch")),
        ("subprocess", ("pyconv.parallel", "pyconv.cuda", "pyconv.cluster.restarts", "pyconv.cluster.beside")),
        ("mpi4py", ("pyconv.cluster.mpi",)),
        (
            "argparse",
            tuple(f"pyconv.{name}" for name in ("command", "completion", "flags", "cluster.__main__", *COMMANDS)),
        ),
        ("pickle", ()),
    ],
)
def test_only_some_modules_import(graph: grimp.ImportGraph, external: str, allowed: tuple[str, ...]) -> None:
    if external not in graph.modules:
        return
    importers = graph.find_modules_that_directly_import(external)
    assert [name for name in sorted(importers) if not name.startswith(allowed or ("-",))] == []


def test_only_the_commands_print() -> None:
    guilty = [
        str(path.relative_to(PACKAGE))
        for path in sorted(PACKAGE.rglob("*.py"))
        if " print(" in path.read_text()
        and path.stem != "__main__"
        and path.relative_to(PACKAGE).parts[0].removesuffix(".py") not in COMMANDS
    ]
    assert guilty == []


def test_loggers_are_those_that_a_run_hears() -> None:
    guilty = [
        str(path.relative_to(PACKAGE))
        for path in sorted(PACKAGE.rglob("*.py"))
        if re.search(r"= logging\.getLogger\(.pyconv|= logging\.getLogger\(__name__", path.read_text())
        and path.name not in ("runlog.py", "progress.py")  # progress.py sets the logger's level
    ]
    assert guilty == [], "take runlog.logger(name): logging.getLogger's may be disabled by the program"


def test_the_kernels_guide_names_every_file() -> None:
    folder = PACKAGE / "_kernels"
    guide, winograd = (folder / "README.md").read_text(), (folder / "winograd" / "winograd.h").read_text()
    sources = {str(path.relative_to(folder)) for path in folder.rglob("*.[ch]")}
    named = set(re.findall(r"`([\w/]+\.[ch])`", guide))
    assert named <= sources
    assert (
        named | {f"winograd/{name}" for name in re.findall(r"\bwinograd_\w+\.h\b", winograd.partition("*/")[0])}
        >= sources
    )


def test_make_clean_removes_what_was_built_and_no_source(tmp_path: Path) -> None:
    folders = {path.parent.relative_to(PACKAGE.parent) for path in PACKAGE.rglob("*.pyx")}
    sources = [path.relative_to(PACKAGE.parent) for path in PACKAGE.rglob("*.py*") if path.suffix in (".pyx", ".pyi")]
    sources += [path.relative_to(PACKAGE.parent) for path in (PACKAGE / "_kernels").glob("*.c")]
    built = [path.with_suffix(".c") for path in sources if path.suffix == ".pyx"]
    built += [folder / "module.cpython-311-x86_64-linux-gnu.so" for folder in folders]
    assert len(built) >= 5
    shutil.copy(PACKAGE.parent / "Makefile", tmp_path)
    for path in (*sources, *built):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    subprocess.run(["make", "--silent", "clean"], cwd=tmp_path, check=True)
    assert [path for path in built if (tmp_path / path).exists()] == []
    assert [path for path in sources if not (tmp_path / path).exists()] == []


def test_an_import_without_the_compiled_module_says_how_to_build_it(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "pyconv", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    program = (
        # An editable installation's finder would find the module that was left out of the copy.
        "import sys; sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]\n"
        "import pyconv, numpy; print(pyconv.backends()['serial'])\n"
        "pyconv.conv2d(numpy.ones((1, 3, 3, 1)), numpy.ones((1, 1, 1, 1)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    hint = "pyconv._cpu is missing: build it with `pip install .`"
    assert hint in done.stdout
    assert "RuntimeWarning: " in done.stderr
    assert "BackendUnavailable: " in done.stderr.splitlines()[-1]
    assert hint in done.stderr.splitlines()[-1]


def test_every_finding_is_listed_and_states_versions_and_output() -> None:
    folder = PACKAGE.parent / "findings"
    guide = (folder / "README.md").read_text(encoding="utf-8")
    scripts = sorted(path for path in folder.glob("*.sh") if path.name != "common.sh")
    assert sorted(re.findall(r"^\| `([\w-]+)` \|", guide, re.MULTILINE)) == [path.stem for path in scripts]
    for path in scripts:
        text = path.read_text(encoding="utf-8")
        packages = re.findall(r"^packages (.+)$", text, re.MULTILINE)[0].split()
        assert all(re.fullmatch(r"[\w-]+==[\d.]+", package) for package in packages), path.name
        assert re.search(r"^# Seen \d{4}-\d\d-\d\d.*:\n(#   .+\n)+#\n# In pyconv: ", text, re.MULTILINE), path.name
        assert os.access(path, os.X_OK), path.name
        assert "pyconv" not in text.partition("\nsource ")[2], path.name
