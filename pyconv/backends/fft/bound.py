"""How far transforms may be off, and how large the sums of each window are: whether a result may stand.

A transform spreads its rounding over all places. So a result whose own window holds only small numbers can be all
rounding, if there are large ones elsewhere. Here is a bound of that error, and a lower bound of ``sum |x||w|`` of every
window, from operands that are coarser by a block of pixels: decision 38.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from ... import _cpu, _passes
from ...shapes import ConvGeometry, conv_geometry
from .correlation import Correlation
from .operands import fitted, windows_down
from .sizes import INPUT_GRAD, WEIGHT_GRAD, Plan

#: A result may be off by so many units of rounding of the sum of its window's products: 1e-5 in float32.
TOLERANCE = 84.0

#: The largest error of any pixel is below so many times the estimate: `docs/explanation/numerics.md`.
SAFETY = 4.0

#: Products with coarse operands for each pixel and filter, those of all channels together: errors of many channels
#: cancel, so that the bound may be coarser.
COARSE_PRODUCTS = 40

#: Blocks along each side of a kernel, at least: with fewer, too little of it would count.
LEAST_BLOCKS = 4

#: Where at most this share is uncertain by the first lower bound, the second is not computed.
PATCHED = 0.02

#: Smaller sums may have lost products that are nearer to zero than the least normal number.
LEAST = 1e-30


def error(made: Plan, a: Any, filters: Any, g: ConvGeometry, eps: float) -> Any:
    """The largest error of any result that the operands' transforms make.

    Parameters
    ----------
    a : array, (images, height, windows, width, channels)
        The first operand, as it is transformed.
    filters : array
        The second, as it was given: filters, or errors.
    eps : float
        Unit of rounding.

    Returns
    -------
    array, (images, channels), or (1, C // groups * K) of the filters' gradient
    """
    most = np.maximum(a.max(axis=1), -a.min(axis=1)).max(axis=(1, 2))
    level = np.square(_root(made) * _level(made, a) + 0.5 * most, dtype=np.float64)
    level = level.reshape(len(a), g.groups, -1)
    if made.what == WEIGHT_GRAD:
        squares = np.einsum("nhwk,nhwk->nk", filters, filters).reshape(g.n, g.groups, -1)
        together = np.einsum("ngc,ngk->cgk", level, squares).reshape(1, -1)
    else:
        squares = np.einsum("hwck,hwck->ck", filters, filters).reshape(-1, g.groups, g.k // g.groups)
        into = "ngk,cgk->ngc" if made.what == INPUT_GRAD else "ngc,cgk->ngk"
        together = np.einsum(into, level, squares).reshape(g.n, -1)
    return SAFETY * eps * np.sqrt(together)


def error_back(made: Plan, energy: Any, eps: float) -> Any:
    """What the way back adds to :func:`error`; `energy` is the result of :func:`transforms.run`."""
    return SAFETY * eps * _root(made) * np.sqrt(energy / (made.vertical.n * made.horizontal.n))


def _root(made: Plan) -> float:
    """Rounding grows with the root of the number of steps of a transform."""
    return math.sqrt(math.log2(max(made.vertical.n * made.horizontal.n, 2)))


def _level(made: Plan, a: Any) -> Any:
    """The root mean square of each channel, (images, channels): of a window, or of its largest row or column."""
    v, w = made.vertical, made.horizontal
    rows = np.einsum("nhtwc,nhtwc->nhtc", a, a)
    columns = np.einsum("nvhtwc,nvhtwc->nvtwc", *[windows_down(a, v)] * 2)
    whole = columns.sum(axis=3).max(axis=(1, 2)) / (v.n * w.n)
    return np.sqrt(np.maximum(whole, np.maximum(rows.max(axis=(1, 2)) / w.n, columns.max(axis=(1, 2, 3)) / v.n)))


def _sums_of(a: Any, by: tuple[int, int]) -> Any:
    """Sums over blocks of `by` pixels down and across."""
    for axis, step in enumerate(by, 1):
        length = a.shape[axis]
        found = np.zeros(_cut(a.shape, axis, -(-length // step)), a.dtype)
        for first in range(step):
            count = -(-(length - first) // step)
            inside = found[_slice(axis, 0, count, 1)]
            np.add(inside, a[_slice(axis, first, count, step)], out=inside)
        a = found
    return a


def _slice(axis: int, first: int, count: int, step: int) -> tuple[slice, ...]:
    """So many places along an axis."""
    return (*[slice(None)] * axis, slice(first, first + max(count - 1, 0) * step + (count > 0), step))


def _cut(shape: tuple[int, ...], axis: int, count: int) -> tuple[int, ...]:
    return (*shape[:axis], count, *shape[axis + 1 :])


def block_size(high: int, wide: int, channels: int) -> tuple[int, int]:
    """Pixels of a block, down and across: as many as leave COARSE_PRODUCTS for each pixel and filter."""
    area = math.sqrt(high * wide * channels / COARSE_PRODUCTS)
    down = max(1, min(int(math.sqrt(area)), high // LEAST_BLOCKS))
    return down, max(1, min(round(area / down), wide // LEAST_BLOCKS))


class Windows:
    """Which results are certain, by blocks: a lower bound of ``sum |a||b|`` over their windows beside the error."""

    def __init__(self, of: Correlation, threads: int) -> None:
        filters = np.abs(of.filters)[None]
        self.finite = bool(np.isfinite(of.a).all())
        self._pixels = np.ascontiguousarray(of.a)
        self._filters, self._shape = filters.reshape(*filters.shape[:3], -1), of.filters.shape
        self._groups, self._threads = of.groups, threads
        self.by = block_size(*of.filters.shape[:3])
        self.first = [-place // by for place, by in zip(of.before, self.by)]
        last = [(count - 1 - place) // by for count, place, by in zip(of.size, of.before, self.by)]
        self._count = [end - start + 1 for start, end in zip(self.first, last)]

    def uncertain(self, error: Any, tolerance: float) -> Any:
        """Blocks of results that may be off by more than `tolerance` times their sums: (images, down, across)."""
        enough = np.maximum(error / tolerance, LEAST)
        bright = self._bright(enough) if self.finite else np.zeros(1, bool)
        if bright.mean() >= 1 - PATCHED:  # some corners are patched faster than looked at again
            return ~bright
        enough = enough[:, None, None, :].astype(np.float32)
        certain = bright[..., None] | self._large(self.by_pixels, enough)
        if certain.mean() < 1 - PATCHED:
            certain |= self._large(self.by_filters, enough)
        bad: Any = ~certain.all(axis=-1)
        return bad if self.finite else bad | self._sees_what_is_not_finite

    def _bright(self, enough: Any) -> Any:
        """Blocks whose windows hold so much that the filters' small numbers cannot hide it: (images, down, across).

        If `few` numbers of a filter are below a threshold, a window's sum of products is at least the threshold times
        the window's sum of pixels without its `few` largest ones.
        """
        largest = np.maximum(self._pixels.max(axis=(1, 2), initial=0), -self._pixels.min(axis=(1, 2), initial=0))
        largest = largest.reshape(len(enough), self._groups, -1).max(axis=2)
        needed = np.full((len(enough), self._groups), np.inf)
        per_group = enough.reshape(len(enough), self._groups, -1)
        for threshold, few in self._small:
            with_few = per_group / threshold + few * largest[:, :, None]
            needed = np.minimum(needed, with_few.max(axis=2))
        needed += 1e-12 * self._pixel_sums.sum(dtype=np.float64)  # the rounding of sums beside large ones
        enough_light = self._brightness > 1.001 * needed[:, None, None, :].astype(np.float32)
        return enough_light[..., 0] if self._groups == 1 else enough_light.all(axis=3)

    @functools.cached_property
    def _small(self) -> list[tuple[Any, Any]]:
        """Thresholds, and how many numbers of each filter are below them: (groups, filters of a group)."""
        filters = self._filters.reshape(-1, self._groups, self._shape[3] // self._groups)
        mean = filters.mean(axis=0, dtype=np.float64)
        return [(mean * 0.5**halves, (filters < mean * 0.5**halves).sum(axis=0)) for halves in range(1, 7)]

    @functools.cached_property
    def _brightness(self) -> Any:
        """The sum of pixels that all windows of a block see: (images, down, across, groups)."""
        sums = self._pixel_sums
        sums = sums.reshape(*sums.shape[:3], self._groups, -1).sum(axis=4)
        first = [first + (by > 1) for first, by in zip(self.first, self.by)]
        taps = [reach if by == 1 else reach // by - 1 for reach, by in zip(self._shape, self.by)]  # whole blocks
        return _passes.box_sums(sums, first, self._count, taps)

    @functools.cached_property
    def _pixel_sums(self) -> Any:
        return _passes.sums_of_magnitudes(self._pixels, self.by)

    @staticmethod
    def _large(sums: Any, enough: Any) -> Any:
        return (sums > enough) & (sums < np.inf)

    @functools.cached_property
    def by_pixels(self) -> Any:
        """The filters' sums over blocks, times the least pixel that a block of windows shows them."""
        return self._sums(_passes.least_magnitudes(self._pixels, self.by), _sums_of(self._filters, self.by))

    @functools.cached_property
    def by_filters(self) -> Any:
        """The pixels' sums over blocks, times the least number of the filters that meets them."""
        filters = self._filters
        for axis, by in enumerate(self.by, 1):
            filters = fitted(filters, axis, by - 1, filters.shape[axis] + 3 * by)
        return self._sums(self._pixel_sums, _passes.least_magnitudes(np.ascontiguousarray(filters), self.by))

    @functools.cached_property
    def _sees_what_is_not_finite(self) -> Any:
        """Blocks of which some window holds a pixel that is not finite."""
        spoilt = (~np.isfinite(self._pixels)).any(axis=-1, keepdims=True).astype(np.float32)
        spoilt = _sums_of(spoilt, self.by)
        taps = [-(-(reach + by - 1) // by) for reach, by in zip(self._shape, self.by)]
        return self._correlated(spoilt, np.ones((*taps, 1, 1), np.float32), 1)[..., 0] > 0

    def _sums(self, pixels: Any, filters: Any) -> Any:
        """The coarse correlation, whose sums belong to blocks of windows."""
        filters = np.ascontiguousarray(filters).reshape(*filters.shape[1:3], *self._shape[2:])
        return self._correlated(pixels, filters, self._groups)

    def _correlated(self, pixels: Any, filters: Any, groups: int) -> Any:
        for axis, (first, count, taps) in enumerate(zip(self.first, self._count, filters.shape), 1):
            pixels = fitted(pixels, axis, -first, count + taps - 1)
        g = conv_geometry(pixels.shape, filters.shape, groups=groups)
        return _cpu.conv2d(np.ascontiguousarray(pixels), filters, None, g, algorithm="direct", threads=self._threads)
