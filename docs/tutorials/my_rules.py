"""The update rule that the tutorial "Write an update rule" explains."""

from dataclasses import dataclass

import numpy as np

from pyconv.parallel.kernels import kernel
from pyconv.parallel.rules import Rule


@dataclass(frozen=True)
class SignMajority(Rule):
    """Majority vote: step by the sign on which most workers agree, as signSGD does (Bernstein et al., 2018)."""

    name = "signmajority"
    lockstep = True

    def step(self, lane):
        yield lane.everyone()
        yield lane.gradient("centre")
        yield lane.everyone()
        yield lane.sweep(self.vote, share=True)

    @kernel(writes=("centre", "state"))
    def vote(self, c):
        # In an epoch's last step some workers may have no image left; what their slots hold is no gradient.
        votes = sum(
            np.sign(gradient)
            for gradient, weight in zip(c.gradients, c.weights)
            if weight > 0
        )
        c.optimise(c.centre, np.sign(votes), c.state)
