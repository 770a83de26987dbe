# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""SGD's step in one pass over parameters, gradient and state, where NumPy makes one pass for each operation.

It gives the same bits as its NumPy twin, the class's `_update_block`: it does the same operations in the same order,
and setup.py compiles this module without contraction to FMA. So the bits depend neither on where a slice begins nor on
the processor. The loops are plain because memory bounds their speed: with wider vectors than every processor of the
architecture has, the gain was smaller than the spread of the measurements.
"""

from cpython.buffer cimport PyBUF_FORMAT, PyBUF_ND, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uintptr_t

cdef extern from *:
    """
    #include <stddef.h>

    /* The flags are constants at each call, so that each case is a loop without a branch. The pointers may be equal:
       without `restrict` the compiler checks that before it takes several numbers at a time. */
    #define PYCONV_SGD(T, NAME)                                                                        \\
    static inline void NAME##_case(T *p, const T *g, T *v, ptrdiff_t n, T lr, T momentum, T decay,     \\
                                   const int decays, const int moves, const int nesterov) {            \\
        for (ptrdiff_t i = 0; i < n; i++) {                                                            \\
            T d = g[i];                                                                                \\
            if (decays) d = p[i] * decay + d;                                                          \\
            if (moves) {                                                                               \\
                T velocity = v[i] * momentum + d;                                                      \\
                v[i] = velocity;                                                                       \\
                d = nesterov ? velocity * momentum + d : velocity;                                     \\
            }                                                                                          \\
            p[i] -= d * lr;                                                                            \\
        }                                                                                              \\
    }                                                                                                  \\
    static void NAME(void *p, const void *g, void *v, ptrdiff_t n, double lr, double momentum,         \\
                     double decay, int nesterov) {                                                     \\
        const T r = (T)lr, m = (T)momentum, d = (T)decay;                                              \\
        if (!v && decay == 0) NAME##_case(p, g, v, n, r, m, d, 0, 0, 0);                               \\
        else if (!v) NAME##_case(p, g, v, n, r, m, d, 1, 0, 0);                                        \\
        else if (!nesterov && decay == 0) NAME##_case(p, g, v, n, r, m, d, 0, 1, 0);                   \\
        else if (!nesterov) NAME##_case(p, g, v, n, r, m, d, 1, 1, 0);                                 \\
        else if (decay == 0) NAME##_case(p, g, v, n, r, m, d, 0, 1, 1);                                \\
        else NAME##_case(p, g, v, n, r, m, d, 1, 1, 1);                                                \\
    }
    PYCONV_SGD(float, pyconv_sgd_f)
    PYCONV_SGD(double, pyconv_sgd_d)
    """
    void pyconv_sgd_f(void *p, const void *g, void *v, Py_ssize_t n, double lr, double momentum, double decay,
                      int nesterov) noexcept nogil
    void pyconv_sgd_d(void *p, const void *g, void *v, Py_ssize_t n, double lr, double momentum, double decay,
                      int nesterov) noexcept nogil


cdef bint _plain(const Py_buffer *view) noexcept:
    """Whether a buffer holds float or double in this processor's byte order, aligned to one number."""
    return view.format[1] == 0 and view.format[0] in b"fd" and <uintptr_t> view.buf % view.itemsize == 0


def sgd(p, g, v, double lr, double momentum, double weight_decay, bint nesterov):
    """:class:`pyconv.optim.SGD`'s step on `p` and `v` in place; `v` is None without momentum.

    Parameters
    ----------
    p, g, v : (n,) float32 or float64, all of one dtype and size

    Returns
    -------
    bool
        False if nothing was done: a vector is not contiguous, aligned, in the processor's byte order and writable.
    """
    cdef Py_buffer views[3]
    cdef int held = 0, i
    cdef bint done = True
    cdef void *velocity
    try:
        PyObject_GetBuffer(p, &views[0], PyBUF_ND | PyBUF_FORMAT | PyBUF_WRITABLE)
        held = 1
        PyObject_GetBuffer(g, &views[1], PyBUF_ND | PyBUF_FORMAT)
        held = 2
        if v is not None:
            PyObject_GetBuffer(v, &views[2], PyBUF_ND | PyBUF_FORMAT | PyBUF_WRITABLE)
            held = 3
        for i in range(held):
            done = done and _plain(&views[i]) and views[i].len == views[0].len
        if done:
            velocity = views[2].buf if held == 3 else NULL
            with nogil:
                if views[0].itemsize == sizeof(float):
                    pyconv_sgd_f(views[0].buf, views[1].buf, velocity, views[0].len // sizeof(float), lr, momentum,
                                 weight_decay, nesterov)
                else:
                    pyconv_sgd_d(views[0].buf, views[1].buf, velocity, views[0].len // sizeof(double), lr, momentum,
                                 weight_decay, nesterov)
    except (ValueError, BufferError):
        done = False
    finally:
        for i in range(held):
            PyBuffer_Release(&views[i])
    return done
