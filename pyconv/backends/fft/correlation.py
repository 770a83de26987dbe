"""Correlation: the operands of the forward pass, or of the input's gradient, as one correlation of stride 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import _cpu
from ...shapes import ConvGeometry, conv_geometry
from .operands import apart
from .sizes import FORWARD


@dataclass(frozen=True)
class Correlation:
    """``y[p] = sum over t of a[p + t - before] filters[t]``.

    Attributes
    ----------
    a : array, (images, height, width, channels)
        With the zeros of a stride between its pixels, for the input's gradient.
    filters : array, (kh, kw, channels of a group, results)
        With the zeros of a dilation; turned, for the input's gradient.
    before : (int, int)
        Zeros above and to the left of `a`; a negative number leaves out rows or columns.
    size : (int, int)
        Places of the result down and across, before the stride.
    step : (int, int)
        The stride: every `step`-th place is a result.
    groups : int
    """

    a: Any
    filters: Any
    before: tuple[int, int]
    size: tuple[int, int]
    step: tuple[int, int]
    groups: int

    @classmethod
    def of(cls, what: int, a: Any, b: Any, g: ConvGeometry) -> Correlation:
        """That of an operation."""
        if what == FORWARD:
            size = (g.oh - 1) * g.sh + 1, (g.ow - 1) * g.sw + 1
            return cls(a, _apart(b, g), (g.pt, g.pl), size, (g.sh, g.sw), g.groups)
        turned = b[::-1, ::-1].reshape(g.kh, g.kw, g.c // g.groups, g.groups, -1).transpose(0, 1, 4, 3, 2)
        filters = _apart(turned.reshape(g.kh, g.kw, g.k // g.groups, g.c), g)
        before = (g.kh - 1) * g.dh - g.pt, (g.kw - 1) * g.dw - g.pl
        return cls(apart(a, g.sh, g.sw), filters, before, (g.h, g.w), (1, 1), g.groups)

    def seen(self, image: int, rows: slice, columns: slice) -> tuple[Any, list[tuple[int, int]]]:
        """The pixels that some places see, and the zeros around them."""
        inside: list[slice] = []
        around: list[tuple[int, int]] = []
        for places, before, reach, length in zip((rows, columns), self.before, self.filters.shape, self.a.shape[1:3]):
            first, last = places.start - before, places.stop - 1 - before + reach
            inside.append(slice(min(max(first, 0), length), max(min(last, length), 0)))
            around.append((inside[-1].start - first, last - max(inside[-1].stop, inside[-1].start)))
        return self.a[image : image + 1, inside[0], inside[1]], around

    def directly(self, pixels: Any, around: list[tuple[int, int]], threads: int) -> Any:
        """The places that see these pixels, by direct sums."""
        g = conv_geometry(pixels.shape, self.filters.shape, padding=around, groups=self.groups)
        filters = np.ascontiguousarray(self.filters)
        return _cpu.conv2d(np.ascontiguousarray(pixels), filters, None, g, algorithm="direct", threads=threads)


def _apart(b: Any, g: ConvGeometry) -> Any:
    """Filters with the zeros of their dilation."""
    wide = apart(b.reshape(1, g.kh, g.kw, -1), g.dh, g.dw)[0]
    return wide.reshape(*wide.shape[:2], *b.shape[2:])
