# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Algorithm 2 of the paper: convolution as the literal loop nest, and its two gradients.

    y[n, r, s, k]    = b[k] + sum over i, j, c of  x[n, r sh + i dh - pt, s sw + j dw - pl, c] w[i, j, c, k]
    dx[n, p, q, c]   = sum over i, j, k of         dy[n, r, s, k] w[i, j, c, k]   where r sh + i dh - pt = p, likewise q
    dw[i, j, c, k]   = sum over n, r, s of         x[n, r sh + i dh - pt, s sw + j dw - pl, c] dy[n, r, s, k]

Kept to be read, and as the baseline of all speed-ups: nothing is tiled, packed or vectorised by hand. Each output
number is one sum in one order. Rows of products are added up in float64, so that a sum of millions keeps its digits.
The output rows are divided among the threads.

Source: Chavan and Kulkarni, *Parallelization of Deep Convolutional Neural Network*, section 3B, Algorithm 2.
"""

from cython cimport floating
from cython.parallel cimport prange

from ._plans cimport float_control, pyconv_flush_subnormals, pyconv_set_control


def forward(const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] weight, const floating[::1] bias, g,
            bint relu, int threads, floating[:, :, :, ::1] y):
    """Fill `y`, ``(N, OH, OW, K)``; `bias` may be None; `g` is a `ConvGeometry` and all arrays fit it."""
    cdef Py_ssize_t h = g.h, w = g.w, kh = g.kh, kw = g.kw, sh = g.sh, sw = g.sw, pt = g.pt, pl = g.pl
    cdef Py_ssize_t dh = g.dh, dw = g.dw, oh = g.oh, ow = g.ow, c_group = g.c // g.groups, k_group = g.k // g.groups
    cdef Py_ssize_t filters = g.k, rows = g.n * g.oh
    cdef Py_ssize_t row, n, r, s, k, i, j, c, p, q, first
    cdef bint has_bias = bias is not None
    cdef double total
    cdef floating part
    cdef float_control before
    for row in prange(rows, nogil=True, num_threads=threads, schedule="static"):
        before = pyconv_flush_subnormals()
        n = row // oh
        r = row % oh
        for s in range(ow):
            for k in range(filters):
                first = k // k_group * c_group          # the group's first input channel
                total = bias[k] if has_bias else 0
                for i in range(kh):
                    p = r * sh + i * dh - pt
                    if p < 0 or p >= h:
                        continue
                    part = 0
                    for j in range(kw):
                        q = s * sw + j * dw - pl
                        if q < 0 or q >= w:
                            continue
                        for c in range(c_group):
                            part = part + x[n, p, q, first + c] * weight[i, j, c, k]
                    total = total + part
                y[n, r, s, k] = 0 if relu and total < 0 else <floating> total
        pyconv_set_control(before)


def input_grad(const floating[:, :, :, ::1] dy, const floating[:, :, :, ::1] weight, g,
               int threads, floating[:, :, :, ::1] dx):
    """Fill `dx`, ``(N, H, W, C)``."""
    cdef Py_ssize_t h = g.h, w = g.w, kh = g.kh, kw = g.kw, sh = g.sh, sw = g.sw, pt = g.pt, pl = g.pl
    cdef Py_ssize_t dh = g.dh, dw = g.dw, oh = g.oh, ow = g.ow, c_group = g.c // g.groups, k_group = g.k // g.groups
    cdef Py_ssize_t channels = g.c, rows = g.n * g.h
    cdef Py_ssize_t row, n, p, q, c, i, j, k, r, s, first
    cdef double total
    cdef floating part
    cdef float_control before
    for row in prange(rows, nogil=True, num_threads=threads, schedule="static"):
        before = pyconv_flush_subnormals()
        n = row // h
        p = row % h
        for q in range(w):
            for c in range(channels):
                first = c // c_group * k_group          # the group's first filter
                total = 0
                for i in range(kh):
                    r = p + pt - i * dh                 # sh times the output row
                    if r < 0 or r % sh or r // sh >= oh:
                        continue
                    part = 0
                    for j in range(kw):
                        s = q + pl - j * dw
                        if s < 0 or s % sw or s // sw >= ow:
                            continue
                        for k in range(k_group):
                            part = part + dy[n, r // sh, s // sw, first + k] * weight[i, j, c % c_group, first + k]
                    total = total + part
                dx[n, p, q, c] = <floating> total
        pyconv_set_control(before)


def weight_grad(const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] dy, g,
                int threads, floating[:, :, :, ::1] dweight):
    """Fill `dweight`, ``(kh, kw, C // groups, K)``."""
    cdef Py_ssize_t images = g.n, h = g.h, w = g.w, kw = g.kw, sh = g.sh, sw = g.sw, pt = g.pt, pl = g.pl
    cdef Py_ssize_t dh = g.dh, dw = g.dw, oh = g.oh, ow = g.ow, c_group = g.c // g.groups, k_group = g.k // g.groups
    cdef Py_ssize_t filters = g.k, rows = g.kh * g.kw * c_group
    cdef Py_ssize_t row, i, j, c, k, n, r, s, p, q, first
    cdef double total
    cdef floating part
    cdef float_control before
    for row in prange(rows, nogil=True, num_threads=threads, schedule="static"):
        before = pyconv_flush_subnormals()
        i = row // (kw * c_group)
        j = row // c_group % kw
        c = row % c_group
        for k in range(filters):
            first = k // k_group * c_group
            total = 0
            for n in range(images):
                for r in range(oh):
                    p = r * sh + i * dh - pt
                    if p < 0 or p >= h:
                        continue
                    part = 0
                    for s in range(ow):
                        q = s * sw + j * dw - pl
                        if q < 0 or q >= w:
                            continue
                        part = part + x[n, p, q, first + c] * dy[n, r, s, k]
                    total = total + part
            dweight[i, j, c, k] = <floating> total
        pyconv_set_control(before)
