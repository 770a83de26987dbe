"""The pages keep up with the code: every public name, error and flag has its place, and examples are valid."""

from __future__ import annotations

import ast
import importlib
import json
import re
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from pyconv import nn, train
from pyconv.errors import Interrupted, PyconvError
from pyconv.reporting import Picture, Section, drawing

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md") if not {"_build", "generated"} & set(page.parts))
READMES = [DOCS.parent / name for name in ("README.md", "CONTRIBUTING.md", "bench/README.md")]
MODULES = ("pyconv", "pyconv.nn", "pyconv.optim", "pyconv.datasets", "pyconv.costmodel", "pyconv.parallel",
           "pyconv.parallel.rules", "pyconv.cuda", "pyconv.reporting", "pyconv.sklearn")  # fmt: skip


def blocks(page: Path, language: str) -> list[str]:
    """The page's code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def code_lines(page: Path) -> list[str]:
    """The page's lines of code: fenced blocks, but neither directives nor messages, and indented ones."""
    lines, fence = [], None
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            fence = line[3:].strip() if fence is None else None
        elif (fence is None and line.startswith("    ")) or fence in ("", "python", "toml", "sh"):
            lines.append(line)
    return lines


def test_the_front_picture_is_drawn_from_the_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DOCS)
    import draw_front

    with Image.open(draw_front.PICTURE) as picture:
        assert json.loads(picture.text["Description"]) == draw_front.figures(), "run: python docs/draw_front.py"
    monkeypatch.delitem(sys.modules, "draw_front")


@pytest.mark.parametrize("module_name", MODULES)
def test_reference_has_every_public_name(module_name: str) -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in (DOCS / "reference").glob("*.md"))
    module = importlib.import_module(module_name)
    names = [name for name in module.__all__ if not name.startswith("__")]
    missing = [name for name in names if not re.search(rf"\b{name}\b", text)]
    assert not missing, f"docs/reference does not mention {', '.join(missing)} of {module_name}"


@pytest.mark.parametrize("module_name", MODULES)
def test_reference_lists_only_what_there_is(module_name: str) -> None:
    module = importlib.import_module(module_name)
    for page in (DOCS / "reference").glob("*.md"):
        current = ""
        for line in page.read_text(encoding="utf-8").splitlines():
            if found := re.match(r"\.\. currentmodule:: (\S+)", line):
                current = found[1]
            elif current == module_name and (found := re.match(r"   (\w+)$", line)):
                assert hasattr(module, found[1]), f"{page.name}: {module_name} has no {found[1]}"


def subclasses(kind: type) -> set[type]:
    return {kind} | {found for child in kind.__subclasses__() for found in subclasses(child)}


def test_every_error_and_its_status_is_listed() -> None:
    importlib.import_module("pyconv.cuda.errors")
    text = (DOCS / "reference" / "errors.md").read_text(encoding="utf-8")
    statuses = dict(re.findall(r"^\| `(\w+)` \|[^|]*\| (\d+) \|", text, re.MULTILINE))
    worker = importlib.import_module("pyconv.parallel.worker")
    private = {PyconvError, worker.NotFinite, worker.Unreadable}  # the parent raises other errors instead
    for error in (subclasses(PyconvError) | {Interrupted}) - private:
        assert statuses.get(error.__name__) == str(error.exit_status), error


def test_every_environment_variable_is_explained() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    package = Path(importlib.import_module("pyconv").__file__ or "").parent
    used = {
        name
        for pattern in ("*.py", "*.pyx")
        for path in package.rglob(pattern)
        for name in re.findall(r"environ[^\n]*\"(PYCONV_\w+)\"", path.read_text(encoding="utf-8"))
    }
    assert {"PYCONV_ISA", "PYCONV_GPUS"} <= used
    inner = {"PYCONV_CUDA_DEVICE"}  # for tests: another device with the same interface
    missing = sorted(name for name in used - inner if name not in text)
    assert not missing, f"no page, such as reference/commands.md, has {', '.join(missing)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_examples_parse(page: Path, tmp_path: Path) -> None:
    for block in blocks(page, "python"):
        if ">>>" not in block:  # those are run by sphinx.ext.doctest
            ast.parse(block)
    for number, block in enumerate(blocks(page, "toml")):
        path = tmp_path / f"{number}.toml"
        path.write_text(block, encoding="utf-8")
        assert nn.from_toml(path).flat.size > 0


