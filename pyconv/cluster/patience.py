"""Patience: how long a rank looks for a message before it sleeps.

A rank that looks without a pause notices a message after some microseconds; one that sleeps in between, after its sleep
is over. But a rank that looks keeps a CPU busy. So it looks for as long as OpenMP's threads do, where every rank on its
host has CPUs of its own, and not at all where ranks or other programs share them: then it would hold up the very one
that it waits for. The rule is that of :mod:`pyconv.waiting`, with an account of the waiting thread's own.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from .. import waiting

LOOK_S = 5e-3  # of looking without sleeping: as long as OpenMP's threads spin by default
BETWEEN_S = 0.1  # between two looks at the kernel's account


class Patience:
    """Decides how long each wait begins with looking.

    Attributes
    ----------
    allowed : bool
        Whether the ranks of this host have CPUs of their own; set by whoever knows.
    """

    def __init__(self) -> None:
        self.allowed = False
        self._rule = waiting.rule()
        self._seen: tuple[int, int] | None = None
        self._thread, self._next = 0, 0.0

    @property
    def looks_s(self) -> float:
        """Seconds to look without sleeping, in a wait that begins now."""
        if not self.allowed or waiting.passive():
            return 0.0
        now = time.monotonic()
        if now >= self._next:
            self._next = now + BETWEEN_S
            self._look()
        return 0.0 if self._rule is not None and self._rule.brief else LOOK_S

    @contextlib.contextmanager
    def forbidden(self) -> Iterator[None]:
        """Within it, waits sleep from the start."""
        before, self.allowed = self.allowed, False
        try:
            yield
        finally:
            self.allowed = before

    def _look(self) -> None:
        """Tell the rule for which share of the time this thread has waited for a CPU."""
        thread = threading.get_ident()
        before, self._seen = self._seen if thread == self._thread else None, _account()
        self._thread = thread
        if self._rule is None or before is None or self._seen is None:
            return
        ran, waited = ((now - then) / 1e9 for now, then in zip(self._seen, before))
        # As _waiting.pyx has it: only time in which a CPU was wanted counts, and at least an interval of it.
        self._rule.look(min(ran + waited, 3 * BETWEEN_S), waited / max(ran + waited, BETWEEN_S))


def _account() -> tuple[int, int] | None:
    """Nanoseconds that the calling thread ran, and waited for a CPU; None if the kernel keeps no account."""
    try:
        ran, waited, times = Path("/proc/thread-self/schedstat").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return None
    return (int(ran), int(waited)) if int(times) else None
