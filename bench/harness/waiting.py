"""Waiter: a process that measures with threads that wait in one way.

Each way needs a process, because OpenMP's library reads how threads shall wait when it is loaded.

A neighbour is a process that keeps one CPU busy, as other users of a machine do.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from .turns import QUIET, others_s

#: Variables that decide how threads wait.
VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")


class Waiter:
    """A process that runs one of several tasks when it is told to.

    Parameters
    ----------
    make : callable
        ``make(threads)``: makes the tasks in that process, by name; each returns a number for verification.
    threads : int
    environment : mapping of str to str
        The variables that decide how its threads wait; all others of :data:`VARIABLES` are removed.
    """

    def __init__(self, make: Callable[[int], dict[str, Any]], threads: int, environment: Mapping[str, str]) -> None:
        context = multiprocessing.get_context("spawn")
        before = {name: os.environ.pop(name, None) for name in VARIABLES}
        os.environ.update(environment)
        try:
            self._pipe, there = context.Pipe()
            self._process = context.Process(target=_serve, args=(make, threads, there))
            self._process.start()
            there.close()
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value

    def turn(self, work: str, seconds: float) -> tuple[float, float]:
        """Call `work` for so many seconds; returns the mean seconds of a call, and the last result."""
        self._pipe.send((work, seconds))
        return self._pipe.recv()

    def quiet_turn(self, work: str, seconds: float) -> tuple[float, float]:
        """Take up to two turns; returns the quieter one's mean seconds a call, and the CPUs that others used."""
        turns: list[tuple[float, float]] = []
        while len(turns) < 2 and (not turns or turns[-1][0] >= QUIET):
            before, start = others_s(), time.perf_counter()
            taken = self.turn(work, seconds)[0]
            turns.append(((others_s() - before) / (time.perf_counter() - start), taken))
        others, taken = min(turns)
        return taken, others

    def close(self) -> None:
        """End the process."""
        self._pipe.send(None)
        self._process.join()


def _serve(make: Callable[[int], dict[str, Any]], threads: int, pipe: Any) -> None:
    works = make(threads)
    with contextlib.ExitStack() as stack:
        for work in works.values():
            stack.callback(getattr(work, "close", lambda: None))
        while (order := pipe.recv()) is not None:
            name, seconds = order
            calls, result, start = 0, np.nan, time.perf_counter()
            while calls == 0 or time.perf_counter() - start < seconds:
                result = works[name]()
                calls += 1
            pipe.send(((time.perf_counter() - start) / calls, float(result)))


@contextlib.contextmanager
def neighbour() -> Iterator[None]:
    """Within it, a process computes all the time, on any CPU that the system gives it."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            time.sleep(0.2)
            yield
        finally:
            process.kill()
