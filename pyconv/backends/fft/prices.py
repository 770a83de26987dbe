"""What transforms cost, in the cycles of ``_kernels/cost.h``: measured by ``python bench/price_fft.py``."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Work:
    """What there is to do: amounts, or cycles for each.

    Attributes
    ----------
    transforms : float
        n (log2 n + 2) for each transform of length n; a row is real and counts half.
    moved : float
        Numbers of the rows' spectra, if windows lie side by side and are gathered one by one.
    matrices, products : float
        Matrices that are multiplied, one for each frequency, and products of two complex numbers in them.
    checked : float
        Numbers of the operands and the result, which the check reads.
    coarse : float
        Pixels times results: each has a share of the coarse sums.
    """

    transforms: float
    moved: float
    matrices: float
    products: float
    checked: float
    coarse: float


#: Cycles for each.
CYCLES = Work(transforms=0.96, moved=10.0, matrices=9.0, products=0.65, checked=10.0, coarse=4.4)

#: Cycles of a call, however small.
CALL = 650_000

#: With float64, everything takes so many times as long.
DOUBLE = 2.0

#: A kernel with fewer taps is never worth it, and nothing is estimated then.
LEAST_TAPS = 81


def transform(n: int) -> float:
    """Operations of a transform of length n, in units that the prices are for."""
    return n * (math.log2(n) + 2) if n > 1 else 1


def total(work: Work, double: bool) -> float:
    """Cycles of one thread."""
    cycles = sum(getattr(work, each.name) * getattr(CYCLES, each.name) for each in fields(Work))
    return CALL + (DOUBLE if double else 1) * cycles
