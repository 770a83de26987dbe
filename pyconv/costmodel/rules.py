"""The cost of each update rule's communication, computed from the rule's own script and the cost model's constants.

A worker's step costs computation, and what its rule needs besides. With P parameters of n bytes, W workers, u = t_u P
seconds for one whole update, and c = t_b n P seconds to bring all parameters from another process's cache or from
memory, an action of the script costs

action                                         seconds
everyone()                                     m = t_s ⌈log2 W⌉: so many rounds of messages let W workers know of each
                                               other
gradient("replica")                            k
gradient("centre")                             k + c: others have changed what it reads
sweep(kernel, share=True)                      c to read all workers' vectors; the update of its share, (u + s) / W
sweep(kernel, locked=True), centre changed     u + s + c, alone; c more where it pulls too
sweep(kernel) with the worker's own gradient   u + s
any other sweep(kernel)                        c: it brings parameters over

A kernel in which the optimizer does no step has no u. A kernel that changes nothing in place, or is not protected, has
no s. To lose nothing when a worker dies has a cost: k = c to search a gradient for numbers that are not finite, and
s = 2 c to save the old values of what an update writes, parameters and momentum. A meeting, at which all wait for the
slowest, is the first everyone() after a gradient. For pyconv's own rules the costs are

rule     a step of each worker                                                        seconds
sync     meet; sum its W-th part of all gradients in order, update that; meet; read   2 m + 2 c + (u + s) / W + k
async    push: update the shared parameters, alone; pull: read them                   u + s + 2 c + k
ssp      the same, and it may wait                                                     the same
hogwild  update the shared parameters in place, nobody waits                          u + c + k
local    update its own; every H steps meet and average as in sync                   u + s + k + (2 m + 2 c) / H
easgd    update its own; every H steps pull towards the centre and back, alone        u + s + k + 3 c / H

One worker alone has its update u and nothing else.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..arithmetic import total
from ..parallel.lane import Action, Everyone, Gradient, Lane, Sweep
from ..parallel.rules import Rule, rule_for
from ..values import integer
from .checks import at_least_one, counts, not_negative, plain

#: How many steps of a script are read. A rule without the option sync_every may do something every 2, 3, 4, 6 … steps.
READ = 24


@dataclass(frozen=True)
class Work:
    """The quantities that a rule's cost depends on.

    Attributes
    ----------
    workers : int
        W.
    message_s : float
        m: seconds until all workers know that all have arrived.
    copy_s : float
        c: seconds to bring all parameters over.
    update_s : float
        u: seconds of one whole update.
    """

    workers: int
    message_s: float
    copy_s: float
    update_s: float

    @property
    def check_s(self) -> float:
        """k: seconds to search a gradient for numbers that are not finite."""
        return self.copy_s

    @property
    def save_s(self) -> float:
        """s: seconds to save the old values of parameters and momentum."""
        return 2 * self.copy_s


@dataclass(frozen=True)
class Cost:
    """The cost of a worker's step, without the computation of its gradient.

    Attributes
    ----------
    busy_s : float
        Seconds in which the worker works or waits for messages.
    exclusive_s : float
        The part of these seconds in which no other worker may do the same.
    meets : float
        Meetings in a step: at each, all wait for the slowest.
    """

    busy_s: float
    exclusive_s: float = 0.0
    meets: float = 0.0


def actions(rule: Rule, workers: int, steps: int) -> Iterator[Action]:
    """A worker's actions under a rule, in an epoch in which it does `steps` steps, one after the other."""
    turn = 0
    lane = Lane(0, workers, steps, lambda: turn)
    for lane.step in range(steps):
        before = turn
        for action in rule.step(lane):
            yield action
            if isinstance(action, Sweep) and action.declared.gradient and not rule.lockstep:
                turn = before + 1  # the mini-batch is done when its gradient has been used
        turn = before + 1
    if rule.lockstep:
        lane.step = steps
        yield from rule.finish(lane)


def of_script(rule: Rule, work: Work, steps: int = READ) -> Cost:
    """The mean cost of a step, over the actions of an epoch of `steps` steps."""
    busy, exclusive, meetings = [], [], 0
    computed = False
    for action in actions(rule, work.workers, steps):
        if isinstance(action, Everyone):
            busy.append(work.message_s)
            meetings, computed = meetings + computed, False
        elif isinstance(action, Gradient):
            busy.append(work.check_s + (work.copy_s if action.at == "centre" else 0.0))
            computed = True
        elif isinstance(action, Sweep):
            own_s, alone_s = _sweep(action, work)
            busy.append(own_s)
            exclusive.append(alone_s)
    return Cost(total(busy) / steps, total(exclusive) / steps, meetings / steps)


def _sweep(action: Sweep, work: Work) -> tuple[float, float]:
    """Seconds of a sweep, and how many of them exclude other workers."""
    kernel = action.declared
    changes = (work.update_s if kernel.optimises else 0.0) + (work.save_s if kernel.writes else 0.0)
    if action.share:
        return changes / work.workers + work.copy_s, 0.0
    if action.locked and kernel.changes_centre:
        alone = changes + work.copy_s
        return alone + (work.copy_s if kernel.pull else 0.0), alone
    return changes + (0.0 if kernel.gradient else work.copy_s), 0.0


def with_options(rule: Rule, **options: Any) -> Rule:
    """The rule with those of the `options` that it has."""
    return dataclasses.replace(rule, **{name: value for name, value in options.items() if name in rule.options()})


def between_meetings(rule: Rule, steps: float = math.inf) -> float:
    """A worker's steps between two meetings, in an epoch of `steps` steps; for rules with ``sync_every``."""
    return float(rule.options().get("sync_every", 1)) or steps


@plain
def cost(update: str | Rule, *, workers: int, parameters: int, itemsize: int, t_s: float, t_b: float, t_u: float,
         every: float | None = None) -> Cost:  # fmt: skip
    """The cost of a worker's step under the rule `update`, without the computation of its gradient.

    Parameters
    ----------
    update : str or Rule
        The update rule: its name, or one of your own.
    workers, parameters, itemsize : int
        W, P and the bytes of one parameter.
    t_s, t_b, t_u : float
        Seconds to start a message, a byte, a parameter's update.
    every : float, optional
        Steps between meetings, for rules with the option ``sync_every``; by default that option's own value.

    Returns
    -------
    Cost

    Raises
    ------
    UnknownNameError
        If the rule is not known.
    InputError
        If a number is out of its range.
    """
    rule = rule_for(update)
    counts(workers=workers, itemsize=itemsize)
    integer(parameters, "parameters", minimum=0)
    not_negative(t_s=t_s, t_b=t_b, t_u=t_u)
    if every is not None:
        at_least_one(every=every)
    update_s = t_u * parameters
    if workers == 1:
        return Cost(update_s)
    work = Work(workers, t_s * math.ceil(math.log2(workers)), t_b * parameters * itemsize, update_s)
    if "sync_every" not in rule.options():
        return of_script(rule, work)
    # What a rule does every H steps costs in proportion to 1 / H: from H = 1 and 2 follows the cost for every other H.
    often, seldom = (dataclasses.astuple(of_script(with_options(rule, sync_every=each), work)) for each in (1, 2))
    share = 2 / (between_meetings(rule) if every is None else every) - 1
    return Cost(*(max(0.0, share * one + (1 - share) * two) for one, two in zip(often, seldom, strict=True)))
