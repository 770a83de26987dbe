"""A timeline of what every worker did, for ``chrome://tracing`` or https://ui.perfetto.dev.

Workers write events to ring buffers in shared memory. The parent moves them to the file while the run goes on, so that
the timeline of a worker that dies is there up to its death.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _atomics as atomics
from . import communicator as c
from .recorder import KINDS, Recorder
from .trace_file import FIRST, TraceFile, meta

if TYPE_CHECKING:
    from .store import Store

RING = 4096  # most events of a lane that wait for the parent


class SharedRecorder(Recorder):
    """The worker's side: notes events in shared memory."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.on = store.events is not None

    def add(self, lane: int, what: str, began: int, ended: int) -> None:
        if not self.on:
            return
        store = self._store
        assert store.events is not None and store.event_counts is not None
        count = int(store.event_counts[lane, 0])
        store.events[lane, count % RING] = (KINDS.index(what), began, ended, store.get(lane, c.TURN))
        store.event_counts[lane, 0] = count + 1


class Timeline:
    """The parent's side: a file in Chrome's trace-event format, which is valid after every :meth:`drain`.

    A file that cannot be written raises an error when this is made. If it can no longer be written later, the timeline
    ends with a warning, and the run goes on.

    Parameters
    ----------
    path : str or Path
        An older timeline there is overwritten, once there is something to write.
    store : Store

    Raises
    ------
    InputError
        If the file cannot be made, or is there and is no timeline of pyconv's.
    """

    def __init__(self, path: str | Path, store: Store) -> None:
        self._store = store
        self._drained = np.zeros(store.plan.lanes, np.int64)
        self._start = time.monotonic_ns()
        self._lost = 0
        self._file = TraceFile(path)  # the supervisor's thread marks deaths, and the main thread drains

    def _write(self, events: list[dict[str, Any]]) -> None:
        """Append events; the names of the rows before the first ones."""
        with self._file.lock:
            if not self._file.begun:
                lanes = range(self._store.plan.lanes)
                self._file.write(FIRST[0], *(meta("thread_name", 0, lane, name=f"worker {lane}") for lane in lanes))
            if events:
                self._file.write(*(json.dumps(event, separators=(",", ":")) for event in events))

    def drain(self) -> None:
        """Move the events that the workers have noted to the file."""
        store = self._store
        assert store.events is not None and store.event_counts is not None
        events = []
        for lane in range(store.plan.lanes):
            count = int(atomics.load(store.event_counts.reshape(-1), lane * store.event_counts.shape[1]))
            first = max(int(self._drained[lane]), count - RING + 1)
            self._lost += first - int(self._drained[lane])
            for number in range(first, count):
                kind, began, ended, turn = store.events[lane, number % RING].tolist()
                events.append(
                    {
                        "name": KINDS[kind],
                        "ph": "X",
                        "pid": 0,
                        "tid": lane,
                        "ts": (began - self._start) / 1e3,
                        "dur": (ended - began) / 1e3,
                        "args": {"mini-batch": turn},
                    }
                )
            self._drained[lane] = count
        self._write(events)

    def instant(self, lane: int, text: str) -> None:
        """Mark a moment of a worker, such as its death."""
        now = (time.monotonic_ns() - self._start) / 1e3
        self._write([{"name": text, "ph": "i", "s": "t", "pid": 0, "tid": lane, "ts": now}])

    def close(self) -> None:
        """Move the rest to the file and close it; if no epoch was begun, leave the file unchanged."""
        with self._file.lock:
            if self._file.begun and not self._file.closed:
                self.drain()
                if self._lost:
                    self.instant(0, f"{self._lost} events were lost: the parent was too slow to take them over")
            self._file.close()