def test_what_a_peer_does_faster_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DOCS)
    import generate

    def measured(case: str, operation: str, column: str, seconds: float | None, **more: str) -> dict:
        record = {"group": "a group", "case": case, "operation": operation, "column": column, "median_s": seconds}
        return record | more

    records = [
        measured("a layer", "forward", "pyconv", 2.0),
        measured("a layer", "forward", "torch contiguous", 4.0),
        measured("a layer", "forward", "torch channels_last", 1.0),
        measured("a layer", "weight_grad", "pyconv", 2.0),
        measured("a layer", "weight_grad", "torch contiguous", 3.0),
        measured("another", "input_grad", "pyconv", 2.0),
        measured("another", "input_grad", "torch contiguous", None),
        measured("another", "forward", "pyconv", 2.0, isa="avx2"),
        measured("another", "forward", "torch contiguous", 1.0, isa="avx2"),
    ]
    text = generate.losses({"records": records})
    assert "In 1 of 2 measurements" in text and "| a layer | forward 0.50 |" in text and "another" not in text
    monkeypatch.delitem(sys.modules, "generate")


@pytest.mark.parametrize("page", [*PAGES, *READMES], ids=lambda page: str(page.relative_to(DOCS.parent)))
def test_code_fits_the_page(page: Path) -> None:
    """A page shows 88 columns; the style sheet breaks longer lines, which are hard to read."""
    assert [line for line in code_lines(page) if len(line) > 88] == []


@pytest.mark.parametrize("page", [*PAGES, *READMES], ids=lambda page: str(page.relative_to(DOCS.parent)))
def test_commands_on_pages_have_flags_that_exist(page: Path) -> None:
    known = {flag for action in train.parser()._actions for flag in action.option_strings}
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for command in re.findall(r"(?:python -m pyconv\.|\bpyconv )train(.*)$", text, re.MULTILINE):
        for flag in re.findall(r"(?<!\S)--[a-z-]+", command):
            assert flag in known, f"{page.name}: there is no flag {flag}"


def test_the_crossing_with_transforms_is_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DOCS)
    import scipy_tables

    def record(width: int, column: str, seconds: float) -> dict:
        return {"size": 64, "x": width, "column": column, "median_s": seconds}

    own = [record(width, "pyconv", 1e-3 * width) for width in (3, 5, 9)]
    fft = [record(width, f"scipy.signal.{name}convolve", 0.006) for width in (3, 5, 9) for name in ("fft", "oa")]
    direct = [record(3, "scipy.signal.convolve2d", 0.3)]
    content = {
        "records": [*own, *fft, *direct], "when": "2026-01-01",
        "machine": dict.fromkeys(("cpu", "instruction_set", "usable_cpus"), "1"),
        "versions": dict.fromkeys(("scipy", "numpy", "pyconv"), "1"),
    }  # fmt: skip
    text = scipy_tables.tables(content)
    assert "| 64×64 | 5×5 | 9×9 |" in text
    assert "| 64×64 | 2 | 1.2 | 0.667 |" in text
    assert "| 64×64 | 100 | – | – |" in text
    assert "| scipy.signal convolve2d | scipy.ndimage convolve |" in text  # dotted names would be too wide
    monkeypatch.delitem(sys.modules, "scipy_tables")


