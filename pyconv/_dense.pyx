# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Dense layers of the backends `serial` and `multicore`: by SciPy's BLAS in panels, or by kernels of our own.

These are for few examples and for many zeros: decisions 6, 11 and 50 say why. Products of stacks of complex matrices
are here too, for convolution by transforms.
"""

import functools

import numpy as np
import threadpoolctl

from cython.parallel cimport prange
from scipy.linalg.cython_blas cimport cgemm, dgemm, dgemv, sgemm, sgemv, zgemm

from ._plans cimport float_control, kernels_for, plan, plan_fn, pointer, pyconv_flush_subnormals, pyconv_set_control
from ._plans cimport result, run_plan, threads_for

from ._plans import has_openmp
from .errors import InputError


@functools.cache
def _cap_blas():
    """Keep SciPy's BLAS on the calling thread: pyconv starts the threads, and BLAS's own would compete with them."""
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
    int along_m, panels, panel      # whether it is cut into panels along m (else n); panels; size of one
    bint add


cdef enum:
    SUMMED = 1 << 12        # most products that one call of BLAS adds up if BLAS would add them one by one


cdef void _panel_part(const product *p, int index, ptrdiff_t from_k, int k, bint add) noexcept nogil:
    """One panel of c = a b (+ c), over `k` products from `from_k` on. BLAS is column-major: it computes b' a'."""
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
    if p.m == 1:        # one image: a product of matrices would first copy all weights
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
    """One panel, with subnormal numbers as zero on the thread that runs it. If there are few rows or columns, BLAS adds
    up a long sum one by one: then it is cut into several calls.
    """
    cdef float_control before = pyconv_flush_subnormals()
    cdef ptrdiff_t from_k = 0
    cdef int k = SUMMED if p.k > 4 * SUMMED and min(p.m, p.n) <= 4 else p.k
    while from_k < p.k:
        _panel_part(p, index, from_k, <int> min(<ptrdiff_t> k, p.k - from_k), p.add or from_k > 0)
        from_k += k
    pyconv_set_control(before)


cdef int _cut(product *p, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, bint is_double) except -1:
    """Cut a product into panels that depend on the shape alone: threads do not change the bits."""
    _cap_blas()
    if max(m, n, k) > 2**31 - 1:
        raise InputError(f"a dense layer's sizes must be below 2**31, not {max(m, n, k)}")
    cdef Py_ssize_t size = max(m, n)
    p.is_double = is_double
    p.m, p.n, p.k = <int> m, <int> n, <int> k
    p.along_m = m >= n
    p.panel = <int> max(64, (size + 15) // 16)
    p.panels = <int> ((size + p.panel - 1) // p.panel)
    return 0


cdef double _cycles(const product *p) noexcept:
    return 2.0 * p.m * p.n * p.k / 32


cdef _multiply(a, b, bint a_transposed, bint b_transposed, out, int threads):
    """``out = a b``, by BLAS."""
    cdef product p
    cdef Py_ssize_t m = out.shape[0], n = out.shape[1], k = a.shape[0] if a_transposed else a.shape[1]
    cdef int index, used
    _cut(&p, m, n, k, out.dtype == np.float64)
    if m == 0 or n == 0:
        return out
    p.add = k == 0 or m == 1        # BLAS may leave in place what it should multiply by zero
    if p.add:
        out[...] = 0
    if k == 0:
        return out
    p.a_transposed, p.b_transposed = a_transposed, b_transposed
    p.a, p.b, p.c = pointer(a), pointer(b), pointer(out)
    used = threads_for(_cycles(&p), p.panels, threads) if has_openmp else 1
    with nogil:
        if used == 1:
            for index in range(p.panels):
                _panel(&p, index)
        else:
            for index in prange(p.panels, num_threads=used, schedule="dynamic"):
                _panel(&p, index)
    return out


cdef bint _skip_zeros(plan_fn product, weight_shape, errors, a, b, out, int threads) except -1:
    """Compute a product of a dense layer's gradients by ``_kernels/sparse_dense.h``, if at most 0.7 of the `errors` are
    not zero; above it BLAS is faster. A few thousand numbers are looked at. Returns False if nothing was computed: the
    caller then computes the whole product. So it is too if the other factor is not finite, because zero times NaN is
    NaN.
    """
    cdef plan p
    cdef int not_finite = 0
    p.g.n = a.shape[0]
    p.g.c, p.g.k = weight_shape
    if not product(&p):
        return False
    some = errors.reshape(-1)
    some = some[:: _step(some.size)]
    if np.count_nonzero(some) > 0.7 * some.size:
        return False
    p.a, p.b, p.bias, p.out, p.out2 = pointer(a), pointer(b), NULL, pointer(out), &not_finite
    run_plan(&p, threads)
    return not not_finite


cdef Py_ssize_t _step(Py_ssize_t size) noexcept nogil:
    """How far apart the numbers are that are looked at: an odd step reaches every unit or channel."""
    return max(size // 4096, 1) | 1


# The forward pass is a plan, whose run function is here: `own` holds a `layer`, and `c` is the kernel's plan that skips
# zeros, or NULL. If there is one, `shared` begins with two ints, whether zeros are skipped, and whether a weight is not
# finite; stage 0 finds out the first, stages 1 and 2 are the kernel's, and stage 3 is the whole product.

cdef struct layer:
    Py_ssize_t is_double, m, n, k, along_m, panels, panel, add      # as in `product`
    Py_ssize_t numbers, step        # of the input; how far apart those are that are looked at


cdef enum:
    HEAD = 64
    IN_L2 = 1 << 18         # bytes

cdef double _most = 0.55


def _set_most(most):
    """Skip zeros if at most this share of the input is not zero; None for the default. For tests."""
    global _most
    _most = 0.55 if most is None else most


cdef bint _few(const plan *p) noexcept nogil:
    """Whether so many of the input's numbers are zero that skipping them pays."""
    cdef const layer *d = <const layer *> p.own
    cdef const float *x = <const float *> p.a
    cdef const double *wide = <const double *> p.a
    cdef Py_ssize_t i = 0, count = 0, looked = (d.numbers + d.step - 1) // d.step
    while i < d.numbers:
        count += wide[i] != 0 if d.is_double else x[i] != 0
        i += d.step
    return count <= _most * looked


