"""The architecture page is true: its picture, the walk of a mini-batch, and what to touch to add something."""

from __future__ import annotations

import importlib
import re
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

import grimp
import pytest
from test_one_file_one_line import ADDED

import pyconv
from pyconv import train
from pyconv.backends.compiled import Serial

PACKAGE = Path(pyconv.__file__).parent
DOCS = PACKAGE.parent / "docs"
PAGE = (DOCS / "explanation" / "architecture.md").read_text(encoding="utf-8")
_, PICTURE, WALK, ADDING, WORDS = re.split(r"^## .*$", PAGE, flags=re.MULTILINE)

#: Decorators around hops, which the page names beside the walk.
GUARDS = {"command.<locals>.main", "quiet.<locals>.run", "own.<locals>.run",
          "one_at_a_time.<locals>.run", "on_ranks.<locals>.whole", "_together.<locals>.whole"}  # fmt: skip

#: Function and file, in their order.
HOPS = re.findall(r"^\| \d+ \| `([\w.]+)` \| `([\w./]+)` \|", WALK, re.MULTILINE)


def table(text: str) -> list[list[str]]:
    """The cells of a table's rows, without its head."""
    rows = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


@pytest.fixture
def drawing(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(DOCS)
    yield importlib.import_module("architecture")
    monkeypatch.delitem(sys.modules, "architecture")


def test_the_pictures_imports_are_those_that_grimp_finds(drawing: ModuleType) -> None:
    graph = grimp.build_graph("pyconv", exclude_type_checking_imports=True, cache_dir=None)
    found = drawing.imports()
    compiled = {name for name in found if name not in graph.modules}
    assert compiled == {".".join(("pyconv", *p.relative_to(PACKAGE).with_suffix("").parts))
                        for p in PACKAGE.rglob("*.pyx")}  # fmt: skip
    for name in graph.modules:
        theirs = graph.find_modules_directly_imported_by(name)
        # grimp takes a compiled module for a name of its package.
        packages = {each.rpartition(".")[0] for each in found[name] & compiled}
        assert found[name] - compiled - packages == theirs - packages, name


def test_every_module_is_in_one_box_and_every_arrow_points_down(drawing: ModuleType, tmp_path: Path) -> None:
    found = drawing.imports()
    boxes = drawing.boxes(found)
    members = [member for box in boxes for member in box.members]
    assert sorted(members) == sorted({name.split(".")[1] for name in found if "." in name})
    assert all(box.words for box in boxes)
    drawn = drawing.arrows(found, boxes)
    level = {name: number for number, row in enumerate(drawing.rows(drawn)) for name in row}
    assert set(level) == {box.name for box in boxes}
    assert all(level[name] < level[other] for name, others in drawn.items() for other in others)
    assert level["foundation"] == max(level.values())
    assert [name for name, each in level.items() if each == level["foundation"]] == ["foundation"]
    drawing.draw(tmp_path / "picture.svg")
    assert ET.parse(tmp_path / "picture.svg").getroot().tag.endswith("svg")


def test_an_arrow_that_follows_from_others_is_left_out_and_a_circle_is_an_error(drawing: ModuleType) -> None:
    boxes = [drawing.Box(name, name, [name]) for name in "abc"]
    found = {"pyconv.a": {"pyconv.b", "pyconv.c"}, "pyconv.b": {"pyconv.c"}, "pyconv.c": set()}
    assert drawing.arrows(found, boxes) == {"a": {"b"}, "b": {"c"}, "c": set()}
    with pytest.raises(ValueError, match="lead back"):
        drawing.arrows({**found, "pyconv.c": {"pyconv.a"}}, boxes)


def exists(function: str, file: str) -> bool:
    name = file.rpartition(".")[0].replace("/", ".").removesuffix(".__init__")
    found: Any = importlib.import_module(f"pyconv.{name}")
    for part in function.split("."):
        found = getattr(found, part, None)
    return callable(found)


@pytest.mark.skipif(pyconv.backends()["serial"] is not None, reason="the compiled module is missing")
def test_the_walk_is_what_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 8 <= len(HOPS) <= 10
    walks: list[list[tuple[str, str]]] = []
    called: set[CodeType] = set()
    original = Serial.conv2d_pool

    def place(code: CodeType) -> tuple[str, str]:
        path = Path(code.co_filename)
        return code.co_qualname, str(path.relative_to(PACKAGE)) if path.is_relative_to(PACKAGE) else ""

    def noticed(*args: Any, **options: Any) -> Any:
        walk, frame = [], sys._getframe(1)
        while frame is not None and not walks:
            walk.append(place(frame.f_code))
            frame = frame.f_back
        walks.append([(name, file) for name, file in reversed(walk) if file and name not in GUARDS])
        return original(*args, **options)

    def profile(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            called.add(frame.f_code)

    monkeypatch.setattr(Serial, "conv2d_pool", staticmethod(noticed))
    flags = "--data faces --limit 64 --model lenet --epochs 1 --workers 1 --backend serial --progress off"
    previous = sys.getprofile()
    sys.setprofile(profile)
    try:
        assert train.main([*flags.split(), "--out", str(tmp_path / "run")]) == 0
    finally:
        sys.setprofile(previous)
    assert walks[0] == HOPS[:-1]
    assert HOPS[-1] == (original.__name__, "_cpu.pyx")
    backward = re.findall(r"`(\w+\.\w+)` \(`([\w./]+)`\)", WALK.split("Six decorators")[0])
    assert len(backward) == 3
    assert set(backward) <= set(map(place, called))


def test_every_function_beside_the_walk_exists() -> None:
    named = re.findall(r"`([\w.]+)`\s\(`([\w./]+)`\)", WALK)
    assert len(named) >= 9
    assert [each for each in [*named, *HOPS] if not exists(*each)] == []
    assert {guard.partition(".")[0] for guard in GUARDS} <= set(re.findall(r"`(\w+)`", WALK))


def test_what_is_to_be_touched_is_there() -> None:
    rows = table(ADDING)
    assert len(rows) >= 12
    for what, write, touch in rows:
        places = [path for path in re.findall(r"`([\w./]+)`", write + touch) if "/" in path or path.endswith(".py")]
        assert places, what
        assert [path for path in places if not (PACKAGE / path).exists()] == [], what
        tables = re.findall(r"`([\w./]+)`: `(\w+)`", touch)
        assert tables, what
        for file, name in tables:
            defined = rf"^{name}\b|^static const \w+ NAME\({name}\)"
            text = (PACKAGE / file).read_text(encoding="utf-8")
            assert re.search(defined, text, re.MULTILINE), f"there is no {name} in {file}"


def test_the_first_additions_are_those_that_are_tried() -> None:
    rows = table(ADDING)[: len(ADDED)]
    for (_, write, touch), (file, _, in_table, _) in zip(rows, ADDED, strict=True):
        assert f"`{file.rpartition('/')[0]}/`" in write
        assert touch.startswith(f"`{in_table}`")


def test_words_are_in_order_and_in_use() -> None:
    words = [row[0] for row in table(WORDS)]
    assert words == sorted(words)
    sources = [path for form in ("*.py", "*.pyx", "*.h", "*.c") for path in PACKAGE.rglob(form)]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    unused = [word for entry in words for word in entry.split(", ") if not re.search(rf"\b{word}s?\b", text)]
    assert unused == []
