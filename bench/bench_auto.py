"""Whether `auto` chooses well: for each layer, the time of the algorithm that it chooses beside that of every other."""

from __future__ import annotations

import time

import numpy as np
import pytest
from bench_peers import ours
from harness.layers import ALL, PASSES, Layer
from harness.verify import relative_error

import pyconv
from pyconv.errors import InputError

EXPERIMENT = "auto"
ALGORITHMS = [name for name in pyconv.algorithms("serial") if name not in ("naive", "winograd")]

#: An algorithm that is so many times slower than the fastest in a single call is not measured.
HOPELESS = 4

#: By layer and pass: seconds of `auto` over those of the best algorithm.
FOUND: dict[str, float] = {}


def candidates(one: Layer, operation: str, arrays: tuple) -> dict:
    """`auto`, and every algorithm that can do this layer; each result is verified against `auto`'s."""
    found = {"auto": ours(one, operation, arrays, backend="serial")}
    expected = found["auto"]()
    for algorithm in ALGORITHMS:
        run = ours(one, operation, arrays, backend="serial", algorithm=algorithm)
        try:
            relative_error(run(), expected)
        except InputError:  # the algorithm does not do this layer
            continue
        found[algorithm] = run
    return in_question(found)


def in_question(found: dict) -> dict:
    """`found` without the algorithms that are far too slow: they would only leave cold caches for the next one."""
    seconds = {}
    for name, run in found.items():
        start = time.perf_counter()
        run()
        seconds[name] = time.perf_counter() - start
    limit = HOPELESS * min(seconds.values())
    return {name: run for name, run in found.items() if name == "auto" or seconds[name] < limit}


@pytest.mark.parametrize("operation", PASSES)
@pytest.mark.parametrize("one", [one for _, one in ALL], ids=[one.id for _, one in ALL])
def test_auto(one: Layer, operation: str, measure, rng: np.random.Generator, quick: bool) -> None:
    """Time `auto` beside the layer's algorithms; a layer with only one algorithm is skipped."""
    one = one.cut(8 if quick else 16)
    contest = candidates(one, operation, one.arrays(rng))
    if len(contest) < 3:
        pytest.skip("one algorithm only, or one in question")
    times = measure(contest, experiment=EXPERIMENT, case=one.name, operation=operation, flops=one.geometry.flops)
    best = min(taken.median for column, taken in times.items() if column != "auto")
    FOUND[f"{one.name}, {operation}"] = times["auto"].median / best


def test_nine_in_ten(measure) -> None:
    """At least nine choices in ten, over all layers above, are within a tenth of the best."""
    if not FOUND:
        pytest.skip("no layer was measured in this run")
    within = measure.once(lambda: sum(ratio <= 1.1 for ratio in FOUND.values()) / len(FOUND))
    what = {"experiment": EXPERIMENT, "case": f"{len(FOUND)} choices", "operation": "share within 10 % of the best"}
    measure.add(**what, column="auto", ratio=within, beyond={k: v for k, v in FOUND.items() if v > 1.1})
    assert within >= 0.9, f"{within:.0%}; beyond: {[(k, round(v, 2)) for k, v in FOUND.items() if v > 1.1]}"