def test_a_tutorials_downloads_hold_the_modules_that_it_imports(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(DOCS)
    import downloads

    sources, gallery = tmp_path / "tutorials", tmp_path / "auto_tutorials"
    for folder in (sources, gallery):
        folder.mkdir()
    (sources / "my_one.py").write_text("import my_two\n\nONE = my_two.TWO - 1\n")
    (sources / "my_two.py").write_text("TWO = 2\n")
    (gallery / "a.py").write_text("from my_one import ONE\n")
    (gallery / "b.py").write_text("import os\n")
    cells = [
        {"cell_type": "markdown", "source": ["Words"]},
        {"cell_type": "code", "source": ["from my_one import"]},
    ]
    for name in "ab":
        (gallery / f"{name}.ipynb").write_text(json.dumps({"cells": cells}))
        (gallery / f"{name}.zip").write_bytes(b"")
    for _ in range(2):  # the second time in the folder that the first has left
        assert downloads.complete(gallery) == ["a"]
        made = json.loads((gallery / "a.ipynb").read_text())["cells"]
        texts = ["".join(cell["source"]) for cell in made]
        one = f"%%writefile my_one.py\n{(sources / 'my_one.py').read_text()}"
        assert texts == ["Words", one, "%%writefile my_two.py\nTWO = 2\n", "from my_one import"]
        assert zipfile.ZipFile(gallery / "a.zip").namelist() == ["a.py", "a.ipynb", "my_one.py", "my_two.py"]
    assert (gallery / "b.zip").read_bytes() == b""
    monkeypatch.delitem(sys.modules, "downloads")


def test_a_downloaded_tutorial_finds_the_benchmarks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It runs in any folder, with pyconv imported from its source folder."""
    monkeypatch.syspath_prepend(DOCS / "tutorials")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_benchmarks", raising=False)
    import my_benchmarks

    assert any((folder / my_benchmarks.HERE).is_file() for folder in my_benchmarks.FOLDERS)
    monkeypatch.delitem(sys.modules, "my_benchmarks")


def test_a_zip_holds_the_benchmarks_that_its_tutorial_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(DOCS)
    import downloads

    held = {path.relative_to(downloads.ROOT).as_posix() for path in downloads.runs(Path("my_benchmarks.py"))}
    assert {"conftest.py", "pyproject.toml", "bench/conftest.py", "bench/harness/peak.c"} <= held
    text = (DOCS / "tutorials" / "tutorial_6_reproduce_paper.py").read_text(encoding="utf-8")
    assert {f"bench/bench_{name}.py" for name in re.findall(r'quick\("(\w+)"\)', text)} <= held
    assert downloads.runs(Path("my_rules.py")) == []
    monkeypatch.chdir(tmp_path)
    *_, cell = downloads.with_modules([], [DOCS / "tutorials" / "my_benchmarks.py"])
    exec("".join(cell["source"]), {})
    for name in held:
        assert (tmp_path / name).read_bytes() == (downloads.ROOT / name).read_bytes()
    assert len("".join(cell["source"])) < 250_000
    monkeypatch.delitem(sys.modules, "downloads")


def test_tutorials_import_nothing_that_their_downloads_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DOCS)
    import downloads

    folder = DOCS / "tutorials"
    assert [path.name for path in downloads.beside(folder / "tutorial_3_update_rule.py", folder)] == ["my_rules.py"]
    for script in folder.glob("tutorial_*.py"):
        carried = {path.name for path in downloads.beside(script, folder)}
        named = set(re.findall(r"\bmy_\w+\.py\b", script.read_text(encoding="utf-8")))
        assert named <= carried, script.name
    monkeypatch.delitem(sys.modules, "downloads")


def test_a_pages_part_has_its_pictures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(DOCS)
    import generate

    picture = Picture("bars", lambda: drawing.figure()[0], "Bars.")
    text = generate._markdown(Section("A part", ["Words.", picture]), tmp_path, "Measured here.")
    assert text == "Words.\n\nMeasured here.\n"
    assert Image.open(tmp_path / "bars.png").size[0] > 100
    monkeypatch.delitem(sys.modules, "generate")


def test_accuracy_with_the_defaults_is_compared_over_the_same_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DOCS)
    import defaults_table

    def ended(column: str, workers: int, seed: int, accuracy: float) -> dict:
        cell = {"case": "faces, fer", "column": column, "x": workers, "seed": seed}
        return {**cell, "accuracy": accuracy, "processor": f"CPU {seed}"}

    records = [ended("one worker", 1, 0, 0.95), ended("one worker", 1, 1, 0.93), ended("sync", 2, 0, 0.95),
               ended("hogwild", 16, 0, 0.91), ended("hogwild", 16, 1, 0.93)]  # fmt: skip
    text = defaults_table.tables({"records": records, "versions": {"pyconv": "1"}})
    assert "CPU 0; CPU 1; pyconv 1." in text
    assert "| one worker | 1 | 94.00 | 93.00 | +0.00 | 2 |" in text
    assert "| sync | 2 | 95.00 | 95.00 | +0.00 | 1 |" in text
    assert "| hogwild | 16 | 92.00 | 91.00 | **-2.00** | 2 |" in text
    monkeypatch.delitem(sys.modules, "defaults_table")


def test_the_tutorials_rule_counts_only_workers_that_have_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DOCS / "tutorials")
    rule = importlib.import_module("my_rules").SignMajority()
    taken: list[np.ndarray] = []
    old = np.array([-3.0, -1.0, 2.0])  # in the slot of a worker without images
    chunk = SimpleNamespace(
        gradients=np.array([[1.0, 2.0, -1.0], [4.0, 0.5, -2.0], old, old, old]), weights=np.array([0.5, 0.5, 0, 0, 0]),
        centre=np.zeros(3), state={}, optimise=lambda centre, gradient, state: taken.append(gradient),
    )  # fmt: skip
    rule.vote(chunk)
    assert taken[0].tolist() == [1, 1, -1]
    monkeypatch.delitem(sys.modules, "my_rules")
