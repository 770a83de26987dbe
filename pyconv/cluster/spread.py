"""Spread: which lanes and which stretch of the parameters belong to each rank."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..parallel.program import share


@dataclass(frozen=True)
class Spread:
    """How lanes are divided among ranks: in their order, and as evenly as possible.

    Attributes
    ----------
    parameters, lanes, ranks : int
        At least as many lanes as ranks.
    """

    parameters: int
    lanes: int
    ranks: int

    def lanes_of(self, rank: int) -> range:
        """The lanes of a rank."""
        return range(self.lanes * rank // self.ranks, self.lanes * (rank + 1) // self.ranks)

    def stretch(self, rank: int) -> slice:
        """The parameters that the rank's lanes average and update; the shares of these lanes are adjacent."""
        own = self.lanes_of(rank)
        return slice(share(self.parameters, self.lanes, own[0])[0], share(self.parameters, self.lanes, own[-1])[1])

    @property
    def holders(self) -> np.ndarray:
        """The rank of each lane, ``(lanes,)`` uint16."""
        return np.repeat(
            np.arange(self.ranks, dtype=np.uint16), [len(self.lanes_of(rank)) for rank in range(self.ranks)]
        )

    @property
    def most(self) -> int:
        """How many lanes the rank with the most lanes has."""
        return -(-self.lanes // self.ranks)
