"""The build writes its steps to the terminal, because pip shows nothing of them."""

from __future__ import annotations

import runpy
import sys
import types
from pathlib import Path
from typing import Any

import pytest

SETUP = Path(__file__).parent.parent / "setup.py"


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """The names of setup.py, which is run without building, and the file to which it writes its steps."""

    class Extension(types.SimpleNamespace):
        def __init__(self, name: str, sources: list[str], **options: Any) -> None:
            super().__init__(name=name, sources=sources, **options)

    stubs: dict[str, dict[str, Any]] = {
        "Cython.Build": {"cythonize": lambda modules, **_: modules},
        "setuptools": {"Extension": Extension, "setup": lambda **_: None},
        "setuptools.command.build_ext": {"build_ext": object},
    }
    for name, members in stubs.items():
        module = types.ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.chdir(SETUP.parent)
    monkeypatch.setenv("PYCONV_BUILD_PROGRESS", str(tmp_path / "steps"))
    return {**runpy.run_path(str(SETUP)), "file": tmp_path / "steps"}


def test_every_source_is_a_numbered_line(built: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    modules = built["EXTENSIONS"]
    total = sum(len(module.sources) for module in modules)
    steps = built["Steps"](total)
    clock = iter(range(0, 10_000, 30))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    compile_all = steps.in_parallel(lambda sources, **_: [source + ".o" for source in sources])
    done = 0
    for module in modules:
        if module.name != "pyconv._cpu":  # one that is up to date
            assert compile_all(module.sources) == [source + ".o" for source in module.sources]
        done += len(module.sources)
        steps.skip_to(done)
    lines = built["file"].read_text().splitlines()
    assert any(line.startswith("compiling kernels for avx512 (") for line in lines)
    assert sorted(line.rpartition("(")[2] for line in lines if line.startswith("compiling")) == sorted(
        f"{number} of {total})" for number in range(1, total + 1) if number != _place(modules, "pyconv._cpu")
    )
    assert any(line.startswith("  kernels for avx2 took ") for line in lines)


def _place(modules: list[Any], name: str) -> int:
    """The place, from 1 on, of a module's first source among the sources of all modules."""
    names = [module.name for module in modules for _ in module.sources]
    return names.index(name) + 1


def test_a_build_goes_on_where_nothing_can_be_shown(built: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYCONV_BUILD_PROGRESS", "/no/such/place")
    built["say"]("a step")
