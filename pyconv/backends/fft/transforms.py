"""A convolution by transforms, along a plan: rows, then columns with the products between, then rows back.

The columns of a few frequencies at a time go through all three steps, transform, products and the way back, while they
are in the cache. Rows that are zeros are never transformed, and of the result only those that are kept.

The operands are (images, height, width, channels). Between, spectra are (images, height, windows across, frequencies,
channels); a block of columns is (frequencies down, frequencies across, windows, channels), so that the products of each
frequency are products of matrices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ... import _passes
from ...shapes import ConvGeometry
from .blocks import Rows, blocks, blocks_of_rows, each
from .memory import kept
from .operands import windows_down
from .products import PRODUCTS
from .sizes import WEIGHT_GRAD, Axis, Plan

#: Bytes of the images whose columns are in the cache together.
IMAGE_BYTES = 1 << 20

#: Finishes some results: the sums, and the images, rows and columns that they are.
Finish = Callable[[Any, slice, slice, slice], None]


def run(made: Plan, a: Any, b: Any, g: ConvGeometry, threads: int, finish: Finish, measured: bool) -> Any:
    """Compute the operation that `made` is the plan of, and give its rows to `finish`.

    `a` and `b` are, for the forward pass, images and filters; for the input's gradient errors and filters; for the
    filters' gradient images and errors, whose result is one image with ``C // groups * K`` channels: :func:`operands`
    has prepared them.

    Returns
    -------
    array, (images, channels), or None
        Sum of squares over all places of a transform of the result, the largest of an image's windows, if `measured`.
    """
    v, w = made.vertical, made.horizontal
    rows_a, rows_b = _rows("rows_a", a, w, threads), _rows("rows_b", b, w, threads)
    size = ((g.oh, g.ow), (g.h, g.w), (g.kh, g.kw))[made.what]
    energy = None
    if measured:
        shape = (
            (1, g.c // g.groups * g.k)
            if made.what == WEIGHT_GRAD
            else (g.n * v.windows * w.windows, (g.k, g.c)[made.what])
        )
        energy = np.empty((w.n // 2 + 1, *shape))
    _back(_columns(made, rows_a, rows_b, g, energy, threads), w, size, threads, finish)
    return None if energy is None else _largest(energy, made)


def _rows(name: str, a: Any, w: Axis, threads: int) -> Any:
    """Transforms of the rows of (images, height, windows, width, channels)."""
    from scipy.fft import rfft

    n, h, windows, _, c = a.shape
    half = w.n // 2 + 1
    spectra = kept(name, (n, h, windows, half, c), np.result_type(a.dtype, np.complex64))

    def work(rows: Rows) -> None:
        spectra[rows] = rfft(a[rows], w.n, axis=3)

    each(work, blocks_of_rows(n, h, windows * half * c * spectra.itemsize), threads)
    return spectra


def _columns(made: Plan, a: Any, b: Any, g: ConvGeometry, energy: Any, threads: int) -> Any:
    """Columns of both operands, their products, and the columns back: (images, height, windows, frequencies, C)."""
    from scipy.fft import fft, ifft

    v, w = made.vertical, made.horizontal
    n, half, channels_a = g.n, w.n // 2 + 1, a.shape[4]
    channels = (g.k, g.c, g.c // g.groups * g.k)[made.what]
    multiply, summed = PRODUCTS[made.what], made.what == WEIGHT_GRAD
    places = (1, v.count, 1) if summed else (n, v.windows * v.count, w.windows)
    y = kept("back", (*places, half, channels), a.dtype)
    windows = windows_down(a, v)
    b = b.reshape(-1, v.windows if summed else 1, *b.shape[1:])
    column = v.n * a.itemsize
    each_image = column * v.windows * w.windows * channels_a
    together = max(1, IMAGE_BYTES // each_image)

    def transformed(part: Any) -> Any:
        """A block of columns, from (images, windows down, height, windows across, frequencies, channels)."""
        many, down, high, wide, across, c = part.shape
        block = np.zeros((v.n, across, many * down * wide, c), part.dtype)
        block[:high].reshape(high, across, many, down, wide, c)[...] = part.transpose(2, 4, 0, 1, 3, 5)
        return fft(block, axis=0, overwrite_x=True)

    def products(some: slice) -> None:
        filters = None if summed else transformed(b[..., some, :])
        total = None
        for first in range(0, n, together):
            images = slice(first, min(first + together, n))
            block = transformed(windows[images, ..., some, :])
            found = multiply(block, transformed(b[images, ..., some, :]) if summed else filters, g)
            if energy is not None and not summed:
                energy[some, first * v.windows * w.windows :][:, : found.shape[2]] = _squares(found)
            if summed:
                total = found if total is None else np.add(total, found, out=total)
                continue
            found = ifft(found, axis=0, overwrite_x=True)[v.kept]
            place = y[images, ..., some, :].reshape(-1, v.windows, v.count, w.windows, found.shape[1], channels)
            found = found.reshape(v.count, -1, len(place), v.windows, w.windows, channels)
            place[...] = found.transpose(2, 3, 0, 4, 1, 5)
        if summed:
            if energy is not None:
                energy[some] = _squares(total)
            y[0, :, 0, some] = ifft(total, axis=0, overwrite_x=True)[v.kept, :, 0]

    each(products, blocks(half, each_image * min(n, together) + column * b.shape[-1]), threads)
    return y


def _squares(block: Any) -> Any:
    """Sums of squares down the columns: (frequencies across, windows, channels)."""
    return _passes.squares_down(block.view(block.real.dtype).reshape(len(block), -1)).reshape(block.shape[1:])


def _largest(energy: Any, made: Plan) -> Any:
    """The energy over all places, from that of each frequency across: all but the first stand for two."""
    v, w = made.vertical, made.horizontal
    sums = 2 * energy.sum(axis=0) - energy[0] - (energy[-1] if w.n % 2 == 0 else 0)
    images = 1 if made.what == WEIGHT_GRAD else -1
    sums = sums.reshape(images, len(sums) if images == 1 else v.windows * w.windows, sums.shape[-1])
    return sums.max(axis=1) / (v.n * w.n)


def _back(y: Any, w: Axis, size: tuple[int, int], threads: int, finish: Finish) -> None:
    """Rows back from their spectra, to `finish`, without those beyond `size`."""
    from scipy.fft import irfft

    height, width = size
    n, _, windows, half, channels = y.shape

    def work(rows: Rows) -> None:
        images, some = rows
        found = irfft(y[images, some], w.n, axis=3)[:, :, :, w.kept]
        finish(found.reshape(*found.shape[:2], -1, channels)[:, :, :width], images, some, slice(0, width))

    each(work, blocks_of_rows(n, height, windows * half * channels * y.itemsize), threads)
