"""Notes Ctrl-C, SIGTERM and SIGHUP during a run, which stops at the next step's boundary."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from ..errors import Interrupted

PATIENCE = 3


class StopSignals:
    """Within it, SIGINT, SIGTERM and SIGHUP raise nothing; the first is noted in :attr:`received`.

    The run looks at it between steps, so that no signal interrupts a step or a file. A user who cannot wait may press
    Ctrl-C :data:`PATIENCE` times: the last one raises :class:`~pyconv.errors.Interrupted` at once; files are whole even
    then. Signals that the process ignores (as under ``nohup``) stay ignored. Python allows handlers only in the main
    thread: in other threads this does nothing.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self.received: str | None = None
        """Name of the first signal that arrived, or None."""
        self._count = 0
        self._before: dict[signal.Signals, Any] = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        self.received = self.received or signal.Signals(number).name
        if self._count >= PATIENCE:
            raise Interrupted(f"stopped at once, by {PATIENCE} signals; the last checkpoint written before is whole")

    def hear(self, number: int) -> None:
        """Note that another rank of a cluster has received that signal."""
        self.received = self.received or signal.Signals(number).name

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in self.SIGNALS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
