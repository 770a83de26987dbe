"""The short form of ``make chaos``: a run of each update rule with failures drawn anew each time, and whole runs."""

from __future__ import annotations

import os

import numpy as np
import pytest
from chaos.__main__ import play
from chaos.plan import draw

from pyconv.parallel import RULES

pytestmark = [pytest.mark.timeout(180), pytest.mark.slow]

ROUND = 4 * len(RULES)  # each rule three times with failing workers, once also with a failing parent
BASE = ROUND * int(os.environ.get("PYCONV_TEST_SEED", np.random.SeedSequence().entropy % 2**20))


@pytest.mark.parametrize("rule", range(len(RULES)), ids=list(RULES))
def test_a_run_of_each_rule_survives_what_its_seed_says(rule):
    plan = draw(BASE + rule)
    print(plan)
    play(plan)


def test_a_run_is_resumed_to_the_same_bits_after_its_parent_suffered():
    plan = draw(BASE + 3 * len(RULES))  # sync
    print(plan)
    play(plan)


def test_a_run_without_lockstep_loses_no_image_when_its_parent_suffers():
    plan = draw(BASE + 3 * len(RULES) + 1 + BASE // ROUND % 3)
    print(plan)
    play(plan)
