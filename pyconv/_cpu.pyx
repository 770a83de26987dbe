# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The backends `serial` and `multicore`: arrays in, plans filled, stages run.

Every function has the signature of :mod:`pyconv.reference`. Arguments arrive validated (:mod:`pyconv.ops`, DESIGN
§8.7): C-contiguous, aligned, of one dtype, fitting the geometry. ``threads=1`` is the serial backend: the same
loop on one thread, with the same bits. The kernels and how they are cut into items are in ``_kernels/plan.h``.
"""

import dataclasses
import functools
import math
import os

import numpy as np
import threadpoolctl

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cython.parallel cimport prange, threadid
from libc.stdlib cimport free
from scipy.linalg.cython_blas cimport dgemm, sgemm

from . import _naive
from .errors import InputError, unknown_name

cdef extern from "stdlib.h" nogil:
    int posix_memalign(void **memory, size_t alignment, size_t size)

cdef extern from *:
    """
    #ifdef _OPENMP
    #define PYCONV_OPENMP 1
    #else
    #define PYCONV_OPENMP 0
    #endif
    """
    const int PYCONV_OPENMP

has_openmp = bool(PYCONV_OPENMP)
narrow_indices = True       # fused max pooling takes indices of one byte, places in the window


# Which kernels ------------------------------------------------------------------------------------------------------

cdef int _isa = 0


def isas():
    """Instruction sets whose kernels this processor can run, the best last."""
    return tuple(pyconv_isa_name(i).decode() for i in range(ISA_COUNT) if pyconv_isa_available(i))


def isa():
    """Name of the instruction set whose kernels run."""
    return pyconv_isa_name(_isa).decode()


def set_isa(name):
    """Run the kernels of instruction set `name` from now on; None for the best. For tests: see `PYCONV_ISA`."""
    global _isa
    if name is None:
        _isa = pyconv_isa_best()
        return
    for i in range(ISA_COUNT):
        if pyconv_isa_name(i).decode() == name and pyconv_isa_available(i):
            _isa = i
            return
    raise unknown_name("instruction set of this processor", name, isas())


set_isa(os.environ.get("PYCONV_ISA") or None)


cdef const kernels *_table(array):
    return pyconv_kernels(_isa, array.dtype == np.float64)


def _compiled_algorithms():
    cdef const algorithm *a = pyconv_kernels(0, 0).algorithms
    names = []
    while a.name != NULL:
        names.append(a.name.decode())
        a += 1
    return tuple(names)


algorithms = ("naive", *_compiled_algorithms())


# Running a plan -----------------------------------------------------------------------------------------------------

# A parallel region costs some microseconds to start: work below this many cycles a thread is not worth one.
cdef double _cycles_per_thread = 20_000


def _set_cycles_per_thread(cycles):
    """Work that is worth a thread; None for the default. For tests, which want threads on tiny arrays."""
    global _cycles_per_thread
    _cycles_per_thread = 20_000 if cycles is None else cycles


# One workspace is kept between calls: fresh memory costs a page fault every 4 KiB. Guarded by the GIL.
cdef void *_kept = NULL
cdef size_t _kept_size = 0
cdef size_t MOST_KEPT = 256 << 20


cdef void *_take(size_t size, size_t *got) except? NULL:
    global _kept, _kept_size
    cdef void *memory = NULL
    if _kept != NULL and _kept_size >= size:
        memory = _kept
        got[0] = _kept_size
        _kept = NULL
        return memory
    if posix_memalign(&memory, 4096, size) != 0:
        raise MemoryError(f"{size} bytes of workspace for a convolution")
    got[0] = size
    return memory


cdef void _give_back(void *memory, size_t size) noexcept:
    global _kept, _kept_size
    if size <= MOST_KEPT and (_kept == NULL or _kept_size < size):
        free(_kept)
        _kept = memory
        _kept_size = size
    else:
        free(memory)


cdef int _threads_for(double cycles, ptrdiff_t items, int threads) noexcept nogil:
    """Threads that are worth starting."""
    cdef double worth = cycles / _cycles_per_thread
    if threads > items:
        threads = <int> items
    if threads > worth:
        threads = <int> worth
    return max(threads, 1)


cdef void _run_stage(const plan *p, int stage, int threads, char *shared, char *scratch) noexcept nogil:
    cdef ptrdiff_t item, items = p.items[stage], chunk
    threads = _threads_for(p.cycles, items, threads)
    if threads == 1:
        for item in range(items):
            p.run(p, stage, item, shared, scratch)
        return
    chunk = max(items // (16 * threads), 1)
    for item in prange(items, num_threads=threads, schedule="dynamic", chunksize=chunk):
        p.run(p, stage, item, shared, scratch + threadid() * p.scratch_bytes)


cdef int _run(const plan *p, int threads) except -1:
    """Run a complete plan whose operands are set."""
    cdef size_t shared = (p.shared_bytes + 63) // 64 * 64, got = 0
    cdef void *memory = NULL
    cdef int stage
    if not has_openmp:
        threads = 1
    if shared + p.scratch_bytes > 0:
        memory = _take(shared + p.scratch_bytes * threads, &got)
    with nogil:
        for stage in range(p.stages):
            _run_stage(p, stage, threads, <char *> memory, <char *> memory + shared)
    if memory != NULL:
        _give_back(memory, got)
    return 0


# Arrays and geometry ------------------------------------------------------------------------------------------------

cdef void *_pointer(array) except? NULL:
    """Address of an array's first number; NULL for None."""
    cdef Py_buffer view
    if array is None:
        return NULL
    PyObject_GetBuffer(array, &view, PyBUF_SIMPLE)      # several times as quick as array.ctypes.data
    PyBuffer_Release(&view)
    return view.buf


