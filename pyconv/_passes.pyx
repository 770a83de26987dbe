# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Passes over an image that the check of transforms makes, each in one go instead of NumPy's several."""

import numpy as np

from cython cimport floating
from libc.math cimport fabs, fabsf


cdef inline floating _magnitude(floating x) noexcept nogil:
    if floating is float:
        return fabsf(x)
    else:
        return fabs(x)


cdef void _least(const floating[:, :, :, ::1] a, floating[:, :, :, ::1] out, floating[::1] row,
                 Py_ssize_t down, Py_ssize_t across) noexcept nogil:
    cdef Py_ssize_t n, i, j, c, at, k, last
    cdef Py_ssize_t images = a.shape[0], height = a.shape[1], width = a.shape[2], channels = a.shape[3]
    cdef Py_ssize_t rows = max(height - down + 1, 0) // down
    cdef Py_ssize_t columns = max(width - across + 1, 0) // across
    cdef const floating *pixels
    cdef floating *least = &row[0]
    cdef floating *found
    cdef floating x
    for n in range(images):
        for i in range(rows):
            pixels = &a[n, i * down, 0, 0]
            for at in range(width * channels):
                least[at] = _magnitude(pixels[at])
            for k in range(i * down + 1, i * down + 2 * down - 1):
                pixels = &a[n, k, 0, 0]
                for at in range(width * channels):
                    x = _magnitude(pixels[at])
                    least[at] = x if x < least[at] else least[at]
            found = &out[n, i, 0, 0]
            for j in range(columns):
                for c in range(channels):
                    at = j * across * channels + c
                    last = at + (2 * across - 2) * channels
                    x = least[at]
                    while at < last:
                        at += channels
                        x = least[at] if least[at] < x else x
                    found[j * channels + c] = x


