"""How a convolution is cut into windows, and how long its transforms are: the plan with the lowest estimate.

Along each axis the operation is a sum ``y[j] = sum over u of a[m - u] b[u]`` at the places ``m = start + step j``. A
transform of length n computes it on a circle, where place m also receives what belongs to m + n and m - n. So n only
has to be long enough that nothing else lands on the places that are kept: an image of 512 pixels under a kernel of 31
in mode "same" needs 527, not the 542 of the whole sum. With a short kernel, overlapping windows of the image have a
transform each (overlap-save), which are shorter than one of the whole, and share the kernel's.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...shapes import ConvGeometry
from . import prices

FORWARD, INPUT_GRAD, WEIGHT_GRAD = range(3)


@dataclass(frozen=True)
class Axis:
    """One axis of the operation.

    Attributes
    ----------
    before : int
        Zeros in front of the first operand; if negative, so many of its numbers are left out.
    windows, hop, size : int
        Windows of it, the distance from one to the next, and the length of each.
    spread_a, spread_b : int
        Distance between two neighbouring numbers of the operands: there are zeros between them.
    reach : int
        Length of the second operand, with such zeros.
    n : int
        Length of the transforms.
    start, step, count : int
        Places that are kept of each window's result.
    """

    before: int
    windows: int
    hop: int
    size: int
    spread_a: int
    spread_b: int
    reach: int
    n: int
    start: int
    step: int
    count: int

    @functools.cached_property
    def kept(self) -> Any:
        """The places that are kept, as a slice, or as an array if they lie on both sides of the circle's beginning."""
        last = self.start + self.step * (self.count - 1)
        if self.start >= 0 and last < self.n:
            return slice(self.start, last + 1, self.step)
        return (self.start + self.step * np.arange(self.count)) % self.n

    @property
    def whole(self) -> bool:
        """Whether there is one window: the operand as it is."""
        return self.windows == 1 and self.before == 0


@dataclass(frozen=True)
class Plan:
    """The plan of one operation: its two axes, and its estimate in cycles of one thread."""

    what: int
    vertical: Axis
    horizontal: Axis
    cycles: float


@functools.cache
def fast_length(least: int, real: bool) -> int:
    """The next length whose transform is fast."""
    from scipy.fft import next_fast_len

    return int(next_fast_len(least, real))


def _one(h: int, o: int, k: int, s: int, d: int, p: int, what: int, real: bool) -> Axis:
    """The axis in one piece, without padding."""
    reach_k, reach_o = (k - 1) * d + 1, (o - 1) * s + 1
    size, reach, start, step, count, spread_a, spread_b = (
        (h, reach_k, reach_k - 1 - p, s, o, 1, d),
        (reach_o, reach_k, p, 1, h, s, d),
        (h, reach_o, reach_o - 1 - p, d, k, 1, s),
    )[what]
    last = start + (count - 1) * step
    n = fast_length(max(size, reach, size + reach - 1 - start, last + 1), real)
    return Axis(0, 1, size, size, spread_a, spread_b, reach, n, start, step, count)


def _cut(o: int, k: int, s: int, d: int, p: int, h: int, what: int, pieces: int, real: bool) -> Axis:
    """The axis in windows: every one has its own share of the result, or with the weight gradient of the errors."""
    reach_k = (k - 1) * d + 1
    if what == INPUT_GRAD:
        share = -(-h // pieces)
        size = share + reach_k - 1
        n = fast_length(size, real)
        return Axis(reach_k - 1 - p, -(-h // share), share, size, s, d, reach_k, n, reach_k - 1, 1, share)
    share = -(-o // pieces)
    reach_share = (share - 1) * s + 1
    size = reach_share - 1 + reach_k
    n, windows, hop = fast_length(size, real), -(-o // share), share * s
    if what == FORWARD:
        return Axis(p, windows, hop, size, 1, d, reach_k, n, reach_k - 1, s, share)
    return Axis(p, windows, hop, size, 1, s, reach_share, n, reach_share - 1, d, k)


def ways(h: int, o: int, k: int, s: int, d: int, p: int, what: int, real: bool) -> Iterator[Axis]:
    """One piece, and then more and more."""
    yield _one(h, o, k, s, d, p, what, real)
    length, pieces = h if what == INPUT_GRAD else o, 2
    seen = set()
    while pieces <= length:
        share = -(-length // pieces)
        if share not in seen:
            seen.add(share)
            yield _cut(o, k, s, d, p, h, what, pieces, real)
        if share * 3 < k * d and k > 1:  # most of each window would be its neighbour's
            return
        pieces += max(1, pieces // 3)


@functools.lru_cache(1024)
def plan(what: int, g: ConvGeometry, double: bool) -> Plan:
    """The plan with the lowest estimate; `what` is one of FORWARD, INPUT_GRAD and WEIGHT_GRAD."""
    rows = list(ways(g.h, g.oh, g.kh, g.sh, g.dh, g.pt, what, False))
    columns = list(ways(g.w, g.ow, g.kw, g.sw, g.dw, g.pl, what, True))
    cycles, v, w = min(
        ((estimate(what, g, v, w, double), v, w) for v in rows for w in columns), key=lambda found: found[0]
    )
    return Plan(what, v, w, cycles)


def estimate(what: int, g: ConvGeometry, v: Axis, w: Axis, double: bool) -> float:
    """Cycles of one thread."""
    return prices.total(work(what, g, v, w), double)


def work(what: int, g: ConvGeometry, v: Axis, w: Axis) -> prices.Work:
    """What there is to do along two axes."""
    half = w.n // 2 + 1
    windows = g.n * v.windows * w.windows
    high_a = v.windows * v.hop + v.size - v.hop  # rows of the first operand
    pairs = g.c // g.groups * g.k
    if what == WEIGHT_GRAD:
        a, b, y = g.c, g.k, pairs
        rows_b, columns_b, rows_y, columns_y = g.n * g.oh * w.windows, windows, g.kh, 1
        matrix = g.c // g.groups, windows, g.k // g.groups
    else:
        a, y = (g.c, g.k) if what == FORWARD else (g.k, g.c)
        b, rows_b, columns_b = pairs, g.kh, 1
        rows_y, columns_y = g.n * (g.oh if what == FORWARD else g.h) * w.windows, windows
        matrix = windows, a // g.groups, y // g.groups
    rows = g.n * high_a * w.windows * a + rows_b * b + rows_y * y
    columns = half * (windows * a + columns_b * b + columns_y * y)
    checked = -(-g.n // 8) / g.n if what == WEIGHT_GRAD else 0  # some images a second time
    matrices = g.groups * v.n * half
    return prices.Work(
        transforms=(1 + checked) * (rows * prices.transform(w.n) / 2 + columns * prices.transform(v.n)),
        moved=rows * half if w.windows > 1 else 0,
        matrices=matrices if math.prod(matrix) > 1 else 0,
        products=matrices * math.prod(matrix),
        checked=g.n * (g.h * g.w * g.c + g.oh * g.ow * g.k),
        coarse=0 if what == WEIGHT_GRAD else g.n * g.h * g.w * y,
    )
