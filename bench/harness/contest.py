"""Whether `auto` chooses well: a contest of all algorithms for one layer and pass, and the share of good choices."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

import pyconv
from pyconv.errors import InputError

from .layers import Layer
from .verify import relative_error

ALGORITHMS = [name for name in pyconv.algorithms("serial") if name not in ("naive", "winograd")]

#: An algorithm that is so many times slower than the fastest in a single call is not measured.
HOPELESS = 4

#: A good choice takes at most so many times the seconds of the best algorithm.
GOOD = 1.1

Run = Callable[[], Any]


class Contest:
    """`auto` beside the algorithms in question, layer by layer.

    Parameters
    ----------
    experiment : str
        The name in the results.
    ours : callable
        ``ours(layer, operation, arrays, backend=…, algorithm=…)``: a pass as a function without arguments.
    """

    def __init__(self, experiment: str, ours: Callable[..., Run]) -> None:
        self._experiment, self._ours = experiment, ours
        self.ratios: dict[str, float] = {}
        """By layer and pass: seconds of `auto` over those of the best algorithm."""

    def run(self, one: Layer, operation: str, arrays: tuple, measure: Any) -> None:
        """Time all that are in question side by side; skip the test where that is one algorithm."""
        entrants = self._entrants(one, operation, arrays)
        if len(entrants) < 3:
            pytest.skip("one algorithm only, or one in question")
        flops = one.geometry.flops
        times = measure(entrants, experiment=self._experiment, case=one.name, operation=operation, flops=flops)
        best = min(taken.median for column, taken in times.items() if column != "auto")
        self.ratios[f"{one.name}, {operation}"] = times["auto"].median / best

    def share_of_good_choices(self, measure: Any) -> float:
        """The share of the choices so far that are good; it is recorded, with those that are not."""
        if not self.ratios:
            pytest.skip("no layer was measured in this run")
        share = measure.once(lambda: sum(ratio <= GOOD for ratio in self.ratios.values()) / len(self.ratios))
        what = {
            "experiment": self._experiment,
            "case": f"{len(self.ratios)} choices",
            "operation": "share within 10 % of the best",
        }
        measure.add(**what, column="auto", ratio=share, beyond=self.beyond)
        return float(share)

    @property
    def beyond(self) -> dict[str, float]:
        """The choices that are not good."""
        return {name: ratio for name, ratio in self.ratios.items() if ratio > GOOD}

    def _entrants(self, one: Layer, operation: str, arrays: tuple) -> dict[str, Run]:
        """`auto`, and every algorithm that can do this layer; each result is verified against `auto`'s."""
        found = {"auto": self._ours(one, operation, arrays, backend="serial")}
        expected = found["auto"]()
        for algorithm in ALGORITHMS:
            run = self._ours(one, operation, arrays, backend="serial", algorithm=algorithm)
            try:
                relative_error(run(), expected)
            except InputError:  # the algorithm does not do this layer
                continue
            found[algorithm] = run
        return _in_question(found)


def _in_question(found: dict[str, Run]) -> dict[str, Run]:
    """`found` without the algorithms that are far too slow: they would only leave cold caches for the next one."""
    seconds = {}
    for name, run in found.items():
        start = time.perf_counter()
        run()
        seconds[name] = time.perf_counter() - start
    limit = HOPELESS * min(seconds.values())
    return {name: run for name, run in found.items() if name == "auto" or seconds[name] < limit}