cdef _result(out, shape, dtype):
    """`out`, or a fresh array; a large one begins at a multiple of 64 bytes, for stores of whole cache lines."""
    if out is not None:
        return out
    cdef Py_ssize_t count = np.dtype(dtype).itemsize * math.prod(shape)
    if count < 1 << 16:
        return np.empty(shape, dtype)
    memory = np.empty(count + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + count].view(dtype).reshape(shape)


cdef conv _conv(g):
    cdef conv c
    c.n, c.h, c.w, c.c, c.k, c.kh, c.kw = g.n, g.h, g.w, g.c, g.k, g.kh, g.kw
    c.sh, c.sw, c.pt, c.pb, c.pl, c.pr = g.sh, g.sw, g.pt, g.pb, g.pl, g.pr
    c.dh, c.dw, c.groups, c.oh, c.ow = g.dh, g.dw, g.groups, g.oh, g.ow
    return c


cdef pool _pool(g):
    cdef pool q
    q.n, q.h, q.w, q.c, q.kh, q.kw, q.sh, q.sw = g.n, g.h, g.w, g.c, g.kh, g.kw, g.sh, g.sw
    q.pt, q.pb, q.pl, q.pr, q.oh, q.ow = g.pt, g.pb, g.pl, g.pr, g.oh, g.ow
    return q


# Convolution --------------------------------------------------------------------------------------------------------

cdef int _choose(plan *p, int what, const kernels *table, str name) except -1:
    """Complete `p` with algorithm `name`, or with the one whose estimate is lowest for "auto"."""
    cdef const algorithm *a
    cdef plan tried, best
    cdef bint found = False
    if name == "auto":
        a = table.algorithms
        while a.name != NULL:
            tried = p[0]
            if a.plan[what] != NULL and a.plan[what](&tried) and (not found or tried.cycles < best.cycles):
                best = tried
                found = True
            a += 1
        p[0] = best
        return 0
    a = pyconv_algorithm(table, name.encode())
    if a == NULL:
        raise unknown_name("algorithm", name, ("auto", *algorithms))
    if a.plan[what] == NULL or not a.plan[what](p):
        raise InputError(f"algorithm {name!r} does not do this convolution; use 'auto' or 'direct'")
    return 0


