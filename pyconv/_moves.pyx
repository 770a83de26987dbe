# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Copies of arrays as plans, for programmes: what NumPy does otherwise."""

import math

from libc.string cimport memcpy, memset

from ._plans cimport plan, pointer

cdef enum:
    ITEM_BYTES = 1 << 16    # that one item copies at least, if there are so many

# In the plan, `own` holds one of these.

cdef struct rows:
    Py_ssize_t count, each              # rows, and those of an item
    Py_ssize_t nbytes, source, target   # of a row, and from one row to the next in both arrays

cdef struct padded:
    Py_ssize_t height, top, whole       # rows of an image, zeros above it, rows of the result's image
    Py_ssize_t nbytes, left, right      # of a row, and of the zeros beside it


cdef void _copy_run(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) noexcept nogil:
    cdef const rows *d = <const rows *> p.own
    cdef Py_ssize_t row
    for row in range(item * d.each, min(item * d.each + d.each, d.count)):
        memcpy(<char *> p.out + row * d.target, <char *> p.a + row * d.source, d.nbytes)


cdef void _pad_run(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) noexcept nogil:
    """One image."""
    cdef const padded *d = <const padded *> p.own
    cdef Py_ssize_t row, line = d.left + d.nbytes + d.right
    cdef char *to = <char *> p.out + item * d.whole * line
    cdef const char *source = <const char *> p.a + item * d.height * d.nbytes
    for row in range(d.whole):
        if row < d.top or row >= d.top + d.height:
            memset(to, 0, line)
        else:
            memset(to, 0, d.left)
            memcpy(to + d.left, source, d.nbytes)
            memset(to + d.left + d.nbytes, 0, d.right)
            source += d.nbytes
        to += line


cdef int plan_copy(plan *p, x, Py_ssize_t count, Py_ssize_t target, y, Py_ssize_t offset) except -1:
    """Complete a plan that copies `x` as `count` rows to `y`, from byte `offset` on, `target` bytes from row to row."""
    cdef rows *d = <rows *> p.own
    d.count, d.nbytes, d.target = count, x.nbytes // max(count, 1), target
    d.source = d.nbytes
    d.each = max(ITEM_BYTES // max(d.nbytes, 1), 1)
    p.stages, p.prepared, p.shared_bytes, p.scratch_bytes = 1, 0, 0, 0
    p.items[0] = (count + d.each - 1) // d.each
    p.cycles = x.nbytes / 8
    p.a, p.out = pointer(x), <char *> pointer(y) + offset
    p.run = _copy_run
    return 0


cdef int plan_pad2d(plan *p, x, padding, y) except -1:
    """Complete the plan of ``_elementwise.pad2d``, with its operands."""
    cdef padded *d = <padded *> p.own
    cdef Py_ssize_t pixel = x.itemsize * x.shape[3]
    (top, bottom), (left, right) = padding
    d.height, d.top, d.whole = x.shape[1], top, x.shape[1] + top + bottom
    d.nbytes, d.left, d.right = x.shape[2] * pixel, left * pixel, right * pixel
    p.stages, p.prepared, p.shared_bytes, p.scratch_bytes = 1, 0, 0, 0
    p.items[0] = x.shape[0]
    p.cycles = math.prod(y.shape) * x.itemsize / 8
    p.a, p.out = pointer(x), pointer(y)
    p.run = _pad_run
    return 0