cdef void _layer_panel(const plan *p, int index) noexcept nogil:
    """One panel of the result, from bias to ReLU."""
    cdef const layer *d = <const layer *> p.own
    cdef product whole
    whole.is_double, whole.m, whole.n, whole.k = d.is_double, <int> d.m, <int> d.n, <int> d.k
    whole.a_transposed = whole.b_transposed = False
    whole.along_m, whole.panels, whole.panel = <int> d.along_m, <int> d.panels, <int> d.panel
    cdef int first = index * whole.panel
    cdef Py_ssize_t row, i, from_row = 0, to_row = whole.m, start = 0, width = whole.n
    cdef bint filled = p.bias != NULL or d.add
    cdef float *y
    cdef double *wide
    whole.a, whole.b, whole.c = p.a, p.b, p.out
    if whole.along_m:
        from_row, to_row = first, min(first + whole.panel, whole.m)
    else:
        start, width = first, min(whole.panel, whole.n - first)
    for row in range(from_row, to_row if filled else from_row):
        y = <float *> p.out + row * whole.n + start
        wide = <double *> p.out + row * whole.n + start
        if whole.is_double:
            for i in range(width):
                wide[i] = (<const double *> p.bias)[start + i] if p.bias != NULL else 0
        else:
            for i in range(width):
                y[i] = (<const float *> p.bias)[start + i] if p.bias != NULL else 0
    whole.add = filled
    _panel(&whole, index)
    for row in range(from_row, to_row if p.relu else from_row):
        y = <float *> p.out + row * whole.n + start
        wide = <double *> p.out + row * whole.n + start
        if whole.is_double:
            for i in range(width):
                wide[i] = 0 if wide[i] < 0 else wide[i]
        else:
            for i in range(width):
                y[i] = 0 if y[i] < 0 else y[i]


cdef void _layer_run(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) noexcept nogil:
    cdef int *head = <int *> shared
    cdef plan sparse
    if p.c == NULL:
        _layer_panel(p, <int> item)
    elif stage == 0:
        head[0], head[1] = _few(p), 0
    elif stage == 3:
        if not head[0] or head[1]:
            _layer_panel(p, <int> item)
    elif head[0]:
        sparse = (<const plan *> p.c)[0]
        sparse.a, sparse.out, sparse.out2 = p.a, p.out, &head[1]
        sparse.run(&sparse, stage - 1, item, <char *> shared + HEAD, scratch)


cdef int plan_dense(plan *p, plan *sparse, x, weight, bias, bint relu, y) except -1:
    """Complete the plan of :func:`dense`, with its operands; it may read `sparse`, which must outlive it."""
    cdef layer *d = <layer *> p.own
    cdef product whole
    _cut(&whole, x.shape[0], weight.shape[1], x.shape[1], x.dtype == np.float64)
    p.a, p.b, p.bias, p.out, p.c = pointer(x), pointer(weight), pointer(bias), pointer(y), NULL
    p.g.n, p.g.c, p.g.k = whole.m, whole.k, whole.n
    p.relu, p.prepared = relu, 0
    # One example with few weights, which stay in the L2 cache, or with one unit: BLAS is as fast, or faster.
    if (whole.m > 1 or (whole.n > 1 and weight.nbytes >= IN_L2)) and kernels_for(x).few_examples(p):
        return 0
    d.is_double, d.m, d.n, d.k = whole.is_double, whole.m, whole.n, whole.k
    d.along_m, d.panels, d.panel = whole.along_m, whole.panels, whole.panel
    d.add = d.k == 0 or d.m == 1        # BLAS may leave in place what it should multiply by zero
    d.numbers, d.step = x.size, _step(x.size)
    p.shared_bytes, p.scratch_bytes = 0, 0
    p.cycles = _cycles(&whole)
    p.run = _layer_run
    sparse.g.n, sparse.g.c, sparse.g.k = d.m, d.k, d.n
    sparse.relu = relu
    if not kernels_for(x).sparse_forward(sparse):
        p.stages = 1
        p.items[0] = d.panels
        return 0
    sparse.b, sparse.bias = p.b, p.bias
    p.c = sparse
    p.stages = 4
    p.items[0], p.items[1], p.items[2], p.items[3] = 1, sparse.items[0], sparse.items[1], d.panels
    p.shared_bytes, p.scratch_bytes = HEAD + sparse.shared_bytes, sparse.scratch_bytes
    return 0


