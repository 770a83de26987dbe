# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The backends `serial` and `multicore`: each function fills a plan and runs it. Convolution and pooling are here.

Every function has the signature of :mod:`pyconv.reference`. Its arguments were checked by :mod:`pyconv.ops` (DESIGN
§8.7): they are C-contiguous, aligned, of one dtype, and fit the geometry.
"""

from time import perf_counter

import numpy as np

from ._plans cimport (
    DIRECT, FORWARD, INPUT_GRAD, WEIGHT_GRAD, choose, conv, count_settings, kernel, kernels, kernels_for,
    narrower_kernels_for, narrower_limit, plan, pointer, pool, result, run_plan,
)

from . import _naive
from ._dense import dense, dense_input_grad, dense_weight_grad  # no-cython-lint: the rest of the backend
from ._dense import stack_product  # no-cython-lint
from ._elementwise import activate, activate_grad, crop2d, pad2d  # no-cython-lint
from ._plans import _set_cycles_per_thread, algorithms, has_openmp, isa, isas, set_isa, table, vector_bytes  # no-cython-lint
from ._rows import add, batch_norm, batch_norm_grad, batch_norm_inference, bias_grad, relu  # no-cython-lint
from ._rows import relu_bias_grad, relu_grad, scale_shift, softmax_cross_entropy  # no-cython-lint
from .errors import InputError, ShapeError, unknown_name

MEASURED_S, MEASURED_CALLS = 0.05, 100      # the measurement of one kernel ends at either
narrow_indices = True       # fused max pooling takes indices of one byte, places in the window


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

cdef void *_place_for(indices, pg) except? NULL:
    """Address of `indices`, the array for the positions of the maxima; checks that it has the result's shape."""
    if indices is not None and indices.shape != pg.output_shape:
        raise ShapeError(f"indices must have the result's shape {pg.output_shape}, not {indices.shape}")
    return pointer(indices)


cdef void _merge_whole_images(conv *g) noexcept:
    """If the kernel is as large as the images, make them the pixels of one image under a 1 x 1 kernel."""
    if g.kh != g.h or g.kw != g.w or g.oh * g.ow != 1 or g.pt or g.pb or g.pl or g.pr or g.groups != 1:
        return
    g.c *= g.h * g.w
    g.h = g.oh = g.n
    g.n = g.w = g.kh = g.kw = g.sh = g.sw = g.dh = g.dw = 1


_guarded = None


def _set_guarded(guarded):
    """Look at the results of every transform, or of none; None for the default: where the algorithm is "auto".

    For tests of kernels by their names, and to measure what it costs.
    """
    global _guarded
    count_settings()
    _guarded = guarded


cdef int _choose(plan *p, int what, array, str name) except -1:
    """Complete `p` with the kernel of algorithm `name` that has the lowest estimate; `name` may also be a kernel's.

    "auto" takes vectors half as wide if so many fewer of their lanes are idle that they cost no more, and looks at the
    results of transforms: what they may have wrong is summed again.
    """
    cdef const kernels *narrower = narrower_kernels_for(array)
    cdef plan narrow
    cdef double most
    cdef bytes wanted = name.encode()
    p.guarded = name == "auto" if _guarded is None else _guarded
    if name == "auto":
        _merge_whole_images(&p.g)
        narrow = p[0]
    if choose(kernels_for(array), wanted, what, p, NULL) == NULL:
        if name not in algorithms and name not in [line["name"] for line in table()]:
            raise unknown_name("algorithm", name, ("auto", *algorithms))
        raise InputError(f"algorithm {name!r} does not do this convolution; use 'auto' or 'direct'")
    if name == "auto" and narrower != NULL:
        most = narrower_limit(p, what, array)
        if most > 0 and choose(narrower, wanted, what, &narrow, NULL) != NULL and narrow.cycles <= most:
            p[0] = narrow
    return 0