def conv2d(x, weight, bias, g, *, activation=None, algorithm="auto", int threads=1, out=None):
    """``y = activation(x * w + b)``, ``(N, OH, OW, K)``."""
    cdef plan p
    y = _result(out, g.output_shape, x.dtype)
    if algorithm == "naive":
        _naive.forward(x, weight, bias, g, activation == "relu", threads, y)
        return y
    p.g = _conv(g)
    p.relu, p.reused = activation == "relu", False
    _choose(&p, FORWARD, _table(x), algorithm)
    p.a, p.b, p.bias, p.out = _pointer(x), _pointer(weight), _pointer(bias), _pointer(y)
    _run(&p, threads)
    return y


def conv2d_input_grad(grad_out, weight, g, *, algorithm="auto", int threads=1, out=None):
    """Gradient for the images, ``(N, H, W, C)``."""
    cdef plan p
    gx = _result(out, g.input_shape, grad_out.dtype)
    if algorithm == "naive":
        _naive.input_grad(grad_out, weight, g, threads, gx)
        return gx
    p.g = _conv(g)
    p.relu, p.reused = 0, False
    _choose(&p, INPUT_GRAD, _table(grad_out), algorithm)
    p.a, p.b, p.bias, p.out = _pointer(grad_out), _pointer(weight), NULL, _pointer(gx)
    _run(&p, threads)
    return gx


def conv2d_weight_grad(x, grad_out, g, *, algorithm="auto", int threads=1, out=None):
    """Gradient for the filters, ``(kh, kw, C // groups, K)``."""
    cdef plan p
    gw = _result(out, g.weight_shape, x.dtype)
    if algorithm == "naive":
        _naive.weight_grad(x, grad_out, g, threads, gw)
        return gw
    p.g = _conv(g)
    p.relu, p.reused = 0, False
    _choose(&p, WEIGHT_GRAD, _table(x), algorithm)
    p.a, p.b, p.bias, p.out = _pointer(x), _pointer(grad_out), NULL, _pointer(gw)
    _run(&p, threads)
    return gw


# Convolution, bias, ReLU and max pooling in one -----------------------------------------------------------------------

cdef struct together:
    plan conv, pool                 # of one batch of images; operands of the first
    ptrdiff_t batches
    size_t conv_in, conv_out, pool_out, indices     # bytes of one batch


cdef void _fused_batch(const together *f, ptrdiff_t batch, char *shared, char *scratch) noexcept nogil:
    """Convolve one batch of images into scratch, where it stays in the cache, and pool it from there."""
    cdef plan conv = f.conv, pool = f.pool
    cdef int last = conv.stages - 1
    cdef ptrdiff_t item
    conv.a = <char *> conv.a + batch * f.conv_in
    conv.out = scratch + conv.scratch_bytes
    for item in range(conv.items[last]):
        conv.run(&conv, last, item, shared, scratch)
    pool.a = conv.out
    pool.out = <char *> pool.out + batch * f.pool_out
    if pool.out2 != NULL:
        pool.out2 = <char *> pool.out2 + batch * f.indices
    for item in range(pool.items[0]):
        pool.run(&pool, 0, item, NULL, NULL)


cdef int _run_fused(const together *f, int threads) except -1:
    cdef size_t shared = (f.conv.shared_bytes + 63) // 64 * 64, got = 0
    cdef size_t scratch = (f.conv.scratch_bytes + f.conv_out + 63) // 64 * 64
    cdef int used = _threads_for(f.conv.cycles * f.batches, f.batches, threads) if has_openmp else 1
    cdef char *memory = <char *> _take(shared + scratch * used, &got)
    cdef ptrdiff_t batch
    cdef int stage
    with nogil:
        for stage in range(f.conv.stages - 1):      # the filters, once for all batches
            _run_stage(&f.conv, stage, 1, memory, memory + shared)
        if used == 1:
            for batch in range(f.batches):
                _fused_batch(f, batch, memory, memory + shared)
        else:
            for batch in prange(f.batches, num_threads=used, schedule="dynamic"):
                _fused_batch(f, batch, memory, memory + shared + threadid() * scratch)
    _give_back(memory, got)
    return 0


