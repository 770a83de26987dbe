"""Reach: up to where in the flat vector a pass has come, when it is before or after one of a network's steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .layer import Step

if TYPE_CHECKING:
    from .network import Network


class Reach:
    """Where the steps of a network have their parameters.

    Parameters
    ----------
    network : Network
        Frozen steps count too.

    Attributes
    ----------
    reads : dict of Step to int
        The end of the parameters that the step reads; 0 if it has none.
    left : dict of Step to int
        The place from which on the gradient is complete when the step's backward pass has been computed.
    """

    def __init__(self, network: Network) -> None:
        ends, start = {}, 0
        for name, view in network.parameters.items():
            start += view.size
            ends[name] = start
        self.reads: dict[Step, int] = {}
        self.left: dict[Step, int] = {}
        end = 0
        for step in network.steps:
            self.left[step] = end
            self.reads[step] = max((ends[name] for name in step.names.values()), default=0)
            end = max(end, self.reads[step])
