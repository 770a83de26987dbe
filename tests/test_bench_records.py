"""Files of benchmarks' results: what a new session replaces in them, and what stays."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch):
    """The module that writes the files; it is imported as the benchmarks do, and forgotten afterwards."""
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "bench")
    from harness import records

    yield records
    for name in [name for name in sys.modules if name.partition(".")[0] == "harness"]:
        monkeypatch.delitem(sys.modules, name)


def session(records: Any, folder: Path, *written: dict) -> list[tuple]:
    """Write the records of a session; what the file then has."""
    kept = records.Records()
    for one in written:
        kept.add({"experiment": "table1", "case": "1: x", "operation": "forward", "unavailable": None, **one})
    (path,) = kept.write(folder, {})
    content = json.loads(path.read_text(encoding="utf-8"))
    return [(r["column"], r.get("threads"), r["median_s"]) for r in content["records"]]


def test_the_last_session_counts_whether_it_could_run_or_not(records: Any, tmp_path: Path) -> None:
    reason = {"column": "serial winograd", "median_s": None, "unavailable": "not this layer"}
    taken = {"column": "serial winograd", "median_s": 0.5, "threads": 1}
    assert session(records, tmp_path, reason) == [("serial winograd", None, None)]
    assert session(records, tmp_path, taken) == [("serial winograd", 1, 0.5)]
    assert session(records, tmp_path, reason) == [("serial winograd", None, None)]


def test_other_threads_and_other_columns_stay(records: Any, tmp_path: Path) -> None:
    session(records, tmp_path, {"column": "pyconv", "median_s": 0.5, "threads": 1})
    both = session(records, tmp_path, {"column": "pyconv", "median_s": 0.3, "threads": 2})
    assert both == [("pyconv", 1, 0.5), ("pyconv", 2, 0.3)]
    last = session(records, tmp_path, {"column": "torch", "median_s": None, "unavailable": "not installed"})
    assert last == [*both, ("torch", None, None)]
