"""Clocks: the time at which each of many ranks is, while they compute and send each other messages, move by move.

Every move is played literally, for all ranks at once in NumPy: a rank goes on when it has computed, or when all that it
waits for has arrived. So a thousand ranks take no longer than some. A rank's link passes one byte after the other in
each direction.
"""

from __future__ import annotations

import math

import numpy as np

#: Bytes of a vector that each rank adds up for itself, as :data:`pyconv.cluster.sums.SMALL`.
SMALL = 1 << 14


class Clocks:
    """The clocks of some ranks.

    Parameters
    ----------
    ranks : int
    t_s, t_b : float
        Seconds to start a message between ranks, and seconds a byte on a rank's link.
    t_a : float
        Seconds to add a byte of one vector to another.
    t_m : float, optional
        Seconds of a small message when all meet; by default t_s.
    t_p : float
        Seconds of a CPU that a byte takes from computing, while it travels.
    t_l : float
        Seconds at most by which a stage of a pipeline that waits is late, on average, to notice that it can go on.
    eager : float
        Bytes that leave a stage of a pipeline at once, while the next one computes.

    Attributes
    ----------
    now : (ranks,) ndarray
        Seconds; all begin at 0.
    computed : float
        Seconds in which ranks have computed, over all ranks.
    """

    def __init__(
        self, ranks: int, t_s: float, t_b: float, t_a: float = 0.0, t_m: float | None = None, t_p: float = 0.0,
        t_l: float = 0.0, eager: float = 0.0,
    ) -> None:  # fmt: skip
        self.ranks, self.t_s, self.t_b, self.t_a = ranks, t_s, t_b, t_a
        self.t_m, self.t_p, self.t_l, self.eager = t_s if t_m is None else t_m, t_p, t_l, eager
        self.now = np.zeros(ranks)
        self.computed = 0.0

    def compute(self, seconds: np.ndarray | float) -> None:
        """Each rank computes for its seconds."""
        each = np.broadcast_to(seconds, self.now.shape)
        self.now = self.now + each
        self.computed += float(each.sum())

    def add(self, size: float) -> None:
        """Each rank adds up so many bytes."""
        self.now = self.now + self.t_a * size

    def meet(self) -> None:
        """All wait for all: small messages along a tree to rank 0, and back."""
        start, self.t_s = self.t_s, self.t_m
        self._gather_tree(0.0)
        self._spread_tree(0.0)
        self.t_s = start

    def neighbours(self, size: float) -> None:
        """Each rank sends its neighbours above and below `size` bytes in all, and receives as many."""
        now = self.now
        before, after = np.concatenate([now[:1], now[:-1]]), np.concatenate([now[1:], now[-1:]])
        self.now = np.maximum(now, np.maximum(before, after)) + self.t_s + self.t_b * size

    def exchange(self, size: float) -> None:
        """Each rank sends every other one its own p-th part of `size` bytes: ``size (p - 1) / p`` leave and arrive.

        Messages queue at the link of the rank that they go to, in the order in which they come.
        """
        if self.ranks == 1:
            return
        p, part_s = self.ranks, self.t_b * size / self.ranks
        coming = np.sort(self.now)
        left = np.minimum(p - np.arange(p), p - 1)  # messages that are still to pass when one has come
        queue = float((coming + left * part_s).max())
        self.now = np.maximum(self.now + (p - 1) * part_s, queue) + self.t_s

    # ---- sums -------------------------------------------------------------------------------------

    def ring(self, size: float) -> None:
        """All ranks get the sum of their vectors of `size` bytes: parts go round a ring."""
        part = size / self.ranks
        message = self.t_s + self.t_b * part
        for turn in range(2 * (self.ranks - 1)):
            adding = self.t_a * part if turn < self.ranks - 1 else 0.0
            self.now = np.maximum(self.now, np.roll(self.now, 1)) + message + adding

    def tree(self, size: float) -> None:
        """The same along a binomial tree to rank 0, and back."""
        self._gather_tree(size)
        self._spread_tree(size)

    def halving(self, size: float) -> None:
        """The same by recursive halving and doubling."""
        even = 1 << (self.ranks.bit_length() - 1)
        beyond = self.ranks - even
        now, whole = self.now, self.t_s + self.t_b * size
        if beyond:  # these hand their vectors to a rank each
            now[:beyond] = np.maximum(now[:beyond], now[even:]) + whole + self.t_a * size
        core, part = now[:even], size
        sizes = [size / 2 ** (turn + 1) for turn in range(even.bit_length() - 1)]
        partners = [np.arange(even) ^ (even >> (turn + 1)) for turn in range(len(sizes))]
        for part, partner in zip(sizes, partners):
            core = np.maximum(core, core[partner]) + self.t_s + (self.t_b + self.t_a) * part
        for part, partner in zip(sizes[::-1], partners[::-1]):
            core = np.maximum(core, core[partner]) + self.t_s + self.t_b * part
        back = np.maximum(now[even:], core[:beyond]) + whole if beyond else now[even:]
        if beyond:
            core = core.copy()
            core[:beyond] = back
        self.now = np.concatenate([core, back])

    def owners(self, size: float) -> None:
        """The same as pyconv does it: each rank adds the part that it owns, and sends it to all."""
        if self.ranks == 1:
            return
        self.exchange(size)
        self.add(size * (self.ranks - 1) / self.ranks)
        self.exchange(size)

    def sum(self, size: float) -> None:
        """The same, as :func:`pyconv.cluster.sums.in_rank_order` does it: of a small vector all ranks add all."""
        if self.ranks > 1 and size <= SMALL:
            self.exchange(size * self.ranks)
            self.add(size * (self.ranks - 1))
        else:
            self.owners(size)

    def _gather_tree(self, size: float) -> None:
        """Vectors come to rank 0 along a binomial tree, and are added on the way."""
        message = self.t_s + (self.t_b + self.t_a) * size
        for mask in self._masks():
            sources = np.arange(mask, self.ranks, 2 * mask)
            self.now[sources - mask] = np.maximum(self.now[sources - mask], self.now[sources]) + message
            self.now[sources] += message  # it has sent

    def _spread_tree(self, size: float) -> None:
        """A vector goes from rank 0 to all along the same tree."""
        message = self.t_s + self.t_b * size
        for mask in self._masks()[::-1]:
            targets = np.arange(mask, self.ranks, 2 * mask)
            arrival = self.now[targets - mask] + message
            self.now[targets] = np.maximum(self.now[targets], arrival)
            self.now[targets - mask] = arrival

    def _masks(self) -> list[int]:
        return [1 << turn for turn in range(math.ceil(math.log2(self.ranks)))]
