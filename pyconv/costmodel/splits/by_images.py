"""A step of data-parallel training over ranks: each rank has images of its own, and what travels are n bytes of
parameters.

W = L p workers, L on each of p ranks; a gradient takes g seconds and an update u; w = t_b n (p - 1) / p is the time of
an exchange's bytes, m = 2 t_s ⌈log2 p⌉ that of a round:

sync, and rules like it: two rounds; the parts of L gradients go to the owner of each stretch, who adds W of them and
    updates his stretch; the stretches go to all.        L g + 2 m + 2 t_s + (L + 1) w + L t_a n + u / p
    With overlap both messages travel during the passes (:mod:`.overlapped`).
local and other lockstep rules: every H steps a round, and both exchanges; and at the end of an epoch.
                                                         L (g + u) + (m + 2 t_s + (L + 1) w + L t_a n) / H
rules that wait for nobody: each mini-batch sends parameters to rank 0 and back, and all ranks share its link.
                                                         max(L (g + u + 2 t_s + 2 t_b n), L (p - 1) t_b n)
"""

from __future__ import annotations

import math

from ...parallel import Rule
from ...parallel.lane import Everyone, Gradient
from ..profile import Profile
from ..rules import actions, between_meetings
from .overlapped import Overlapped, Pass
from .phases import Links, Phase, Phases


def overlaps(rule: Rule) -> bool:
    """Whether messages may travel while steps are computed: these begin with everyone(), a gradient, everyone()."""
    firsts = []
    for action in actions(rule, 2, 1):
        firsts.append(action)
        if len(firsts) == 3:
            break
    return rule.lockstep and tuple(map(type, firsts)) == (Everyone, Gradient, Everyone)


def step(
    profile: Profile, parameters: int, itemsize: int, rule: Rule, ranks: int, lanes: int, links: Links, *,
    overlap: bool = True, every: float | None = None, steps: float = math.inf, crowd: float = 1.0,
) -> Phases | Overlapped:  # fmt: skip
    """A step of each worker.

    Parameters
    ----------
    profile : Profile
        Of one worker.
    parameters, itemsize : int
        Number of trained parameters, and bytes of one.
    rule : Rule
    ranks, lanes : int
        Ranks, and workers of each.
    links : Links
        For rules that wait for nobody, whose ranks share rank 0's.
    overlap : bool
        Whether messages may travel while steps are computed.
    every : float, optional
        Steps between meetings, for rules with the option ``sync_every``.
    steps : float
        Steps of an epoch, for rules that meet once in it.
    crowd : float
        Ranks that share each CPU, if the profile was measured while all of them computed.

    Returns
    -------
    Phases or Overlapped
    """
    n, p = float(parameters * itemsize), ranks
    passes = [Pass(e.forward_s, e.backward_s, itemsize * e.reads, itemsize * e.left) for e in profile.layers]
    if overlaps(rule):
        if overlap:
            return Overlapped(p, lanes, passes, n, profile.update_s, profile.aside_s, crowd)
        adding_s = lanes * links.t_a * n if p * lanes > 1 else 0.0
        return Phases(
            p,
            [
                Phase(0.0, "meet"),
                Phase(lanes * profile.gradient_s, "meet"),
                Phase(0.0, "gather", lanes * n),
                Phase(0.0, "wait", adding_s),
                Phase(profile.update_s / p, "gather", n),
            ],
        )
    own = lanes * (profile.gradient_s + profile.update_s)
    if p == 1:
        return Phases(1, [Phase(own)])
    if rule.lockstep:
        often = max(1.0, between_meetings(rule, steps) if every is None else every)
        share = 1 / often if math.isinf(steps) else math.ceil(steps / often) / steps  # the last ones end the epoch
        moves = [Phase(0.0, "meet"), Phase(0.0, "gather", lanes * n), Phase(0.0, "gather", n)]
        sending_s = lanes * n * links.t_a + math.fsum(each.sending_s(p, links) for each in moves)
        return Phases(p, [Phase(own, "wait", share * sending_s)])
    served_s = lanes * links.t_b * n * (p - 1)
    alone_s = own + lanes * 2 * (links.t_s + links.t_b * n)
    return Phases(p, [Phase(own, "wait", max(alone_s, served_s) - own)])
