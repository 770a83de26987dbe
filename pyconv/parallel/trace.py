"""A timeline of what every worker did, for ``chrome://tracing`` or https://ui.perfetto.dev.

Workers write events to rings in shared memory; the parent empties them into the file while the run goes on, so
that the timeline of a worker that dies is there up to its death.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from . import _atomics as atomics
from . import store as s

if TYPE_CHECKING:
    from ..nn import Sequential
    from .store import Store

RING = 4096  # events of a lane that wait for the parent at most

#: What an event may be. Kernels of rules have other names; those are shown as "update".
KINDS = ("data", "forward", "backward", "push", "pull", "wait", "update")
_KERNELS = {"push_and_pull": "push", "add": "push", "attract": "push", "take": "pull", "pull": "pull", "push": "push"}


class Recorder:
    """The worker's side: notes events, if the run keeps a timeline."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.on = store.events is not None
        self._forward_ended = 0

    def add(self, lane: int, what: str, began: int, ended: int) -> None:
        """Note that the lane did `what` from `began` to `ended` (monotonic ns)."""
        if not self.on:
            return
        store = self._store
        assert store.events is not None and store.event_counts is not None
        kind = KINDS.index(what) if what in KINDS else KINDS.index(_KERNELS.get(what, "update"))
        count = int(store.event_counts[lane, 0])
        store.events[lane, count % RING] = (kind, began, ended, store.get(lane, s.TURN))
        store.event_counts[lane, 0] = count + 1

    def watch(self, lane: int, model: Sequential) -> Any:
        """The model's ``loss_and_gradient``; with a timeline, one that notes the forward and the backward pass."""
        if not self.on:
            return model.loss_and_gradient

        def watched(*args: Any, **kwargs: Any) -> Any:
            began = time.monotonic_ns()
            split: list[int] = []
            forward = model._forward

            def timed(*a: Any, **k: Any) -> Any:
                result = forward(*a, **k)
                split.append(time.monotonic_ns())
                return result

            model._forward = timed  # type: ignore[method-assign]
            try:
                result = model.loss_and_gradient(*args, **kwargs)
            finally:
                del model._forward
            ended = time.monotonic_ns()
            middle = split[-1] if split else began
            self.add(lane, "forward", began, middle)
            self.add(lane, "backward", middle, ended)
            return result

        return watched


class Timeline:
    """The parent's side: a file in Chrome's trace-event format, which is whole after every :meth:`drain`.

    Parameters
    ----------
    path : str or Path
        Written over.
    store : Store
    """

    def __init__(self, path: str | Path, store: Store) -> None:
        self._store = store
        self._drained = np.zeros(store.plan.lanes, np.int64)
        self._start = time.monotonic_ns()
        self._lost = 0
        self._file: TextIO = Path(path).open("w")  # noqa: SIM115 - it stays open for the run
        self._file.write("[\n")
        names = [_meta("process_name", 0, "pyconv")]
        names += [_meta("thread_name", lane, f"worker {lane}") for lane in range(store.plan.lanes)]
        self._end = 0
        self._write(names, first=True)

    def _write(self, events: list[dict[str, Any]], first: bool = False) -> None:
        """Append, and close the list so that the file can be read at any time."""
        if not events:
            return
        if not first:
            self._file.seek(self._end)
            self._file.write(",\n")
        self._file.write(",\n".join(json.dumps(event, separators=(",", ":")) for event in events))
        self._end = self._file.tell()
        self._file.write("\n]\n")
        self._file.flush()

    def drain(self) -> None:
        """Take over what the workers have noted."""
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
        """Take over the rest and close the file."""
        if not self._file.closed:
            self.drain()
            if self._lost:
                self.instant(0, f"{self._lost} events were lost: the parent was too slow to take them over")
            self._file.close()


def _meta(name: str, lane: int, text: str) -> dict[str, Any]:
    return {"name": name, "ph": "M", "pid": 0, "tid": lane, "args": {"name": text}}
