# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Dense layers of the backends `serial` and `multicore`: SciPy's BLAS, cut into panels, or a kernel that skips zeros.

Decisions 6 and 11 say why.
"""

import functools

import numpy as np
import threadpoolctl

from cython.parallel cimport prange
from scipy.linalg.cython_blas cimport dgemm, dgemv, sgemm, sgemv

from ._plans cimport float_control, kernels_for, plan, plan_fn, pointer, pyconv_flush_subnormals, pyconv_set_control
from ._plans cimport result, run_plan, threads_for

from ._plans import has_openmp
from ._rows import relu
from .errors import InputError


@functools.cache
def _cap_blas():
    """Keep SciPy's BLAS on the calling thread: threads are shared out here, and its own would fight them."""
    controller = threadpoolctl.ThreadpoolController().select(user_api="blas")
    own = [lib for lib in controller.lib_controllers if "scipy" in lib.filepath] or controller.lib_controllers
    for lib in own:
        lib.set_num_threads(1)


cdef struct product:
    bint is_double
    int m, n, k                     # result (m, n), inner size k, row-major
    bint a_transposed, b_transposed
    const void *a
    const void *b
    void *c
    int along_m, panels, panel      # cut along m or n into panels
    bint add


cdef enum:
    SUMMED = 1 << 12        # products that one call of BLAS adds up where it would do so one after the other


cdef void _panel_part(const product *p, int index, ptrdiff_t from_k, int k, bint add) noexcept nogil:
    """One panel of c = a b (+ c), of the products from `from_k` on. BLAS is column-major: it computes b' a'."""
    cdef int first = index * p.panel, m = p.m, n = p.n, size = 8 if p.is_double else 4
    cdef int lda = p.m if p.a_transposed else p.k, ldb = p.k if p.b_transposed else p.n, ldc = p.n
    cdef size_t a_step = <size_t> from_k * (lda if p.a_transposed else 1), c_step
    cdef size_t b_step = <size_t> from_k * (1 if p.b_transposed else ldb)
    cdef float one_f = 1, beta_f = add
    cdef double one_d = 1, beta_d = add
    if p.along_m:
        m = min(p.panel, p.m - first)
        a_step += <size_t> first * (1 if p.a_transposed else lda)
        c_step = <size_t> first * ldc
    else:
        n = min(p.panel, p.n - first)
        b_step += <size_t> first * (ldb if p.b_transposed else 1)
        c_step = first
    cdef char *a = <char *> p.a + a_step * size
    cdef char *b = <char *> p.b + b_step * size
    cdef char *c = <char *> p.c + c_step * size
    cdef char *ta = b"T" if p.a_transposed else b"N"
    cdef char *tb = b"T" if p.b_transposed else b"N"
    cdef int rows, one = 1
    if p.m == 1:        # of one image; a product of matrices would first copy all weights
        rows = k if p.b_transposed else n
        k = n if p.b_transposed else k
        if p.is_double:
            dgemv(tb, &rows, &k, &one_d, <double *> b, &ldb, <double *> a, &one, &beta_d, <double *> c, &one)
        else:
            sgemv(tb, &rows, &k, &one_f, <float *> b, &ldb, <float *> a, &one, &beta_f, <float *> c, &one)
        return
    if p.is_double:
        dgemm(tb, ta, &n, &m, &k, &one_d, <double *> b, &ldb, <double *> a, &lda, &beta_d, <double *> c, &ldc)
    else:
        sgemm(tb, ta, &n, &m, &k, &one_f, <float *> b, &ldb, <float *> a, &lda, &beta_f, <float *> c, &ldc)


cdef void _panel(const product *p, int index) noexcept nogil:
    """A panel with subnormal numbers taken for zero, on whichever thread it runs. Long sums of a few rows or columns,
    which BLAS makes in one go, are cut.
    """
    cdef float_control before = pyconv_flush_subnormals()
    cdef ptrdiff_t from_k = 0
    cdef int k = SUMMED if p.k > 4 * SUMMED and min(p.m, p.n) <= 4 else p.k
    while from_k < p.k:
        _panel_part(p, index, from_k, <int> min(<ptrdiff_t> k, p.k - from_k), p.add or from_k > 0)
        from_k += k
    pyconv_set_control(before)


