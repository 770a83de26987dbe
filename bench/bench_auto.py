"""Whether `auto` chooses well: for each layer, the time of the algorithm that it chooses beside that of every other."""

from __future__ import annotations

import numpy as np
import pytest
from bench_peers import ours
from harness.contest import Contest
from harness.layers import ALL, PASSES, Layer

CONTEST = Contest("auto", ours)


@pytest.mark.parametrize("operation", PASSES)
@pytest.mark.parametrize("one", [one for _, one in ALL], ids=[one.id for _, one in ALL])
def test_auto(one: Layer, operation: str, measure, rng: np.random.Generator, quick: bool) -> None:
    """Time `auto` beside the layer's algorithms; a layer with only one algorithm is skipped."""
    one = one.cut(8 if quick else 16)
    CONTEST.run(one, operation, one.arrays(rng), measure)


def test_nine_in_ten(measure) -> None:
    """At least nine choices in ten, over all layers above, are within a tenth of the best."""
    share = CONTEST.share_of_good_choices(measure)
    assert share >= 0.9, f"{share:.0%}; beyond: {CONTEST.beyond}"
