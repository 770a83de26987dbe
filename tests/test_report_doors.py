"""The parts of a report are checked when they are made, not when the report is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pyconv import reporting
from pyconv.errors import InputError


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"header": "ab"}, "header must be a list of texts, not 'ab'"),
        ({"header": iter("ab")}, "header must be a list of texts, not "),
        ({"rows": [["1", 2]]}, "a row must be a list of texts, and one of them is 2"),
        ({"rows": [["1"]]}, "a row has 1 cells, the header 2"),
        ({"rows": None}, "rows must be a list of rows"),
        ({"caption": None}, "caption must be text, not None"),
        ({"text": 1}, "text must be True or False"),
        ({"words": ["a"]}, "a column of words must be an integer"),
    ],
)
def test_tables_are_of_texts(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        reporting.Table(**{"header": ("a", "b"), "rows": [("1", "2")], **given})


def test_pictures_and_sections() -> None:
    for name in ("", "a/b", "..", 3, "x" * 300):
        with pytest.raises(InputError, match="name"):
            reporting.Picture(name, print, "")
    with pytest.raises(InputError, match="draw must be callable"):
        reporting.Picture("curves", None, "")
    with pytest.raises(InputError, match="title must be text"):
        reporting.Section(None, [])
    with pytest.raises(InputError, match="blocks must be a list of paragraphs, tables and pictures, and one of them"):
        reporting.Section("a", [3])


def test_what_a_report_is_written_from(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="sections must be a list of sections, and one of them is 'a'"):
        reporting.write(tmp_path, "title", ["a"])
    with pytest.raises(InputError, match="title must be text"):
        reporting.write(tmp_path, 3, [])
    with pytest.raises(InputError, match="folder must be the name of a file or folder"):
        reporting.write(3, "title", [])
    assert not list(tmp_path.iterdir())
    for read in (reporting.summary, reporting.run_sections):
        with pytest.raises(
            InputError, match="runs must be a list of runs, as read_run gives them, at least 1; there are"
        ):
            read([])
        with pytest.raises(InputError, match="runs must be a list of runs, as read_run gives them, and one of them"):
            read(["run"])
    for read in (reporting.sweep_table, reporting.sweep_sections):
        with pytest.raises(InputError, match="groups must be a mapping"):
            read([])
        with pytest.raises(InputError, match="runs must be a list of runs"):
            read({"sync": [None]})
    with pytest.raises(InputError, match="results must be Results, as read_results gives them, not None"):
        reporting.experiment_sections(None)
