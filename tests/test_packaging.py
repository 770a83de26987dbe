"""The package's metadata and source distribution: a name that is free, extras that exist, every file."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from pyconv.costmodel import Cluster, simulate
from pyconv.errors import BackendUnavailable, InputError, install_line, needed
from pyconv.loop import tensorboard
from pyconv.nn.keras import archive
from pyconv.nn.onnx import graph

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TEXTS = [
    path
    for path in (
        *ROOT.iterdir(),
        *(path for name in ("bench", "docs", "pyconv", "tests") for path in (ROOT / name).rglob("*")),
    )
    if path.is_file()
    and (path.suffix in (".md", ".py", ".toml", ".rst") or path.name == "Makefile")
    and not {"_build", "generated", "auto_tutorials"} & set(path.parts)
]


def tracked() -> set[str]:
    """The files of the source; the test is skipped if nothing lists them."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a clone: only git knows which files belong to the source")
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name for name in done.stdout.split("\0") if name and (ROOT / name).exists()}


def test_a_source_distribution_holds_every_file_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    filelist = pytest.importorskip("setuptools.command.egg_info", reason="setuptools comes with the extra test")
    monkeypatch.chdir(ROOT)
    files = filelist.FileList()
    for line in (ROOT / "MANIFEST.in").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            files.process_template_line(line)
    there = {Path(name).as_posix() for name in files.files}
    expected = tracked()
    assert sorted(expected - there) == []
    ignored = subprocess.run(
        ["git", "check-ignore", "--stdin", "-z"], input="\0".join(there), capture_output=True, text=True, check=False
    )
    assert set(ignored.stdout.split("\0")) - {""} == set()  # built or measured files


def test_messages_and_pages_install_from_the_source() -> None:
    """The package index already has another project called pyconv."""
    assert PROJECT["name"] not in ("pyconv", "")
    theirs = re.compile(r"""pip install(\s+-\S+)*\s+['"]?pyconv(-parallel)?(?![-\w])|['"`]pyconv(-parallel)?\[""")
    wrong = [str(path.relative_to(ROOT)) for path in TEXTS if theirs.search(path.read_text("utf-8", "replace"))]
    assert [path for path in wrong if path != "tests/test_packaging.py"] == []


def test_every_extra_that_is_named_exists() -> None:
    extras = set(PROJECT["optional-dependencies"])
    named = set()
    for path in TEXTS:
        text = path.read_text("utf-8", "replace")
        for words in re.findall(r"(?:install_line\(|extra=|['\"]\.\[)['\"]?([a-z][a-z,]*)['\"]?[\])]", text):
            named |= {(extra, str(path.relative_to(ROOT))) for extra in words.split(",") if extra != "extra"}
    assert {("cuda", "README.md"), ("simulate", "pyconv/costmodel/simulation.py")} <= named
    assert sorted((extra, path) for extra, path in named if extra not in extras) == []
    assert install_line("cuda") == "pip install '.[cuda]' in pyconv's source folder"


@pytest.mark.parametrize(
    ("package", "call", "error", "sentence", "extra"),
    [
        ("onnx", graph.library, BackendUnavailable, "ONNX files need the package onnx", "onnx"),
        ("h5py", archive.library, BackendUnavailable, "Keras files need the package h5py", "keras"),
        (
            "simpy",
            lambda: simulate(Cluster(1, 1), 2),
            BackendUnavailable,
            "the simulation needs SimPy",
            "simulate",
        ),
        (
            "tensorboardX",
            tensorboard.check_installed,
            InputError,
            "TensorBoard's event files need tensorboardX",
            "tensorboard",
        ),
    ],
)
def test_a_missing_package_is_one_line_with_its_extra(
    monkeypatch: pytest.MonkeyPatch,
    package: str,
    call: Callable[[], object],
    error: type[Exception],
    sentence: str,
    extra: str,
) -> None:
    for name in [each for each in sys.modules if each.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value).startswith(f"{sentence}, which cannot be imported (")
    assert str(caught.value).endswith(f"): {install_line(extra)}")
    assert "\n" not in str(caught.value)


def test_another_error_of_an_optional_package_passes() -> None:
    with pytest.raises(KeyError), needed("it needs a package", extra="test"):
        raise KeyError


def test_the_metadata_is_complete() -> None:
    for field in ("description", "readme", "requires-python", "license", "license-files", "authors", "classifiers"):
        assert PROJECT[field], field
    for version in ("3.11", "3.12", "3.13"):
        assert f"Programming Language :: Python :: {version}" in PROJECT["classifiers"]