def estimate(int what, g, dtype, str algorithm="auto"):
    """Cycles that an operation is estimated to take on one thread, by ``_kernels/cost.h``.

    `what` is 0 for the forward pass, 1 for the input's gradient, 2 for the filters'. Literal loops have no estimate.
    """
    cdef plan p
    p.g = _conv(g)
    p.relu, p.reused = 0, False
    _choose(&p, what, np.empty(0, dtype), algorithm)
    return p.cycles


cdef list _estimates(
    const kernels *all, plan p, int what, bytes wanted, const kernel *chosen, str instruction_set, int lanes,
    int threads, bint measured
):
    """What `choose` finds for each kernel of `all` that it considers."""
    cdef double[64] cycles
    cdef ptrdiff_t[2] tile
    cdef plan own
    cdef const kernel *k = all.table
    cdef list found = []
    choose(all, wanted, what, &p, cycles)
    while k.name != NULL:
        own = p
        if cycles[k - all.table] >= 0 and choose(all, k.name, what, &own, NULL) != NULL:
            k.tile(&own, tile)
            found.append({
                "kernel": k.name.decode(), "isa": instruction_set, "cycles": cycles[k - all.table],
                "runs": k == chosen, "tile": (tile[0], tile[1]), "lanes": lanes,
                "items": own.items[own.stages - 1],
                "seconds": _seconds(&own, threads) if measured else None,
            })
        k += 1
    return found