def least_magnitudes(const floating[:, :, :, ::1] a, by):
    """The least magnitudes over ``2 by - 1`` pixels down and across, from every `by`-th on.

    A number that is not finite may be left out.

    Parameters
    ----------
    a : (N, H, W, C) float32 or float64 ndarray
    by : (int, int)

    Returns
    -------
    (N, ceil(H / by), ceil(W / by), C) ndarray
        Zero at the end of the images, where there are fewer pixels.
    """
    cdef Py_ssize_t down = by[0], across = by[1]
    dtype = np.float32 if floating is float else np.float64
    shape = (a.shape[0], (a.shape[1] + down - 1) // down, (a.shape[2] + across - 1) // across, a.shape[3])
    found = np.zeros(shape, dtype)
    row = np.empty(max(a.shape[2] * a.shape[3], 1), dtype)
    cdef floating[:, :, :, ::1] out = found
    cdef floating[::1] kept = row
    if found.size:
        with nogil:
            _least(a, out, kept, down, across)
    return found


cdef void _blocks(const floating[:, :, :, ::1] a, floating[:, :, :, ::1] out, floating[::1] row,
                  Py_ssize_t down, Py_ssize_t across) noexcept nogil:
    cdef Py_ssize_t n, i, j, c, at, k, last
    cdef Py_ssize_t height = a.shape[1], width = a.shape[2], channels = a.shape[3]
    cdef const floating *pixels
    cdef floating *sums = &row[0]
    cdef floating *found
    cdef floating total
    for n in range(a.shape[0]):
        for i in range(out.shape[1]):
            pixels = &a[n, i * down, 0, 0]
            for at in range(width * channels):
                sums[at] = _magnitude(pixels[at])
            for k in range(i * down + 1, min(i * down + down, height)):
                pixels = &a[n, k, 0, 0]
                for at in range(width * channels):
                    sums[at] += _magnitude(pixels[at])
            for j in range(out.shape[2]):
                found = &out[n, i, j, 0]
                last = min(j * across + across, width) * channels
                for c in range(channels):
                    total = 0
                    at = j * across * channels + c
                    while at < last:
                        total += sums[at]
                        at += channels
                    found[c] = total


def sums_of_magnitudes(const floating[:, :, :, ::1] a, by):
    """The sums of magnitudes over blocks of `by` pixels down and across.

    Parameters
    ----------
    a : (N, H, W, C) float32 or float64 ndarray
    by : (int, int)

    Returns
    -------
    (N, ceil(H / by), ceil(W / by), C) ndarray
    """
    cdef Py_ssize_t down = by[0], across = by[1]
    dtype = np.float32 if floating is float else np.float64
    shape = (a.shape[0], (a.shape[1] + down - 1) // down, (a.shape[2] + across - 1) // across, a.shape[3])
    found = np.zeros(shape, dtype)
    row = np.empty(max(a.shape[2] * a.shape[3], 1), dtype)
    cdef floating[:, :, :, ::1] out = found
    cdef floating[::1] kept = row
    if found.size:
        with nogil:
            _blocks(a, out, kept, down, across)
    return found


cdef void _boxes(const floating[:, :, :, ::1] a, float[:, :, :, ::1] out, double[::1] row,
                 Py_ssize_t[2] first, Py_ssize_t[2] taps) noexcept nogil:
    cdef Py_ssize_t n, i, j, c, at, k, wide = a.shape[2] * a.shape[3], channels = a.shape[3]
    cdef double *sums = &row[0]
    cdef const floating *pixels
    cdef double total
    for n in range(out.shape[0]):
        for at in range(wide):
            sums[at] = 0
        for k in range(max(first[0], 0), min(first[0] + taps[0] - 1, a.shape[1])):
            pixels = &a[n, k, 0, 0]
            for at in range(wide):
                sums[at] += pixels[at]
        for i in range(out.shape[1]):
            k = first[0] + i + taps[0] - 1
            if 0 <= k < a.shape[1]:
                pixels = &a[n, k, 0, 0]
                for at in range(wide):
                    sums[at] += pixels[at]
            for c in range(channels):
                total = 0
                for k in range(max(first[1], 0), min(first[1] + taps[1] - 1, a.shape[2])):
                    total += sums[k * channels + c]
                for j in range(out.shape[2]):
                    k = first[1] + j + taps[1] - 1
                    if 0 <= k < a.shape[2]:
                        total += sums[k * channels + c]
                    out[n, i, j, c] = <float> total
                    k = first[1] + j
                    if 0 <= k < a.shape[2]:
                        total -= sums[k * channels + c]
            k = first[0] + i
            if 0 <= k < a.shape[1]:
                pixels = &a[n, k, 0, 0]
                for at in range(wide):
                    sums[at] -= pixels[at]


def box_sums(const floating[:, :, :, ::1] a, first, count, taps):
    """Sums over boxes of `taps` numbers down and across, one box beginning at each place.

    Parameters
    ----------
    a : (N, H, W, C) float32 or float64 ndarray
        With zeros around it.
    first, count, taps : (int, int)
        The first place, which may be negative, how many places there are, and numbers of a box; down and across.

    Returns
    -------
    (N, *count, C) float32 ndarray
        Beside its own rounding, a sum may have that of the largest sum, in float64.
    """
    cdef Py_ssize_t[2] start = [first[0], first[1]]
    cdef Py_ssize_t[2] length = [taps[0], taps[1]]
    found = np.zeros((a.shape[0], *count, a.shape[3]), np.float32)
    row = np.empty(max(a.shape[2] * a.shape[3], 1))
    cdef float[:, :, :, ::1] out = found
    cdef double[::1] kept = row
    if found.size and a.size and min(taps) > 0:
        with nogil:
            _boxes(a, out, kept, start, length)
    return found


cdef void _sums(const floating[:, ::1] numbers, floating[::1] out) noexcept nogil:
    cdef Py_ssize_t i, j, m = numbers.shape[1] // 2
    cdef const floating *row
    cdef floating *sums = &out[0]
    for i in range(numbers.shape[0]):
        row = &numbers[i, 0]
        for j in range(m):
            sums[j] += row[2 * j] * row[2 * j] + row[2 * j + 1] * row[2 * j + 1]


def squares_down(const floating[:, ::1] numbers):
    """Sums of the squared magnitudes of complex numbers down each column.

    Parameters
    ----------
    numbers : (rows, 2 m) float32 or float64 ndarray
        Complex numbers as pairs.

    Returns
    -------
    (m,) ndarray
    """
    found = np.zeros(numbers.shape[1] // 2, np.float32 if floating is float else np.float64)
    cdef floating[::1] out = found
    if numbers.size:
        with nogil:
            _sums(numbers, out)
    return found
