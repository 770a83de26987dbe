"""A step of data-parallel training whose messages travel while the ranks compute, as :mod:`pyconv.cluster.overlap` has
it.

Rank q owns the q-th of p stretches of the n bytes of parameters. The parameters that the last step has updated come
first: a stretch comes from its owner, from its beginning to its end, and a layer waits until all parameters up to its
own are there:

    start(l) = max(end(l - 1), (p - 1) t_b (bytes of the stretch before the end of layer l's) + t_s)

Gradients leave from the end of the vector to its beginning, a layer's when its backward pass has been computed. A link
passes one byte after the other: with a(l) the time at which layer l's gradient is complete, and b(l) the bytes of it
that pass the link, from the last layer to the first

    passed(l) = max(passed(l + 1), a(l)) + t_b b(l)

For what a rank sends, b(l) is all that is not its own stretch; for what the owner of a stretch receives, it is p - 1
times the layer's part of it. The step goes on when all have passed. While they travel, messages take some of the CPU:
t_p for each byte, which makes the passes that much longer; k times that where k ranks share each CPU. Without overlap,
gradients and parameters take ``t_s + t_b n (p - 1) / p`` each, after the passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..clocks import Clocks
from .phases import Links, StepTime


@dataclass(frozen=True)
class Pass:
    """A layer's passes, in the order of the forward pass.

    Attributes
    ----------
    forward_s, backward_s : float
        Seconds of one worker.
    reads : float
        Where the layer's parameters end in the vector of all, in bytes; 0 if it has none.
    left : float
        Where in it the gradient is complete from, when its backward pass has been computed.
    """

    forward_s: float
    backward_s: float
    reads: float
    left: float


@dataclass(frozen=True)
class Overlapped:
    """A step of ranks that average gradients while they compute.

    Attributes
    ----------
    ranks, lanes : int
        Ranks, and workers of each, which compute one after the other.
    passes : sequence of Pass
    parameters : float
        n, bytes of all.
    update_s : float
        Seconds of one update of all parameters, of which each rank does its share.
    aside : float
        Seconds of a gradient that belong to no layer: to gather the images, before the first layer.
    crowd : float
        k, ranks that share each CPU, if the passes were measured while all of them computed.
    """

    ranks: int
    lanes: int
    passes: Sequence[Pass]
    parameters: float
    update_s: float
    aside: float = 0.0
    crowd: float = 1.0

    def time(self, links: Links) -> StepTime:
        """The time of a step, if all ranks compute as fast."""
        clocks = links.clocks(self.ranks)
        self.play(clocks, np.ones(self.ranks))
        n, p = self.parameters, self.ranks
        sent = (self.lanes + 1) * n * (p - 1) / p
        return StepTime(float(clocks.now.max()), clocks.computed / p, sent)

    def play(self, clocks: Clocks, factors: np.ndarray) -> None:
        """One step, played; rank r computes `factors[r]` times as long as it should."""
        p, n = self.ranks, self.parameters
        clocks.meet()
        began = float(clocks.now.max())
        computed, clocks.computed = clocks.computed, 0.0
        passes_s = self.lanes * sum(each.forward_s + each.backward_s for each in self.passes)
        taken_s = self.crowd * clocks.t_p * (self.lanes + 1) * n * (p - 1) / p
        slowed = factors * (1 + taken_s / max(passes_s, 1e-30))
        bounds = n * np.arange(p + 1) / p
        sent = clocks.now.copy()  # when each rank's link is free again
        received = clocks.now.copy()
        for lane in range(self.lanes):
            clocks.compute(self.aside * factors)
            for each in self.passes:
                if lane == 0 and each.reads and p > 1:
                    come = began + clocks.t_s + (p - 1) * clocks.t_b * min(each.reads, n / p)
                    clocks.now = np.maximum(clocks.now, come)
                clocks.compute(each.forward_s * slowed)
            end = n
            for each in reversed(self.passes):
                clocks.compute(each.backward_s * slowed)
                if each.left < end and p > 1:
                    own = np.clip(np.minimum(end, bounds[1:]) - np.maximum(each.left, bounds[:-1]), 0, None)
                    sent = _after(sent, clocks.now, clocks.t_b * (end - each.left - own))
                    received = _after(received, clocks.now.max(), clocks.t_b * (p - 1) * own)
                    end = each.left
        if p > 1:
            clocks.now = np.maximum(clocks.now, np.maximum(sent, received) + clocks.t_s)
        clocks.meet()
        if p * self.lanes > 1:
            clocks.add(self.lanes * n)
        clocks.compute(self.update_s / p * factors)
        clocks.computed += computed


def _after(free: np.ndarray, now: np.ndarray | float, seconds: np.ndarray) -> np.ndarray:
    """When links are free again that pass something of so many seconds from `now` on; those that pass nothing stay."""
    return np.where(seconds > 0, np.maximum(free, now) + seconds, free)