cdef double _seconds(const plan *p, int threads) except -1:
    """Median time of a plan's calls; one call before they are counted."""
    run_plan(p, threads)
    times = []
    while not times or (sum(times) < MEASURED_S and len(times) < MEASURED_CALLS):
        began = perf_counter()
        run_plan(p, threads)
        times.append(perf_counter() - began)
    return sorted(times)[len(times) // 2]


def candidates(int what, g, dtype, str algorithm="auto", operands=None, int threads=1):
    """The kernels that can do an operation, with their estimates, as they are compared when it runs.

    Parameters
    ----------
    what : int
        0 for the forward pass, 1 for the input's gradient, 2 for the filters'.
    g : ConvGeometry
    dtype : dtype
    algorithm : str
        Not "naive".
    operands : (array, array, array), optional
        Two operands and a place for the result: every kernel is run on them, to measure its time.
    threads : int
        For that.

    Returns
    -------
    list of dict
        ``kernel``, its ``isa``, its ``cycles``, whether it ``runs``, its ``tile``, the ``lanes`` of a vector, the
        ``items`` of its last stage, and ``seconds`` of a call, or None.
    """
    cdef plan p, whole
    cdef bytes wanted = algorithm.encode()
    cdef bint measured = operands is not None
    array = np.empty(0, dtype)
    cdef int size = array.itemsize
    cdef const kernels *narrower = narrower_kernels_for(array)
    p.g = _conv(g)
    p.relu, p.reused = 0, False
    p.guarded = algorithm == "auto" if _guarded is None else _guarded
    p.bias = NULL
    if measured:
        p.a, p.b, p.out = pointer(operands[0]), pointer(operands[1]), pointer(operands[2])
    whole = p
    _choose(&p, what, array, algorithm)
    if algorithm == "auto":
        _merge_whole_images(&whole.g)
    found = _estimates(
        kernels_for(array), whole, what, wanted, p.kernel, isa(), vector_bytes() // size, threads, measured
    )
    if algorithm == "auto" and narrower != NULL and narrower_limit(&p, what, array) > 0:
        name = "avx512vl" if size == 4 else "avx2"      # dispatch.c: there are no others of half the width
        found += _estimates(narrower, whole, what, wanted, p.kernel, name, 32 // size, threads, measured)
    return found


cdef int plan_conv2d(plan *p, x, weight, bias, g, activation, str algorithm, y) except -1:
    """Complete the plan of :func:`conv2d`, with its operands."""
    p.g = _conv(g)
    p.relu, p.reused = activation == "relu", False
    _choose(p, FORWARD, x, algorithm)
    p.a, p.b, p.bias, p.out = pointer(x), pointer(weight), pointer(bias), pointer(y)
    return 0


def conv2d(x, weight, bias, g, *, activation=None, algorithm="auto", int threads=1, out=None):
    """``y = activation(x * w + b)``, ``(N, OH, OW, K)``."""
    cdef plan p
    y = result(out, g.output_shape, x.dtype)
    if algorithm == "naive":
        _naive.forward(x, weight, bias, g, activation == "relu", threads, y)
        return y
    plan_conv2d(&p, x, weight, bias, g, activation, algorithm, y)
    run_plan(&p, threads)
    return y


def conv2d_input_grad(grad_out, weight, g, *, algorithm="auto", int threads=1, out=None):
    """Gradient for the images, ``(N, H, W, C)``."""
    cdef plan p
    gx = result(out, g.input_shape, grad_out.dtype)
    if algorithm == "naive":
        _naive.input_grad(grad_out, weight, g, threads, gx)
        return gx
    p.g = _conv(g)
    p.relu, p.reused = 0, False
    _choose(&p, INPUT_GRAD, grad_out, algorithm)
    p.a, p.b, p.bias, p.out = pointer(grad_out), pointer(weight), NULL, pointer(gx)
    run_plan(&p, threads)
    return gx


def conv2d_weight_grad(x, grad_out, g, *, algorithm="auto", int threads=1, out=None):
    """Gradient for the filters, ``(kh, kw, C // groups, K)``."""
    cdef plan p
    gw = result(out, g.weight_shape, x.dtype)
    if algorithm == "naive":
        _naive.weight_grad(x, grad_out, g, threads, gw)
        return gw
    p.g = _conv(g)
    p.relu, p.reused = 0, False
    _choose(&p, WEIGHT_GRAD, x, algorithm)
    p.a, p.b, p.bias, p.out = pointer(x), pointer(grad_out), NULL, pointer(gw)
    run_plan(&p, threads)
    if p.guarded and p.kernel.algorithm != DIRECT and not np.isfinite(gw).all():
        # An infinity or NaN that some sums see: transforms bring it to others too.
        p.g = _conv(g)
        _choose(&p, WEIGHT_GRAD, x, "direct")
        run_plan(&p, threads)
    return gw


# Convolution, bias, ReLU and max pooling in one -----------------------------------------------------------------------

cdef void _fused_run(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) noexcept nogil:
    """The filters, once for all batches; then convolve one batch of images into scratch, where it stays in the cache,
    and pool it from there.
    """
    cdef const together *f = <const together *> p.c
    if stage < p.stages - 1:
        f.conv.run(&f.conv, stage, item, shared, scratch)
        return
    cdef plan convolve = f.conv, max_pool = f.pool
    cdef ptrdiff_t i
    convolve.a = <char *> p.a + item * f.conv_in
    convolve.out = <char *> scratch + convolve.scratch_bytes
    for i in range(convolve.items[stage]):
        convolve.run(&convolve, stage, i, shared, scratch)
    max_pool.a = convolve.out
    max_pool.out = <char *> p.out + item * f.pool_out
    if p.out2 != NULL:
        max_pool.out2 = <char *> p.out2 + item * f.indices
    for i in range(max_pool.items[0]):
        max_pool.run(&max_pool, 0, i, NULL, NULL)


cdef Py_ssize_t FUSED_BYTES = 1 << 19       # largest result of a batch's convolution: half of a large L2 cache


def _images_together(g, Py_ssize_t itemsize):
    """Images of a batch: a divisor of N for which the convolution's result stays in the L2 cache."""
    cdef Py_ssize_t each = g.oh * g.ow * g.k * itemsize, n = g.n, images = max(1, min(n, FUSED_BYTES // each))
    while n % images:
        images -= 1
    return images


cdef bint is_fused(x, g) except -1:
    """Whether convolution and pooling run batch by batch; with too few images for the threads, one after the other."""
    return g.n // _images_together(g, x.dtype.itemsize) >= 8


cdef int plan_conv2d_pool(
    plan *p, together *f, x, weight, bias, g, pg, activation, str algorithm, y, indices
) except -1:
    """Complete the plan of a fused :func:`conv2d_pool`, with its operands; it reads `f`, which must outlive it."""
    cdef Py_ssize_t itemsize = x.dtype.itemsize, images = _images_together(g, itemsize)
    cdef Py_ssize_t full = itemsize * images * g.oh * g.ow * g.k
    cdef int stage
    f.conv.g, f.pool.q = _conv(g), _pool(pg)
    f.conv.g.n = f.pool.q.n = images
    f.conv_in = itemsize * images * f.conv.g.h * f.conv.g.w * f.conv.g.c
    f.pool_out = itemsize * images * f.pool.q.oh * f.pool.q.ow * f.pool.q.c
    f.conv.relu, f.conv.reused = activation == "relu", True
    f.conv.b, f.conv.bias = pointer(weight), pointer(bias)
    f.pool.narrow = indices is not None and indices.dtype == np.uint8
    f.indices = f.pool_out // itemsize * (1 if f.pool.narrow else 4)
    f.pool.out2 = _place_for(indices, pg)
    _choose(&f.conv, FORWARD, x, algorithm)
    kernels_for(x).max_pool(&f.pool)
    p.g = f.conv.g
    p.stages, p.prepared = f.conv.stages, f.conv.stages - 1
    for stage in range(p.stages - 1):
        p.items[stage] = f.conv.items[stage]
    p.items[p.stages - 1] = g.n // images
    f.conv.scratch_bytes = (f.conv.scratch_bytes + 63) // 64 * 64
    p.shared_bytes = f.conv.shared_bytes
    p.scratch_bytes = (f.conv.scratch_bytes + full + 63) // 64 * 64
    p.cycles = f.conv.cycles * p.items[p.stages - 1]
    p.run = _fused_run
    p.a, p.out, p.out2, p.c = pointer(x), pointer(y), f.pool.out2, f
    return 0


def conv2d_pool(x, weight, bias, g, pg, *, activation=None, algorithm="auto", int threads=1, out=None, indices=None):
    """``max_pool2d(conv2d(x, weight, bias))``, ``(N, POH, POW, K)``; the convolution's result is not written whole.

    `pg` is the geometry of the pooling of the convolution's result. `indices`, int32 or uint8, receives which pixel
    each number is: int32 the flat position in the convolution's image, uint8 the position in the window, ``row * kw +
    column``. With too few images for the threads, the two operations run one after the other.
    """
    cdef plan p
    cdef together f
    if algorithm == "naive" or not is_fused(x, g):
        full = conv2d(x, weight, bias, g, activation=activation, algorithm=algorithm, threads=threads)
        return max_pool2d(full, pg, threads=threads, out=out, indices=indices)
    y = result(out, pg.output_shape, x.dtype)
    plan_conv2d_pool(&p, &f, x, weight, bias, g, pg, activation, algorithm, y, indices)
    run_plan(&p, threads)
    return y


def conv2d_pool_grad(grad_out, indices, y, pg, *, activation=None, int threads=1, out=None):
    """Gradients for the convolution's result, ``(N, OH, OW, K)``, and for its bias, ``(K,)``, in one pass.

    `y` and `indices` are the results of :func:`conv2d_pool`. With ``activation="relu"`` the gradient of ReLU, which
    follows from `y`, is included.
    """
    cdef plan p
    gx = result(out, pg.input_shape, grad_out.dtype)
    gb = np.empty(pg.c, grad_out.dtype)
    p.q = _pool(pg)
    p.narrow, p.relu = indices.dtype == np.uint8, activation == "relu"
    p.a, p.b, p.c, p.out, p.out2 = pointer(grad_out), pointer(indices), pointer(y), pointer(gx), pointer(gb)
    kernels_for(grad_out).max_pool_grad(&p)
    run_plan(&p, threads)
    return gx, gb


def conv2d_pool_weight_grad(x, grad_out, indices, y, g, pg, *, activation=None, int threads=1, out=None):
    """Gradients for the filters, ``(kh, kw, C, K)``, and the bias, ``(K,)``, from the pooled errors `grad_out`.

    `y` and `indices` are the results of :func:`conv2d_pool`. None if the kernel does not do this geometry: then use
    :func:`conv2d_pool_grad` and :func:`conv2d_weight_grad`.
    """
    cdef plan p
    if indices.dtype != np.uint8:
        return None
    p.g, p.q, p.relu = _conv(g), _pool(pg), activation == "relu"
    if not kernels_for(x).pooled_weight_grad(&p):
        return None
    gw, gb = result(out, g.weight_shape, x.dtype), np.empty(g.k, x.dtype)
    p.a, p.b, p.c, p.d = pointer(x), pointer(grad_out), pointer(y), pointer(indices)
    p.out, p.out2 = pointer(gw), pointer(gb)
    run_plan(&p, threads)
    return gw, gb


# Pooling ------------------------------------------------------------------------------------------------------------

cdef int plan_max_pool2d(plan *p, x, pg, y, indices) except -1:
    """Complete the plan of :func:`max_pool2d`, with its operands."""
    p.q, p.prepared = _pool(pg), 0
    p.narrow = indices is not None and indices.dtype == np.uint8
    p.a, p.out, p.out2 = pointer(x), pointer(y), _place_for(indices, pg)
    kernels_for(x).max_pool(p)
    return 0


def max_pool2d(x, pg, *, int threads=1, out=None, indices=None):
    """Largest pixel of each window, ``(N, OH, OW, C)``.

    `indices`, int32 or uint8, receives which pixel that is: its flat position in the image, or in the window.
    """
    cdef plan p
    y = result(out, pg.output_shape, x.dtype)
    plan_max_pool2d(&p, x, pg, y, indices)
    run_plan(&p, threads)
    return y


def max_pool2d_input_grad(grad_out, indices, pg, *, int threads=1, out=None):
    """Gradient for the images: each window's error goes to the pixel that `indices` names."""
    cdef plan p
    gx = result(out, pg.input_shape, grad_out.dtype)
    p.q = _pool(pg)
    p.narrow, p.relu = indices.dtype == np.uint8, 0
    p.a, p.b, p.out, p.out2 = pointer(grad_out), pointer(indices), pointer(gx), NULL
    kernels_for(grad_out).max_pool_grad(&p)
    run_plan(&p, threads)
    return gx


cdef int plan_avg_pool2d(plan *p, x, pg, y) except -1:
    """Complete the plan of :func:`avg_pool2d`, with its operands."""
    p.q, p.prepared = _pool(pg), 0
    p.a, p.out = pointer(x), pointer(y)
    kernels_for(x).avg_pool(p)
    return 0


def avg_pool2d(x, pg, *, int threads=1, out=None):
    """Mean of each window's pixels inside the image, ``(N, OH, OW, C)``."""
    cdef plan p
    y = result(out, pg.output_shape, x.dtype)
    plan_avg_pool2d(&p, x, pg, y)
    run_plan(&p, threads)
    return y


def avg_pool2d_input_grad(grad_out, pg, *, int threads=1, out=None):
    """Gradient for the images: each window's error, divided equally among its pixels."""
    cdef plan p
    gx = result(out, pg.input_shape, grad_out.dtype)
    p.q = _pool(pg)
    p.a, p.out = pointer(grad_out), pointer(gx)
    kernels_for(grad_out).avg_pool_grad(&p)
    run_plan(&p, threads)
    return gx
