"""What must be true of every timeline of ranks."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

SLACK = 0.01  # µs: times are written with three digits behind the point


class Ranks:
    """A timeline of ranks, read from its file.

    Attributes
    ----------
    processes : list of str
        The names of the ranks, in the order of the tracks.
    rows : dict of (int, str) to int
        The number of each row, by rank and name.
    spans : list of dict
    """

    def __init__(self, path: Path) -> None:
        self.entries: list[dict[str, Any]] = json.loads(path.read_text())
        metas = [each for each in self.entries if each["ph"] == "M"]
        names = {each["pid"]: each["args"]["name"] for each in metas if each["name"] == "process_name"}
        order = {each["pid"]: each["args"]["sort_index"] for each in metas if each["name"] == "process_sort_index"}
        self.processes = [names[rank] for rank in sorted(names, key=order.__getitem__)]
        assert [int(name.split()[1]) for name in self.processes] == list(range(len(names)))
        self.rows = {(e["pid"], e["args"]["name"]): e["tid"] for e in metas if e["name"] == "thread_name"}
        assert len(set(self.rows.values())) <= len(self.rows)
        self.clocks = defaultdict(list)
        for each in metas:
            if each["name"] == "clock":
                self.clocks[each["pid"]].append(each["args"])
        self.spans = [each for each in self.entries if each["ph"] == "X"]
        known = {(rank, row) for (rank, _), row in self.rows.items()}
        assert all((each["pid"], each["tid"]) in known for each in self.spans)

    def named(self, rank: int, row: str) -> list[dict[str, Any]]:
        """The spans on the rows whose names begin so."""
        rows = {number for (of, name), number in self.rows.items() if of == rank and name.startswith(row)}
        return [each for each in self.spans if each["pid"] == rank and each["tid"] in rows]

    def uncertainty(self, rank: int) -> float:
        """Of a rank's clock, µs; the largest."""
        return max((each["uncertainty_us"] for each in self.clocks[rank]), default=0.0)

    def check(self, ranks: int, *, whole: bool = True) -> Ranks:
        """All ranks are there, spans nest, and every message that was sent was received; unless it is not `whole`."""
        assert len(self.processes) == ranks
        assert {each["pid"] for each in self.spans} == set(range(ranks))
        assert set(self.clocks) == set(range(1, ranks))
        self._check_nesting()
        self._check_messages(whole)
        return self

    def _check_nesting(self) -> None:
        by_row = defaultdict(list)
        for each in self.spans:
            assert each["dur"] >= 0
            by_row[each["pid"], each["tid"]].append((each["ts"], -each["dur"], each))
        for spans in by_row.values():
            open_: list[dict[str, Any]] = []
            for begin, _, each in sorted(spans, key=lambda span: span[:2]):
                while open_ and open_[-1]["ts"] + open_[-1]["dur"] <= begin + SLACK:
                    open_.pop()
                if open_:
                    assert begin + each["dur"] <= open_[-1]["ts"] + open_[-1]["dur"] + SLACK, (open_[-1], each)
                open_.append(each)

    def _check_messages(self, whole: bool) -> None:
        sends, receives = {}, {}
        for rank in range(len(self.processes)):
            for each in self.named(rank, "sends"):
                key = (rank, each["args"]["to"], each["name"], each["args"]["number"])
                assert key not in sends and each["flow_out"]
                sends[key] = each
            for each in self.named(rank, "receives"):
                key = (each["args"]["from"], rank, each["name"], each["args"]["number"])
                assert key not in receives and each["flow_in"]
                receives[key] = each
        both = sends.keys() & receives.keys()
        assert both
        if whole:
            assert sends.keys() == receives.keys()
        arrows = Counter(sends[key]["bind_id"] for key in both)
        assert max(arrows.values()) == 1
        for key in both:
            sent, came = sends[key], receives[key]
            assert sent["args"]["bytes"] == came["args"]["bytes"] > 0
            assert sent["bind_id"] == came["bind_id"]
            doubt = self.uncertainty(key[0]) + self.uncertainty(key[1]) + SLACK
            assert sent["ts"] <= came["ts"] + came["dur"] + doubt, (sent, came)