def dense(x, weight, bias, *, activation=None, int threads=1, out=None):
    """``activation(x w + b)``, ``(N, units)``; `weight` is ``(inputs, units)``."""
    cdef plan p, sparse
    y = result(out, (x.shape[0], weight.shape[1]), x.dtype)
    if y.size:
        plan_dense(&p, &sparse, x, weight, bias, activation == "relu", y)
        run_plan(&p, threads)
    return y


def dense_input_grad(grad_out, weight, *, int threads=1, out=None):
    """``dx = dy w'``, ``(N, inputs)``."""
    gx = result(out, (grad_out.shape[0], weight.shape[0]), grad_out.dtype)
    if _skip_zeros(kernels_for(gx).sparse_input_grad, weight.shape, grad_out, grad_out, weight, gx, threads):
        return gx
    return _multiply(grad_out, weight, False, True, gx, threads)


def dense_weight_grad(x, grad_out, *, int threads=1, out=None):
    """``dw = x' dy``, ``(inputs, units)``."""
    gw = result(out, (x.shape[1], grad_out.shape[1]), x.dtype)
    if _skip_zeros(kernels_for(gw).sparse_weight_grad, gw.shape, grad_out, x, grad_out, gw, threads):
        return gw
    return _multiply(x, grad_out, True, False, gw, threads)


# Stacks of complex matrices -----------------------------------------------------------------------------------------

ctypedef fused real:
    float
    double


cdef void _small_products(
    const real *a, const real *b, real *c, Py_ssize_t count, int m, int n, int k, bint a_turned, bint b_turned
) noexcept nogil:
    """Products of matrices too small for a call of BLAS; a complex number is two of `real`."""
    cdef Py_ssize_t a_row = 1 if a_turned else k, a_step = m if a_turned else 1
    cdef Py_ssize_t b_column = k if b_turned else 1, b_step = 1 if b_turned else n
    cdef Py_ssize_t _each, i, j, p, x, y
    cdef real re, im
    for _each in range(count):
        for i in range(m):
            for j in range(n):
                re, im = 0, 0
                for p in range(k):
                    x, y = 2 * (i * a_row + p * a_step), 2 * (j * b_column + p * b_step)
                    re = re + a[x] * b[y] - a[x + 1] * b[y + 1]
                    im = im + a[x] * b[y + 1] + a[x + 1] * b[y]
                c[0], c[1] = re, im
                c += 2
        a += 2 * <Py_ssize_t> m * k
        b += 2 * <Py_ssize_t> k * n


cdef int SMALL = 64         # most products of a small matrix


def stack_product(a, b, *, bint a_turned=False, bint b_turned=False):
    """``a @ b`` of each pair of matrices of two stacks, contiguous (count, rows, columns), complex64 or complex128.

    With `a_turned` the stack `a` holds the transposed matrices, and so with `b_turned`. On the calling thread.
    """
    _cap_blas()
    cdef Py_ssize_t count = a.shape[0], _each
    cdef int m = a.shape[2] if a_turned else a.shape[1], k = a.shape[1] if a_turned else a.shape[2]
    cdef int n = b.shape[1] if b_turned else b.shape[2]
    out = np.empty((count, m, n), a.dtype)
    cdef bint is_double = a.dtype == np.complex128
    cdef char *x = <char *> pointer(a)
    cdef char *y = <char *> pointer(b)
    cdef char *z = <char *> pointer(out)
    cdef char *ta = b"T" if a_turned else b"N"
    cdef char *tb = b"T" if b_turned else b"N"
    cdef int lda = m if a_turned else k, ldb = k if b_turned else n
    cdef Py_ssize_t size = 16 if is_double else 8
    cdef float complex one_f = 1, zero_f = 0
    cdef double complex one_d = 1, zero_d = 0
    with nogil:
        if m * n * k <= SMALL and is_double:
            _small_products(<double *> x, <double *> y, <double *> z, count, m, n, k, a_turned, b_turned)
        elif m * n * k <= SMALL:
            _small_products(<float *> x, <float *> y, <float *> z, count, m, n, k, a_turned, b_turned)
        else:
            for _each in range(count):      # BLAS is column-major: it computes b' a'
                if is_double:
                    zgemm(tb, ta, &n, &m, &k, &one_d, <double complex *> y, &ldb, <double complex *> x, &lda,
                          &zero_d, <double complex *> z, &n)
                else:
                    cgemm(tb, ta, &n, &m, &k, &one_f, <float complex *> y, &ldb, <float complex *> x, &lda,
                          &zero_f, <float complex *> z, &n)
                x += size * m * k
                y += size * k * n
                z += size * m * n
    return out
