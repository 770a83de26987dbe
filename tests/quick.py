"""What a quick run does without: slow tests, examples of Hypothesis, and most of the large products of parameters.

A test of such a product says with ``@pytest.mark.covering("name", "algorithm isa")`` which values have to be there:
each of `name`, and each pair of `algorithm` and `isa`. As many cases as that takes are drawn anew in every run, or at
most so many: ``covering("update", most=2)``. With ``--thorough``, or where a test is named by its id, all are run.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import settings

EXAMPLES = {"quick": 8, "thorough": 40}
"""Of a property that does not say how many."""


def examples(thorough: int) -> settings:
    """Settings of a property that needs so many examples in a thorough run."""
    share = settings.default.max_examples / EXAMPLES["thorough"]
    return settings(max_examples=max(round(share * thorough), 2))


def left_out(items: list[pytest.Item], seed: int) -> set[pytest.Item]:
    """Those of the collected tests that a quick run does without.

    Parameters
    ----------
    items : list of pytest.Item
    seed : int
        The same seed leaves out the same.

    Returns
    -------
    set of pytest.Item
    """
    found = {item for item in items if item.get_closest_marker("slow")}
    tests: dict[str, list[pytest.Function]] = {}
    for item in items:
        if isinstance(item, pytest.Function) and item.get_closest_marker("covering") and item not in found:
            tests.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for name, cases in tests.items():
        found |= set(cases) - _sample(cases, random.Random(f"{seed} {name}"))
    return found


def _sample(cases: list[pytest.Function], rng: random.Random) -> set[pytest.Item]:
    """Cases in random order, of which each has something that those before it have not."""
    mark = cases[0].get_closest_marker("covering")
    assert mark is not None
    covered: set[tuple] = set()
    kept: list[pytest.Item] = []
    for case in rng.sample(cases, len(cases)):
        values = case.callspec.params
        has = {(names, *(repr(values[name]) for name in names.split())) for names in mark.args}
        if not has <= covered:
            covered |= has
            kept.append(case)
    return set(kept[: mark.kwargs.get("most")])
