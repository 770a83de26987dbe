"""TapeRecorder: notes the passes of a rank's lanes."""

from __future__ import annotations

from collections.abc import Callable

from ...parallel.recorder import Recorder
from .tape import NUMBER, Tape


class TapeRecorder(Recorder):
    """Notes what a rank's lanes do.

    Parameters
    ----------
    tape : Tape or None
        None: it notes nothing.
    turn : callable
        ``turn(lane)``: mini-batches that the lane has done.
    """

    def __init__(self, tape: Tape | None, turn: Callable[[int], int]) -> None:
        self._tape, self._turn = tape, turn
        self.on = tape is not None

    def add(self, lane: int, what: str, began: int, ended: int) -> None:
        if self._tape is not None:
            self._tape.add(lane, NUMBER[what], began, ended, self._turn(lane))
