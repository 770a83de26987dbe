"""The page about communication is true: what its pictures show is what the code sends, and what is played adds up."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "explanation" / "communication.md").read_text(encoding="utf-8")


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(DOCS)
    yield importlib.import_module("communication_pictures")
    monkeypatch.delitem(sys.modules, "communication_pictures")


def test_every_picture_is_drawn_and_shown(pictures: ModuleType, tmp_path: Path) -> None:
    pictures.draw(tmp_path)
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {f"communication-{name}.svg" for name in pictures.PICTURES}
    for name in made:
        assert f"../reference/generated/{name}" in PAGE
        assert b"<path" in (tmp_path / name).read_bytes()


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b"])
def test_the_page_about_pipelines_shows_what_the_schedules_play(pictures: ModuleType, schedule: str) -> None:
    page = (DOCS / "explanation" / "pipelines.md").read_text(encoding="utf-8")
    lines = [line.removeprefix("gpipe").removeprefix("1f1b").strip() for line in page.splitlines()]
    for line in pictures.as_text(pictures.pipeline(schedule, 3, 4)):
        assert line in lines


def test_overlap_hides_what_it_can(pictures: ModuleType) -> None:
    spans = pictures.step(True)
    ends = {overlap: max(span.stop for span in pictures.step(overlap)) for overlap in (True, False)}
    assert ends[True] < ends[False]
    assert max(span.stop for span in pictures.step(True, (0.0,) * 4)) == max(
        span.stop for span in pictures.step(False, (0.0,) * 4)
    )
    by = {span.text: span for span in spans}  # of the two forward passes, the second
    for layer in range(4):
        assert by[f"g{layer}"].start >= by[f"B{layer}"].stop, "a gradient leaves when it is complete"
        assert by[f"p{layer}"].start >= by["U"].stop and by["U"].start >= by[f"g{layer}"].stop
        assert by[f"F{layer}"].start >= by[f"p{layer}"].stop, "a layer waits for its own parameters"
    for row in ("computes", "link"):
        own = sorted((span.start, span.stop) for span in spans if span.row == row)
        assert all(stop <= start for (_, stop), (start, _) in pairwise(own))
