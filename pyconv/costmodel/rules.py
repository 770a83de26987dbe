"""What each update rule communicates, in the constants of the cost model.

A worker's step costs computation, and beside it what its rule needs. With P parameters of n bytes, W workers,
u = t_u P seconds for one whole update and c = t_b n seconds to bring n bytes from another process's cache or memory:

rule     a step of each worker                                                        seconds
sync     meet; sum its W-th part of all gradients in order, update that; meet; read   2 t_s r + 2 c + (u + s) / W + k
async    push: update the shared parameters, alone; pull: read them                   u + s + 2 c + k
ssp      the same, and it may wait                                                     the same
hogwild  update the shared parameters in place, nobody waits                          u + c + k
local    update its own; every H steps meet and average as in sync                   u + s + k + (2 t_s r + 2 c) / H
easgd    update its own; every H steps pull towards the centre and back, alone        u + s + k + 3 c / H

r = ⌈log2 W⌉ rounds of messages let W workers know of each other. That nothing is lost when one dies has a price: k = c
to look through a gradient for what is not finite, and s = 2 c to keep the old values of what an update writes,
parameters and momentum, until it is done. One worker alone has its update u and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ..values import choice, integer
from .checks import at_least_one, counts, not_negative, plain


@dataclass(frozen=True)
class Work:
    """What a rule's cost depends on.

    Attributes
    ----------
    workers : int
        W.
    message_s : float
        t_s r: seconds until all know that all have arrived.
    copy_s : float
        c: seconds to bring the parameters over.
    update_s : float
        u: seconds of one whole update.
    every : float
        H: steps between meetings, for the rules that do not meet in every step.
    """

    workers: int
    message_s: float
    copy_s: float
    update_s: float
    every: float

    @property
    def check_s(self) -> float:
        """k: seconds to look through a gradient."""
        return self.copy_s

    @property
    def save_s(self) -> float:
        """s: seconds to keep the old values of parameters and momentum."""
        return 2 * self.copy_s


@dataclass(frozen=True)
class Cost:
    """Seconds of a worker's step beside its computation of the gradient.

    Attributes
    ----------
    busy_s : float
        That it works or waits for messages.
    exclusive_s : float
        The part of it that only one worker can do at a time.
    meets : float
        Meetings a step: at each, all wait for the slowest.
    """

    busy_s: float
    exclusive_s: float = 0.0
    meets: float = 0.0


def _sync(w: Work) -> Cost:
    part = (w.update_s + w.save_s) / w.workers
    return Cost(2 * w.message_s + 2 * w.copy_s + part + w.check_s, meets=1.0)


def _async(w: Work) -> Cost:
    alone = w.update_s + w.save_s + w.copy_s
    return Cost(alone + w.copy_s + w.check_s, exclusive_s=alone)


def _hogwild(w: Work) -> Cost:
    return Cost(w.update_s + w.copy_s + w.check_s)


def _local(w: Work) -> Cost:
    own = w.update_s + w.save_s + w.check_s
    return Cost(own + (2 * w.message_s + 2 * w.copy_s) / w.every, meets=1 / w.every)


def _easgd(w: Work) -> Cost:
    own = w.update_s + w.save_s + w.check_s
    return Cost(own + 3 * w.copy_s / w.every, exclusive_s=3 * w.copy_s / w.every)


RULES: dict[str, Callable[[Work], Cost]] = {
    "sync": _sync,
    "async": _async,
    "ssp": _async,
    "hogwild": _hogwild,
    "local": _local,
    "easgd": _easgd,
}

#: Steps between meetings when nobody says: those of the rules' own defaults.
EVERY = {"local": 1.0, "easgd": 1.0}


@plain
def cost(update: str, *, workers: int, parameters: int, itemsize: int, t_s: float, t_b: float, t_u: float,
         every: float | None = None) -> Cost:  # fmt: skip
    """Seconds of a worker's step under the rule `update`, beside its gradient's computation.

    Parameters
    ----------
    update : str
        Name of the update rule.
    workers, parameters, itemsize : int
        W, P and the bytes of one parameter.
    t_s, t_b, t_u : float
        Seconds to start a message, a byte, a parameter's update.
    every : float, optional
        Steps between meetings of ``local`` and ``easgd``; by default 1, as in training.

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
    choice(update, "update rule", RULES)
    counts(workers=workers, itemsize=itemsize)
    integer(parameters, "parameters", minimum=0)
    not_negative(t_s=t_s, t_b=t_b, t_u=t_u)
    if every is not None:
        at_least_one(every=every)
    update_s = t_u * parameters
    if workers == 1:
        return Cost(update_s)
    rounds = math.ceil(math.log2(workers))
    steps = EVERY.get(update, 1.0) if every is None else every
    return RULES[update](Work(workers, t_s * rounds, t_b * parameters * itemsize, update_s, steps))
