"""Processes that measure under their own way of waiting, for it is chosen when OpenMP's library is loaded; a neighbour.

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
VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


class Waiter:
    """A process that calls one of several works when it is told to.

    Parameters
    ----------
    make : callable
        ``make(threads)``: the works by name, in that process; each returns a number to verify.
    threads : int
    environment : mapping of str to str
        How its threads wait; other variables of that kind are not set.
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
        """Call `work` for so long; its mean seconds, and what the last call returned."""
        self._pipe.send((work, seconds))
        return self._pipe.recv()

    def quiet_turn(self, work: str, seconds: float) -> tuple[float, float]:
        """The quieter of up to two turns: its mean seconds a call, and the CPUs that other programs used."""
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
    """A process that computes all the time, on whichever CPU the system gives it."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            time.sleep(0.2)
            yield
        finally:
            process.kill()
