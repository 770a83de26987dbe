"""A timeline of what every worker did, for ``chrome://tracing`` or https://ui.perfetto.dev.

Workers write events to ring buffers in shared memory. The parent moves them to the file while the run goes on, so that
the timeline of a worker that dies is there up to its death.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import stat
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import runlog
from ..errors import InputError
from . import _atomics as atomics
from . import communicator as c

if TYPE_CHECKING:
    from ..nn import Sequential
    from .store import Store

_log = runlog.logger("pyconv.parallel")

RING = 4096  # most events of a lane that wait for the parent

#: The kinds of events; a kernel's rule declares which of the last three it is.
KINDS = ("data", "forward", "backward", "wait", "push", "pull", "update")


class Recorder:
    """The worker's side: notes events if the run keeps a timeline."""

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
        count = int(store.event_counts[lane, 0])
        store.events[lane, count % RING] = (KINDS.index(what), began, ended, store.get(lane, c.TURN))
        store.event_counts[lane, 0] = count + 1

    def watch(self, lane: int, model: Sequential) -> Any:
        """The model's ``loss_and_gradient``; with a timeline, it also notes the forward and the backward pass."""
        if not self.on:
            return model.loss_and_gradient

        def watched(*args: Any, **kwargs: Any) -> Any:
            began = time.monotonic_ns()
            split: list[int] = []
            model.between_passes = lambda: split.append(time.monotonic_ns())
            try:
                result = model.loss_and_gradient(*args, **kwargs)
            finally:
                model.between_passes = None
            ended = time.monotonic_ns()
            middle = split[-1] if split else began
            self.add(lane, "forward", began, middle)
            self.add(lane, "backward", middle, ended)
            return result

        return watched


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
        self._path = Path(path)
        self._file: io.FileIO | None
        self._file, self._is_new = _opened(self._path)
        self._begun = False
        self._end = 0
        self._writes = threading.RLock()  # the supervisor's thread marks deaths, and the main thread drains

    def _begin(self) -> None:
        self._begun = True
        lanes = range(self._store.plan.lanes)
        self._append([_PROCESS, *(_meta("thread_name", lane, f"worker {lane}") for lane in lanes)])

    def _write(self, events: list[dict[str, Any]]) -> None:
        """Append events, unless the file has failed before."""
        with self._writes:
            if self._file is None:
                return
            try:
                if not self._begun:
                    self._begin()
                if events:
                    self._append(events)
            except OSError as error:
                self._give_up(error)

    def _append(self, events: list[dict[str, Any]]) -> None:
        """Append events, and close the list, so that the file can be read at any time."""
        text = ",\n".join(json.dumps(event, separators=(",", ":")) for event in events)
        data = ((",\n" if self._end else "[\n") + text).encode()
        self._put(data + _TAIL)
        self._end += len(data)

    def _put(self, data: bytes) -> None:
        """Write at the end of the list, and end the file there."""
        assert self._file is not None
        self._file.seek(self._end)
        while data:
            data = data[self._file.write(data) :]
        self._file.truncate()

    def _give_up(self, error: OSError) -> None:
        """Restore the file's last valid state, and close it."""
        _log.warning("%s: the timeline ends here: %s; the run goes on without it", self._path, error.strerror or error)
        with contextlib.suppress(OSError):
            self._put(_TAIL if self._end else b"[" + _TAIL)
        self._shut()

    def _shut(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
        self._file = None

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
        with self._writes:
            if self._file is not None and self._begun:
                self.drain()
                if self._lost:
                    self.instant(0, f"{self._lost} events were lost: the parent was too slow to take them over")
            self._shut()
            if self._is_new and not self._begun:
                with contextlib.suppress(OSError):
                    self._path.unlink()


def _meta(name: str, lane: int, text: str) -> dict[str, Any]:
    return {"name": name, "ph": "M", "pid": 0, "tid": lane, "args": {"name": text}}


_PROCESS = _meta("process_name", 0, "pyconv")
_HEAD = b"[\n" + json.dumps(_PROCESS, separators=(",", ":")).encode()
_TAIL = b"\n]\n"


def _opened(path: Path) -> tuple[io.FileIO, bool]:
    """An open file for a timeline, its content untouched so far, and whether it was created."""
    flags = os.O_RDWR | os.O_CLOEXEC
    try:
        try:
            descriptor, new = os.open(path, flags | os.O_NONBLOCK), False
        except FileNotFoundError:
            descriptor, new = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666), True
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or error
        raise InputError(f"{path}: cannot be written as a trace: {why}; give another file") from None
    file = io.FileIO(descriptor, "r+")
    is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
    if is_file and (new or not os.fstat(descriptor).st_size or file.read(len(_HEAD)) == _HEAD):
        return file, new
    file.close()
    why = "holds something that is no trace of pyconv's and would be written over" if is_file else "is no ordinary file"
    raise InputError(f"{path}: {why}; give another file for the trace")
