"""What it costs ranks to add up their vectors, so that all have the sum: equations of the known ways, and pyconv's own.

p ranks, n bytes each; a message of b bytes takes t_s + t_b b, a rank sends one and receives one at the same time, and
to add b bytes takes t_a b. With r = ⌈log2 p⌉:

how       seconds
ring      2 (p - 1) (t_s + t_b n / p) + t_a n (p - 1) / p
tree      2 r (t_s + t_b n) + r t_a n
halving   2 log2 p t_s + 2 t_b n (p - 1) / p + t_a n (p - 1) / p; for p that is no power of two, q is the largest one
          below, and 2 (t_s + t_b n) + t_a n come to the time of q ranks
owners    2 t_s + 2 t_b n (p - 1) / p + t_a n (p - 1) / p

ring: p - 1 rounds in which each rank hands its neighbour the p-th part that it has just added to, and p - 1 in which
the sums go round. tree: a binomial tree to one rank, and back, as the paper's Algorithm 4. halving: ranks whose numbers
differ in one bit exchange halves, then quarters (recursive halving: each has the sum of a p-th part), and the same
backwards (recursive doubling); ranks beyond a power of two hand their vectors to another rank before, and get the sum
after. owners: pyconv's. Every rank sends every other rank the part that this one owns; the owner adds in the order of
the ranks, and sends its sum to all. The messages of a rank are on their way together, so two start-ups count. No way
sends fewer bytes than ring, halving and owners (Patarasuk and Yuan).

References
----------
R. W. Hockney, "The communication challenge for MPP" (1994): t_s + t_b n. R. Thakur, R. Rabenseifner and W. Gropp,
"Optimization of collective communication operations in MPICH" (2005): tree, recursive halving and doubling. R.
Rabenseifner, "Optimization of collective reduction operations" (2004). P. Patarasuk and X. Yuan, "Bandwidth optimal
all-reduce algorithms for clusters of workstations" (2009): ring, and the least number of bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ..values import choice
from .checks import counts, not_negative, plain


def _ring(p: int, n: float, t_s: float, t_b: float, t_a: float) -> float:
    return 2 * (p - 1) * (t_s + t_b * n / p) + t_a * n * (p - 1) / p


def _tree(p: int, n: float, t_s: float, t_b: float, t_a: float) -> float:
    rounds = (p - 1).bit_length()
    return 2 * rounds * (t_s + t_b * n) + rounds * t_a * n


def _halving(p: int, n: float, t_s: float, t_b: float, t_a: float) -> float:
    rounds = p.bit_length() - 1
    even = 1 << rounds
    folded = 0.0 if even == p else 2 * (t_s + t_b * n) + t_a * n
    return folded + 2 * rounds * t_s + (2 * t_b + t_a) * n * (even - 1) / even


def _owners(p: int, n: float, t_s: float, t_b: float, t_a: float) -> float:
    return 2 * t_s + (2 * t_b + t_a) * n * (p - 1) / p


#: By name, the seconds of ``(ranks, bytes, t_s, t_b, t_a)`` for 2 ranks or more.
REDUCTIONS: dict[str, Callable[[int, float, float, float, float], float]] = {
    "ring": _ring,
    "tree": _tree,
    "halving": _halving,
    "owners": _owners,
}


@plain
def reduction_time(how: str, ranks: int, size: float, *, t_s: float, t_b: float, t_a: float = 0.0) -> float:
    """The time in which ranks add up their vectors, so that all have the sum.

    Parameters
    ----------
    how : {"ring", "tree", "halving", "owners"}
        A ring; a binomial tree and back; recursive halving and doubling; or as pyconv does it, each rank adding a part.
    ranks : int
        p; one has nothing to do.
    size : float
        n, bytes of one rank's vector.
    t_s, t_b : float
        Seconds to start a message, and a byte, between ranks: ``calibrate(cluster=True)`` measures them.
    t_a : float
        Seconds to add a byte of one vector to another.

    Returns
    -------
    float
        Seconds.

    Raises
    ------
    UnknownNameError
        If there is no such way.
    InputError
        If a number is out of its range.

    References
    ----------
    Thakur, Rabenseifner and Gropp (2005), Patarasuk and Yuan (2009); :mod:`.reductions` has the equations.

    Examples
    --------
    >>> from pyconv import costmodel
    >>> each = {how: costmodel.reduction_time(how, 4, 1e6, t_s=1e-4, t_b=1e-8) for how in costmodel.REDUCTIONS}
    >>> {how: round(1e3 * seconds, 1) for how, seconds in each.items()}
    {'ring': 15.6, 'tree': 40.4, 'halving': 15.4, 'owners': 15.2}
    """
    counts(ranks=ranks)
    not_negative(size=size, t_s=t_s, t_b=t_b, t_a=t_a)
    seconds = REDUCTIONS[choice(how, "reduction", list(REDUCTIONS))]
    return 0.0 if ranks == 1 else seconds(ranks, size, t_s, t_b, t_a)


def meeting_time(ranks: int, t_s: float) -> float:
    """Seconds of a round of :mod:`pyconv.cluster.rounds`: small messages to rank 0, and its answer, along a tree."""
    return 2 * math.ceil(math.log2(ranks)) * t_s
