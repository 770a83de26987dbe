"""Timeline: rank 0's side, which writes what all ranks have noted to one file, by one clock."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...parallel.trace_file import FIRST, TraceFile, meta
from .clocks import Clock, Sample
from .rows import FIRST as FIRST_ROWS
from .rows import Rows
from .tape import ALL, COUNTER, NAMES, NUMBER, RECEIVES, SENDS, WAITS

# The forms of entries
_SPAN = '{"name":"%s","ph":"X","pid":%d,"tid":%d,"ts":%.3f,"dur":%.3f,"args":{'
_WORK = _SPAN + '"mini-batch":%d}}'
_PASS = _SPAN + '"mini-batch":%d,"micro-batch":%d}}'
_WAIT = _SPAN + '"for":"%s","cpu_us":%.1f,"looks":%d}}'
_LOOK = _SPAN + '"on_the_way":%d,"over":%d}}'
_SENT = _SPAN + '"to":%d,"bytes":%d,"number":%d,"call_us":%.1f},"bind_id":"0x%x","flow_out":true}'
_CAME = _SPAN + '"from":%d,"bytes":%d,"number":%d,"call_us":%.1f},"bind_id":"0x%x","flow_in":true}'
_COUNT = '{"name":"%s","ph":"C","pid":%d,"ts":%.3f,"args":{"%%":%.2f}}'
_ARROWS = 1 << 32  # messages between two ranks of a kind, before the arrows' numbers repeat


class Timeline:
    """A file in Chrome's trace-event format, which is valid after every :meth:`take`.

    Parameters
    ----------
    path : str or Path
        An older timeline there is overwritten, once there is something to write.
    rows : sequence of Rows
        Of all ranks.

    Raises
    ------
    InputError
        If the file cannot be made, or is there and is no timeline of pyconv's.
    """

    def __init__(self, path: str | Path, rows: Sequence[Rows]) -> None:
        self._rows = rows
        self._file = TraceFile(path)
        self._start = time.monotonic_ns()
        self._clocks = [Clock() for _ in rows]
        self._clocks[0].take(Sample(self._start, 0.0, 0.0))
        self._slots: dict[
            tuple[int, int], list[float]
        ] = {}  # by rank and row, when the last message of each slot ended
        self._named: set[tuple[int, int]] = set()
        self._lost = [0] * len(rows)

    def take(self, rank: int, sample: Sample | None, events: np.ndarray, lost: int = 0) -> None:
        """Write a rank's events.

        Parameters
        ----------
        rank : int
        sample : Sample or None
            Of its clock, measured after the events; None for rank 0's own.
        events : (n, 8) int64 ndarray
            As a tape gives them.
        lost : int
            Events that its tape has dropped.
        """
        with self._file.lock:
            if self._file.closed:
                return
            self._lost[rank] += lost
            clock, pieces = self._clocks[rank], []
            if not self._file.begun:
                pieces += [FIRST[1], *(entry for rows in self._rows for entry in rows.begin())]
            if sample is not None:
                clock.take(sample)
                pieces.append(self._about(rank))
            if clock.last is not None and len(events):
                times = (clock.on_rank_0(events[:, 2:4].reshape(-1)).reshape(-1, 2) - self._start) / 1e3
                pieces += self._entries(rank, events, times)
            if pieces:
                self._file.write(*pieces)

    def _about(self, rank: int) -> str:
        """An entry that says what is known of a rank's clock."""
        clock = self._clocks[rank]
        assert clock.last is not None
        return meta(
            "clock", rank, 0, ts_us=round((clock.last.at + clock.last.offset - self._start) / 1e3, 3),
            offset_us=clock.last.offset / 1e3, uncertainty_us=clock.uncertainty / 1e3,
        )  # fmt: skip

    def close(self) -> None:
        """Close the file; if nothing was written, it is as it was before."""
        with self._file.lock:
            for rank, lost in enumerate(self._lost):
                if lost and self._file.begun:
                    text = f"{lost} events of rank {rank} were lost: too many between two times that rank 0 took them"
                    now = (time.monotonic_ns() - self._start) / 1e3
                    entry = {"name": text, "ph": "i", "s": "p", "pid": rank, "tid": 0, "ts": now}
                    self._file.write(json.dumps(entry, separators=(",", ":")))
            self._lost = [0] * len(self._rows)
            self._file.close()

    # ---- entries ----------------------------------------------------------------------------------

    def _entries(self, rank: int, events: np.ndarray, times: np.ndarray) -> list[str]:
        """All events; names of rows before the first event on each."""
        found: list[str] = []
        messages: list[tuple[float, float, list[int]]] = []
        for event, (began, ended) in zip(events.tolist(), times.tolist(), strict=True):
            row, kind, _, _, a, b, c, _ = event
            if row in (SENDS, RECEIVES):
                messages.append((began, ended, event))
                continue
            if row == COUNTER:
                found.append(_COUNT % (NAMES[kind], rank, began, a / 100))
                continue
            for number in self._rows[rank].lanes if row == ALL else (self._number(rank, row, 0, found),):
                head = NAMES[kind], rank, number, began, max(ended - began, 0.0)
                if kind == NUMBER["wait"]:
                    found.append(_WAIT % (*head, WAITS[a], b / 1e3, c))
                elif kind == NUMBER["look"]:
                    found.append(_LOOK % (*head, a, b))
                else:
                    found.append(_WORK % (*head, a) if not b else _PASS % (*head, a, b - 1))
        for began, ended, event in sorted(messages):
            found.append(self._message(rank, began, ended, event, found))
        return found

    def _message(self, rank: int, began: float, ended: float, event: list[int], found: list[str]) -> str:
        row, kind, _, _, other, size, number, call = event
        slot = self._slot(rank, row, began, ended)
        place = self._number(rank, row, slot, found)
        source, to = (rank, other) if row == SENDS else (other, rank)
        arrow = ((source * len(self._rows) + to) * len(NAMES) + kind) * _ARROWS + number % _ARROWS
        form = _SENT if row == SENDS else _CAME
        return form % (NAMES[kind], rank, place, began, max(ended - began, 0.0), other, size, number, call / 1e3, arrow)

    def _slot(self, rank: int, row: int, began: float, ended: float) -> int:
        """The first of the rows for such messages that is free; so none of them overlap."""
        slots = self._slots.setdefault((rank, row), [])
        slot = next((slot for slot, last in enumerate(slots) if last <= began), len(slots))
        slots[slot:] = [max(ended, began), *slots[slot + 1 :]]
        return slot

    def _number(self, rank: int, row: int, slot: int, found: list[str]) -> int:
        """The number of a row, which is named when it is first asked for."""
        if row >= 0:
            return row
        number = FIRST_ROWS[row] + slot
        if (rank, number) not in self._named:
            self._named.add((rank, number))
            found += self._rows[rank].other(row, slot)
        return number
