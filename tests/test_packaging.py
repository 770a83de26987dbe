"""What a package index and a source distribution get: a name of our own, extras that exist, every file."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from pyconv.errors import install_line

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
    """The files of the source, or a skip where nothing says which those are."""
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
    assert set(ignored.stdout.split("\0")) - {""} == set()  # what was built or measured


def test_messages_and_pages_install_from_the_source() -> None:
    """An index has another project called pyconv."""
    assert PROJECT["name"] not in ("pyconv", "")
    theirs = re.compile(r"""pip install(\s+-\S+)*\s+['"]?pyconv(-parallel)?(?![-\w])|['"`]pyconv(-parallel)?\[""")
    wrong = [str(path.relative_to(ROOT)) for path in TEXTS if theirs.search(path.read_text("utf-8", "replace"))]
    assert [path for path in wrong if path != "tests/test_packaging.py"] == []


def test_every_extra_that_is_named_exists() -> None:
    extras = set(PROJECT["optional-dependencies"])
    named = set()
    for path in TEXTS:
        text = path.read_text("utf-8", "replace")
        for words in re.findall(r"(?:install_line\(|['\"]\.\[)['\"]?([a-z][a-z,]*)['\"]?[\])]", text):
            named |= {(extra, str(path.relative_to(ROOT))) for extra in words.split(",") if extra != "extra"}
    assert {("cuda", "README.md"), ("simulate", "pyconv/costmodel/simulation.py")} <= named
    assert sorted((extra, path) for extra, path in named if extra not in extras) == []
    assert install_line("cuda") == "pip install '.[cuda]' in pyconv's source folder"


def test_the_metadata_is_complete() -> None:
    for field in ("description", "readme", "requires-python", "license", "license-files", "authors", "classifiers"):
        assert PROJECT[field], field
    for version in ("3.11", "3.12", "3.13"):
        assert f"Programming Language :: Python :: {version}" in PROJECT["classifiers"]
