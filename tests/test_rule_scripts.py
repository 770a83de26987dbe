"""The scripts of the update rules, read without workers: which lanes meet, when, and which are locked."""

from __future__ import annotations

import pytest

from pyconv.parallel.lane import Action, Everyone, Gradient, Lane, NotAhead, Sweep
from pyconv.parallel.rules import EASGD, RULES, SSP, Async, Hogwild, Local, Rule, Sync

EVERY = [*(rule() for rule in RULES.values()), Async(shared_state=True), SSP(shared_state=True),
         Hogwild(shared_state=True), Local(sync_every=0), EASGD(sync_every=3)]  # fmt: skip


def script(rule: Rule, step: int = 0, turn: int = 0) -> list[Action]:
    """The actions of one mini-batch."""
    lane = Lane(0, 4, 12, lambda: turn)
    lane.step = step
    return list(rule.step(lane))


def kernels(actions: list[Action]) -> list[str]:
    return [action.kernel.__name__ for action in actions if isinstance(action, Sweep)]


@pytest.mark.parametrize("rule", EVERY, ids=Rule.describe)
def test_nobody_changes_the_centre_beside_another(rule: Rule) -> None:
    for step in range(4):
        for action in script(rule, step, turn=step):
            if isinstance(action, Sweep) and action.declared.changes_centre:
                assert action.locked or action.share or action.declared.racy, action


def test_sync_meets_before_and_after_the_gradients() -> None:
    kinds = [type(action) for action in script(Sync())]
    assert kinds == [Everyone, Gradient, Everyone, Sweep]


def test_ssp_waits_before_it_pulls() -> None:
    for staleness in (0, 5):
        first, *others = script(SSP(staleness=staleness))
        assert first == NotAhead(staleness)
        assert kernels(others) == ["pull", "push"]


@pytest.mark.parametrize("rule", [Async, SSP, Hogwild])
def test_a_push_goes_by_the_state_that_its_rule_says(rule: type[Rule]) -> None:
    own, shared = rule(), rule(shared_state=True)  # type: ignore[call-arg]
    assert (own.replica_state, shared.replica_state) == (True, False)
    if rule is not Hogwild:  # its kernel decides
        assert kernels(script(shared))[-1] == kernels(script(own))[-1].replace("push", "push_to_shared")


def test_a_stale_push_is_slower_only_where_that_is_asked_for() -> None:
    for staleness in (0, 1, 4):
        assert Async().learning_rate(0.5, staleness) == SSP().learning_rate(0.5, staleness) == 0.5
        assert Async(staleness_aware=True).learning_rate(0.5, staleness) == 0.5 / max(staleness, 1)


def test_local_averages_before_every_nth_step_but_the_first() -> None:
    averaged = [step for step in range(9) if "average" in kernels(script(Local(sync_every=3), step))]
    assert averaged == [3, 6]
    assert not any("average" in kernels(script(Local(sync_every=0), step)) for step in range(9))


def test_easgd_meets_after_so_many_mini_batches_of_its_own() -> None:
    """The numbers of the steps do not matter."""
    met = [turn for turn in range(9) if "attract" in kernels(script(EASGD(sync_every=3), step=1, turn=turn))]
    assert met == [0, 3, 6]
