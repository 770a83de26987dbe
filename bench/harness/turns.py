"""Times calls that take seconds and use every CPU; rounds that other programs disturb are repeated."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import psutil

from .timing import Times

#: CPUs that other programs may use, on average over a round, without disturbing it.
QUIET = 0.15


def in_turns(
    candidates: Mapping[str, Callable[[], object]],
    rounds: int,
    patience: float = 2,
    verify: Callable[[dict[str, object]], None] | None = None,
) -> tuple[dict, int]:
    """Let the candidates take turns, one call each, until there are `rounds` quiet rounds.

    Parameters
    ----------
    candidates : mapping of str to callable
        Each does the whole work once; every one is called once before, to warm up.
    rounds : int
        How many quiet rounds are wanted.
    patience : float
        At most so many times `rounds` are run; then the quietest ones count.
    verify : callable, optional
        Gets the result of each candidate's warm-up; it raises an error if one is wrong, and then nothing is timed.

    Returns
    -------
    times : dict of str to Times
        Seconds of a call by candidate, over the rounds that count.
    disturbed : int
        How many of these were not quiet.
    """
    warmed = {name: call() for name, call in candidates.items()}
    if verify is not None:
        verify(warmed)
    played: list[tuple[float, dict[str, float]]] = []
    while sum(others < QUIET for others, _ in played) < rounds and len(played) < patience * rounds:
        busy, began, seconds = others_s(), time.perf_counter(), {}
        for name, call in candidates.items():
            start = time.perf_counter()
            call()
            seconds[name] = time.perf_counter() - start
        played.append(((others_s() - busy) / (time.perf_counter() - began), seconds))
    best = sorted(played, key=lambda each: each[0])[:rounds]
    times = {name: Times(tuple(seconds[name] for _, seconds in best)) for name in candidates}
    return times, sum(others >= QUIET for others, _ in best)


def others_s() -> float:
    """CPU seconds that processes other than this one and its children have used."""
    spent = psutil.cpu_times()
    total = spent.user + spent.nice + spent.system + spent.irq + spent.softirq + spent.steal
    this = psutil.Process()
    for process in (this, *this.children(recursive=True)):
        try:
            own = process.cpu_times()
            total -= own.user + own.system
        except psutil.Error:
            continue
    return total