cdef _multiply(a, b, bint a_transposed, bint b_transposed, out, bint add, int threads):
    """``out = a b`` (or ``out += a b``), cut into panels by the shape alone, so that threads do not change the bits."""
    _cap_blas()
    cdef product p
    cdef Py_ssize_t m = out.shape[0], n = out.shape[1], k = a.shape[0] if a_transposed else a.shape[1]
    cdef int index, used
    if max(m, n, k) > 2**31 - 1:
        raise InputError(f"a dense layer's sizes must be below 2**31, not {max(m, n, k)}")
    if m == 0 or n == 0:
        return out
    if not add and (k == 0 or m == 1):      # BLAS may leave what it is to multiply by zero
        out[...] = 0
        add = True
    if k == 0:
        return out
    p.is_double = out.dtype == np.float64
    p.m, p.n, p.k = <int> m, <int> n, <int> k
    p.a_transposed, p.b_transposed = a_transposed, b_transposed
    p.a, p.b, p.c = pointer(a), pointer(b), pointer(out)
    p.add = add
    p.along_m = m >= n
    size = max(m, n)
    p.panel = <int> max(64, -(-size // 16))
    p.panels = <int> -(-size // p.panel)
    used = threads_for(2.0 * m * n * k / 32, p.panels, threads) if has_openmp else 1
    with nogil:
        if used == 1:
            for index in range(p.panels):
                _panel(&p, index)
        else:
            for index in prange(p.panels, num_threads=used, schedule="dynamic"):
                _panel(&p, index)
    return out


cdef bint _skip_zeros(
    plan_fn product, weight_shape, sparse, double most, a, b, out, int threads, bias=None, bint rectify=False
) except -1:
    """A product of a dense layer by ``_kernels/sparse_dense.h``, if at `most` that part of `sparse` is not zero:
    above it BLAS is faster. Some thousand numbers stand for all. False if it is not done: the whole product is to be
    computed. So it is too where the other factor is not finite everywhere, for zero times NaN is NaN.
    """
    cdef plan p
    cdef int not_finite = 0
    p.g.n = a.shape[0]
    p.g.c, p.g.k = weight_shape
    p.relu = rectify
    if not product(&p):
        return False
    some = sparse.reshape(-1)
    some = some[:: max(some.size // 4096, 1) | 1]       # an odd step meets every unit or channel
    if np.count_nonzero(some) > most * some.size:
        return False
    p.a, p.b, p.bias, p.out, p.out2 = pointer(a), pointer(b), pointer(bias), pointer(out), &not_finite
    run_plan(&p, threads)
    return not not_finite


def dense(x, weight, bias, *, activation=None, int threads=1, out=None):
    """``activation(x w + b)``, ``(N, units)``; `weight` is ``(inputs, units)``."""
    y = result(out, (x.shape[0], weight.shape[1]), x.dtype)
    cdef bint rectify = activation == "relu"
    if _skip_zeros(kernels_for(x).sparse_forward, weight.shape, x, 0.55, x, weight, y, threads, bias, rectify):
        return y
    if bias is not None:
        y[...] = bias
    _multiply(x, weight, False, False, y, bias is not None, threads)
    if rectify:
        relu(y, threads=threads, out=y)
    return y


def dense_input_grad(grad_out, weight, *, int threads=1, out=None):
    """``dx = dy w'``, ``(N, inputs)``."""
    gx = result(out, (grad_out.shape[0], weight.shape[0]), grad_out.dtype)
    if _skip_zeros(kernels_for(gx).sparse_input_grad, weight.shape, grad_out, 0.7, grad_out, weight, gx, threads):
        return gx
    return _multiply(grad_out, weight, False, True, gx, False, threads)


def dense_weight_grad(x, grad_out, *, int threads=1, out=None):
    """``dw = x' dy``, ``(inputs, units)``."""
    gw = result(out, (x.shape[1], grad_out.shape[1]), x.dtype)
    if _skip_zeros(kernels_for(gw).sparse_weight_grad, gw.shape, grad_out, 0.7, x, grad_out, gw, threads):
        return gw
    return _multiply(x, grad_out, True, False, gw, False, threads)
