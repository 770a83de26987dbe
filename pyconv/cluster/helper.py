"""Helper: a thread that looks after messages while the computing thread is in a long layer; it sleeps in between."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable

from ..arithmetic import quiet

#: Seconds between two times that it wakes, and looks each time. It takes the CPU from whoever computes, and the caches
#: with it; a look moves some 60 KB. On two nodes with 1 Gbit/s a step of `fer` took 130 to 136 ms with one look every
#: 2 ms, and takes 129 with these.
SLEEP_S, LOOKS = 8e-3, 5
GONE_S = 1.0  # between two looks whether the object that is helped is still there


class Helper:
    """Calls a function now and then, between :meth:`begin` and :meth:`end`.

    Parameters
    ----------
    look : callable
        A bound method, which returns whether all is done. The thread calls it, and never while ``with helper.turn`` is
        entered elsewhere; the thread ends when the method's object is gone.

    Attributes
    ----------
    turn : RLock
        Whoever calls what `look` calls enters it.
    """

    def __init__(self, look: Callable[[], bool]) -> None:
        self._look = weakref.WeakMethod(look)
        self.turn = threading.RLock()
        self._begun = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def begin(self) -> None:
        """From here on, look."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="messages", daemon=True)
            self._thread.start()
        self._begun.set()

    def end(self) -> None:
        """Look no more; when this returns, the thread does not.

        Raises
        ------
        Exception
            That a look has raised.
        """
        self._begun.clear()
        with self.turn:
            error, self._error = self._error, None
        if error is not None:
            raise error

    @quiet
    def _run(self) -> None:
        while True:
            if not self._begun.wait(GONE_S):
                if self._look() is None:
                    return
                continue
            with self.turn:
                look = self._look()
                if look is None:
                    return
                try:
                    for _ in range(LOOKS):
                        if not self._begun.is_set() or look():
                            break
                except BaseException as error:
                    self._error = error
                    self._begun.clear()
                del look
            time.sleep(SLEEP_S)
