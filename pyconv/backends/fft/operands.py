"""The operands of a plan as its transforms take them: (images, height, windows across, width, channels)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...shapes import ConvGeometry
from .sizes import FORWARD, WEIGHT_GRAD, Axis, Plan


def operands(made: Plan, a: Any, b: Any, g: ConvGeometry) -> tuple[Any, Any]:
    """Both operands, with the zeros that dilation, stride and padding put between and around their pixels.

    The sum of a plan is a convolution, which turns its second operand. The forward pass and the filters' gradient are
    correlations, so their second operand is turned first.
    """
    v, w = made.vertical, made.horizontal
    if made.what == WEIGHT_GRAD:
        return _across(_placed(a, v, w), w), _pieces(b, v, w)
    turned = b[::-1, ::-1] if made.what == FORWARD else b
    filters = apart(turned.reshape(1, g.kh, g.kw, -1), v.spread_b, w.spread_b)
    return _across(_placed(apart(a, v.spread_a, w.spread_a), v, w), w), filters[:, :, None]


def apart(a: Any, down: int, across: int) -> Any:
    """`a` with zeros between its pixels."""
    if down == across == 1:
        return a
    n, h, w, c = a.shape
    wide = np.zeros((n, (h - 1) * down + 1, (w - 1) * across + 1, c), a.dtype)
    wide[:, ::down, ::across] = a
    return wide


def fitted(a: Any, axis: int, before: int, length: int) -> Any:
    """`a` with `before` zeros in front along `axis` (or without so many of its numbers), and `length` long."""
    after = length - before - a.shape[axis]
    if before == after == 0:
        return a
    inside, place = [slice(None)] * a.ndim, [slice(None)] * a.ndim
    inside[axis] = slice(max(-before, 0), a.shape[axis] + min(after, 0))
    if after <= 0 and before <= 0:
        return a[tuple(inside)]
    place[axis] = slice(max(before, 0), length - max(after, 0))
    wide = np.zeros((*a.shape[:axis], length, *a.shape[axis + 1 :]), a.dtype)
    wide[tuple(place)] = a[tuple(inside)]
    return wide


def _placed(a: Any, v: Axis, w: Axis) -> Any:
    """`a` with the zeros in front and behind that its windows reach into."""
    for axis, along in ((1, v), (2, w)):
        if along.windows > 1:
            a = fitted(a, axis, along.before, (along.windows - 1) * along.hop + along.size)
    return a


def _across(a: Any, w: Axis) -> Any:
    """The windows across of every row."""
    if w.windows == 1:
        return a[:, :, None]
    windows = np.lib.stride_tricks.sliding_window_view(a, w.size, axis=2)  # their pixels are the last axis
    return windows[:, :, :: w.hop].swapaxes(-1, -2)


def windows_down(a: Any, v: Axis) -> Any:
    """A view of the windows down: (images, windows down, height, windows across, width, channels)."""
    if v.windows == 1:
        return a[:, None]
    strides = (a.strides[0], v.hop * a.strides[1], *a.strides[1:])
    return np.lib.stride_tricks.as_strided(a, (len(a), v.windows, v.size, *a.shape[2:]), strides, writeable=False)


def _pieces(errors: Any, v: Axis, w: Axis) -> Any:
    """The errors in pieces, one for each window of the images, each turned by 180 degrees."""
    n, _, _, k = errors.shape
    high, wide = (-(-axis.reach // axis.spread_b) for axis in (v, w))
    errors = fitted(fitted(errors, 1, 0, v.windows * high), 2, 0, w.windows * wide)
    pieces = errors.reshape(n * v.windows, high, w.windows, wide, k)[:, ::-1, :, ::-1]
    if v.spread_b == w.spread_b == 1:
        return pieces
    apart = np.zeros((n * v.windows, v.reach, w.windows, w.reach, k), errors.dtype)
    apart[:, :: v.spread_b, :, :: w.spread_b] = pieces
    return apart
