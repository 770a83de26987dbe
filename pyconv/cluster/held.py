"""Signals that are held back while a rank is within a round: an exception there would leave the others waiting."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from .rounds import Rounds

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class HeldSignals:
    """From :meth:`hold` to :meth:`release`, a signal that comes within a round is handled when that is over.

    Python handles signals in the main thread: in others this does nothing.

    Parameters
    ----------
    rounds : Rounds
        Its attribute `relieved` is set.
    """

    def __init__(self, rounds: Rounds) -> None:
        self._rounds = rounds
        self._usual: dict[int, Any] = {}
        self._pending: int | None = None
        rounds.relieved = self._late

    def hold(self) -> None:
        """Begin to hold signals back, but for those that the process ignores or that end it."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if callable(usual := signal.getsignal(number)):
                    self._usual[number] = usual
                    signal.signal(number, self._note)

    def release(self) -> None:
        """Handle signals as before."""
        for number, usual in self._usual.items():
            signal.signal(number, usual)
        self._usual.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._rounds.busy:
            self._pending = number
        else:
            self._usual[number](number, frame)

    def _late(self) -> None:
        number, self._pending = self._pending, None
        if number in self._usual:
            self._usual[number](number, None)