cdef Py_ssize_t FUSED_BYTES = 1 << 19       # of a batch's convolution: half of a large L2 cache


def _images_together(g, Py_ssize_t itemsize):
    """Images of a batch: a divisor of N whose convolution stays in the L2 cache."""
    cdef Py_ssize_t each = g.oh * g.ow * g.k * itemsize, n = g.n, images = max(1, min(n, FUSED_BYTES // each))
    while n % images:
        images -= 1
    return images


def conv2d_pool(x, weight, bias, g, pg, *, activation=None, algorithm="auto", int threads=1, out=None, indices=None):
    """``max_pool2d(conv2d(x, weight, bias))``, ``(N, POH, POW, K)``, without the large array between them.

    `pg` is the pooling's geometry, of the convolution's result. `indices`, int32 or uint8, receives for each number
    which pixel it is: int32 the flat place in the convolution's image, uint8 the place in the window,
    ``row * kw + column``. Where a batch is too small to share out, the two operations run one after the other.
    """
    cdef together f
    cdef Py_ssize_t itemsize = x.dtype.itemsize
    images = _images_together(g, itemsize)
    if algorithm == "naive" or g.n // images < 8:
        full = conv2d(x, weight, bias, g, activation=activation, algorithm=algorithm, threads=threads)
        return max_pool2d(full, pg, threads=threads, out=out, indices=indices)
    y = _result(out, pg.output_shape, x.dtype)
    one, one_pool = dataclasses.replace(g, n=images), dataclasses.replace(pg, n=images)
    f.conv.g, f.pool.q = _conv(one), _pool(one_pool)
    f.conv.relu, f.conv.reused = activation == "relu", True
    f.conv.a, f.conv.b, f.conv.bias, f.conv.out = _pointer(x), _pointer(weight), _pointer(bias), NULL
    f.pool.narrow = indices is not None and indices.dtype == np.uint8
    f.pool.a, f.pool.out, f.pool.out2 = NULL, _pointer(y), _pointer(indices)
    _choose(&f.conv, FORWARD, _table(x), algorithm)
    _table(x).max_pool(&f.pool)
    f.batches = g.n // images
    f.conv_in = itemsize * math.prod(one.input_shape)
    f.conv_out = itemsize * math.prod(one.output_shape)
    f.pool_out = itemsize * math.prod(one_pool.output_shape)
    f.indices = (1 if f.pool.narrow else 4) * math.prod(one_pool.output_shape)
    _run_fused(&f, threads)
    return y


def conv2d_pool_grad(grad_out, indices, y, pg, *, activation=None, int threads=1, out=None):
    """Gradients for the convolution's result, ``(N, OH, OW, K)``, and for its bias, ``(K,)``, in one pass.

    `y` and `indices` are what :func:`conv2d_pool` gave and filled; with ``activation="relu"`` the gradient of ReLU is
    taken too, from `y`.
    """
    cdef plan p
    gx = _result(out, pg.input_shape, grad_out.dtype)
    gb = np.empty(pg.c, grad_out.dtype)
    p.q = _pool(pg)
    p.narrow, p.relu = indices.dtype == np.uint8, activation == "relu"
    p.a, p.b, p.c, p.out, p.out2 = _pointer(grad_out), _pointer(indices), _pointer(y), _pointer(gx), _pointer(gb)
    _table(grad_out).max_pool_grad(&p)
    _run(&p, threads)
    return gx, gb


def conv2d_pool_weight_grad(x, grad_out, indices, y, g, pg, *, activation=None, int threads=1, out=None):
    """Gradients for the filters, ``(kh, kw, C, K)``, and the bias, ``(K,)``, from the pooled errors `grad_out`.

    `y` and `indices` are what :func:`conv2d_pool` gave and filled. None where the kernel does not do this geometry:
    then use :func:`conv2d_pool_grad` and :func:`conv2d_weight_grad`.
    """
    cdef plan p
    if indices.dtype != np.uint8:
        return None
    p.g, p.q, p.relu = _conv(g), _pool(pg), activation == "relu"
    if not _table(x).pooled_weight_grad(&p):
        return None
    gw, gb = _result(out, g.weight_shape, x.dtype), np.empty(g.k, x.dtype)
    p.a, p.b, p.c, p.d = _pointer(x), _pointer(grad_out), _pointer(y), _pointer(indices)
    p.out, p.out2 = _pointer(gw), _pointer(gb)
    _run(&p, threads)
    return gw, gb


# Pooling ------------------------------------------------------------------------------------------------------------

def max_pool2d(x, pg, *, int threads=1, out=None, indices=None):
    """Largest pixel of each window, ``(N, OH, OW, C)``.

    `indices`, int32 or uint8, receives which pixel that is: its flat place in the image, or in the window.
    """
    cdef plan p
    y = _result(out, pg.output_shape, x.dtype)
    p.q = _pool(pg)
    p.narrow = indices is not None and indices.dtype == np.uint8
    p.a, p.out, p.out2 = _pointer(x), _pointer(y), _pointer(indices)
    _table(x).max_pool(&p)
    _run(&p, threads)
    return y


def max_pool2d_input_grad(grad_out, indices, pg, *, int threads=1, out=None):
    """Gradient for the images: each window's error goes to the pixel that `indices` names."""
    cdef plan p
    gx = _result(out, pg.input_shape, grad_out.dtype)
    p.q = _pool(pg)
    p.narrow, p.relu = indices.dtype == np.uint8, 0
    p.a, p.b, p.out, p.out2 = _pointer(grad_out), _pointer(indices), _pointer(gx), NULL
    _table(grad_out).max_pool_grad(&p)
    _run(&p, threads)
    return gx


def avg_pool2d(x, pg, *, int threads=1, out=None):
    """Mean of each window's pixels inside the image, ``(N, OH, OW, C)``."""
    cdef plan p
    y = _result(out, pg.output_shape, x.dtype)
    p.q = _pool(pg)
    p.a, p.out = _pointer(x), _pointer(y)
    _table(x).avg_pool(&p)
    _run(&p, threads)
    return y


def avg_pool2d_input_grad(grad_out, pg, *, int threads=1, out=None):
    """Gradient for the images: each window's error, shared equally by its pixels."""
    cdef plan p
    gx = _result(out, pg.input_shape, grad_out.dtype)
    p.q = _pool(pg)
    p.a, p.out = _pointer(grad_out), _pointer(gx)
    _table(grad_out).avg_pool_grad(&p)
    _run(&p, threads)
    return gx


# Number by number, and statistics -----------------------------------------------------------------------------------

cdef void _matrix(plan *p, array):
    """`array` as rows of channels."""
    p.channels = max(array.shape[array.ndim - 1], 1) if array.ndim else 1
    p.rows = array.size // p.channels


def relu(x, *, int threads=1, out=None):
    """``max(x, 0)``; NaN stays NaN."""
    cdef plan p
    y = _result(out, x.shape, x.dtype)
    p.rows, p.channels = x.size, 1
    p.a, p.out = _pointer(x), _pointer(y)
    _table(x).relu(&p)
    _run(&p, threads)
    return y


def relu_grad(grad_out, y, *, int threads=1, out=None):
    """`grad_out` where `y`, the result of :func:`relu`, is positive, else zero; `out` may be `grad_out`."""
    cdef plan p
    g = _result(out, y.shape, y.dtype)
    p.rows, p.channels = y.size, 1
    p.a, p.b, p.out = _pointer(grad_out), _pointer(y), _pointer(g)
    _table(y).relu_grad(&p)
    _run(&p, threads)
    return g


def scale_shift(x, scale, shift, *, int threads=1, out=None):
    """``x * scale + shift``, one pair of numbers a channel."""
    cdef plan p
    y = _result(out, x.shape, x.dtype)
    _matrix(&p, x)
    p.a, p.b, p.c, p.out = _pointer(x), _pointer(scale), _pointer(shift), _pointer(y)
    _table(x).scale_shift(&p)
    _run(&p, threads)
    return y


def bias_grad(grad_out, *, int threads=1):
    """Sum over all but the last axis, ``(K,)``."""
    cdef plan p
    gb = np.empty(grad_out.shape[grad_out.ndim - 1], grad_out.dtype)
    _matrix(&p, grad_out)
    p.relu = 0
    p.a, p.out = _pointer(grad_out), _pointer(gb)
    _table(grad_out).bias_grad(&p)
    _run(&p, threads)
    return gb


def relu_bias_grad(grad_out, y, *, int threads=1, out=None):
    """:func:`relu_grad` and the :func:`bias_grad` of its result, in one pass; `out` may be `grad_out`."""
    cdef plan p
    g, gb = _result(out, y.shape, y.dtype), np.empty(y.shape[y.ndim - 1], y.dtype)
    _matrix(&p, y)
    p.relu = 1
    p.a, p.b, p.out, p.out2 = _pointer(grad_out), _pointer(y), _pointer(gb), _pointer(g)
    _table(y).bias_grad(&p)
    _run(&p, threads)
    return g, gb


def softmax_cross_entropy(logits, labels, *, int threads=1):
    """Loss ``(N,)`` of each example and its gradient ``(N, classes)``; `labels` are int64."""
    cdef plan p
    labels = np.ascontiguousarray(labels, dtype=np.int64)
    losses, grad = np.empty(len(logits), logits.dtype), np.empty(logits.shape, logits.dtype)
    _matrix(&p, logits)
    p.a, p.b, p.out, p.out2 = _pointer(logits), _pointer(labels), _pointer(losses), _pointer(grad)
    _table(logits).softmax(&p)
    _run(&p, threads)
    return losses, grad


def batch_norm(x, gamma, beta, double eps, *, int threads=1, out=None):
    """Normalised `x`, and the mean and 1 / standard deviation of each channel, ``(C,)``."""
    cdef plan p
    y = _result(out, x.shape, x.dtype)
    mean, inv_std = np.empty(gamma.shape, x.dtype), np.empty(gamma.shape, x.dtype)
    _matrix(&p, x)
    p.eps = eps
    p.a, p.b, p.c = _pointer(x), _pointer(gamma), _pointer(beta)
    p.out, p.out2, p.out3 = _pointer(y), _pointer(mean), _pointer(inv_std)
    _table(x).batch_norm(&p)
    _run(&p, threads)
    return y, mean, inv_std


def batch_norm_grad(x, grad_out, gamma, mean, inv_std, *, int threads=1, out=None):
    """Gradients for `x`, gamma and beta."""
    cdef plan p
    gx = _result(out, x.shape, x.dtype)
    ggamma, gbeta = np.empty(gamma.shape, x.dtype), np.empty(gamma.shape, x.dtype)
    _matrix(&p, x)
    p.a, p.b, p.c, p.d, p.e = _pointer(x), _pointer(gamma), _pointer(mean), _pointer(inv_std), _pointer(grad_out)
    p.out, p.out2, p.out3 = _pointer(gx), _pointer(ggamma), _pointer(gbeta)
    _table(x).batch_norm_grad(&p)
    _run(&p, threads)
    return gx, ggamma, gbeta


# Dense layers -------------------------------------------------------------------------------------------------------

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
    float one_f, beta_f
    double one_d, beta_d


cdef void _panel(const product *p, int index) noexcept nogil:
    """One panel of c = a b (+ c where beta is 1). BLAS is column-major: it computes the transposed, b' a'."""
    cdef int first = index * p.panel, m = p.m, n = p.n, size = 8 if p.is_double else 4
    cdef int lda = p.m if p.a_transposed else p.k, ldb = p.k if p.b_transposed else p.n, ldc = p.n, k = p.k
    cdef size_t a_step = 0, b_step = 0, c_step
    if p.along_m:
        m = min(p.panel, p.m - first)
        a_step = <size_t> first * (1 if p.a_transposed else lda)
        c_step = <size_t> first * ldc
    else:
        n = min(p.panel, p.n - first)
        b_step = <size_t> first * (ldb if p.b_transposed else 1)
        c_step = first
    cdef char *a = <char *> p.a + a_step * size
    cdef char *b = <char *> p.b + b_step * size
    cdef char *c = <char *> p.c + c_step * size
    cdef char *ta = b"T" if p.a_transposed else b"N"
    cdef char *tb = b"T" if p.b_transposed else b"N"
    if p.is_double:
        dgemm(tb, ta, &n, &m, &k, <double *> &p.one_d, <double *> b, &ldb, <double *> a, &lda,
              <double *> &p.beta_d, <double *> c, &ldc)
    else:
        sgemm(tb, ta, &n, &m, &k, <float *> &p.one_f, <float *> b, &ldb, <float *> a, &lda,
              <float *> &p.beta_f, <float *> c, &ldc)


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
    p.is_double = out.dtype == np.float64
    p.m, p.n, p.k = <int> m, <int> n, <int> k
    p.a_transposed, p.b_transposed = a_transposed, b_transposed
    p.a, p.b, p.c = _pointer(a), _pointer(b), _pointer(out)
    p.one_f, p.one_d, p.beta_f, p.beta_d = 1, 1, add, add
    p.along_m = m >= n
    size = max(m, n)
    p.panel = <int> max(64, -(-size // 16))
    p.panels = <int> -(-size // p.panel)
    used = _threads_for(2.0 * m * n * k / 32, p.panels, threads) if has_openmp else 1
    with nogil:
        if used == 1:
            for index in range(p.panels):
                _panel(&p, index)
        else:
            for index in prange(p.panels, num_threads=used, schedule="dynamic"):
                _panel(&p, index)
    return out


cdef bint _skip_zeros(
    plan_fn product, weight_shape, sparse, double most, a, b, out, int threads, bias=None, bint relu=False
) except -1:
    """A product of a dense layer by ``_kernels/sparse_dense.h``, if at `most` that part of `sparse` is not zero:
    above it BLAS is faster. Some thousand numbers stand for all.
    """
    cdef plan p
    p.g.n = a.shape[0]
    p.g.c, p.g.k = weight_shape
    p.relu = relu
    if not product(&p):
        return False
    some = sparse.reshape(-1)
    some = some[:: max(some.size // 4096, 1) | 1]       # an odd step meets every unit or channel
    if np.count_nonzero(some) > most * some.size:
        return False
    p.a, p.b, p.bias, p.out = _pointer(a), _pointer(b), _pointer(bias), _pointer(out)
    _run(&p, threads)
    return True


def dense(x, weight, bias, *, activation=None, int threads=1, out=None):
    """``activation(x w + b)``, ``(N, units)``; `weight` is ``(inputs, units)``."""
    y = _result(out, (x.shape[0], weight.shape[1]), x.dtype)
    cdef bint rectify = activation == "relu"
    if _skip_zeros(_table(x).sparse_forward, weight.shape, x, 0.55, x, weight, y, threads, bias, rectify):
        return y
    if bias is not None:
        y[...] = bias
    _multiply(x, weight, False, False, y, bias is not None, threads)
    if rectify:
        relu(y, threads=threads, out=y)
    return y


def dense_input_grad(grad_out, weight, *, int threads=1, out=None):
    """``dx = dy w'``, ``(N, inputs)``."""
    gx = _result(out, (grad_out.shape[0], weight.shape[0]), grad_out.dtype)
    if _skip_zeros(_table(gx).sparse_input_grad, weight.shape, grad_out, 0.7, grad_out, weight, gx, threads):
        return gx
    return _multiply(grad_out, weight, False, True, gx, False, threads)


def dense_weight_grad(x, grad_out, *, int threads=1, out=None):
    """``dw = x' dy``, ``(inputs, units)``."""
    gw = _result(out, (x.shape[1], grad_out.shape[1]), x.dtype)
    if _skip_zeros(_table(gw).sparse_weight_grad, gw.shape, grad_out, 0.7, x, grad_out, gw, threads):
        return gw
    return _multiply(x, grad_out, True, False, gw, False, threads)
