# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Activations other than ReLU, and zero padding, for the backends `serial` and `multicore`.

An activation's gradient is computed from its result, so that a layer keeps one array only::

    leaky_relu   y = x > 0 ? x : first x                   dx = y > 0 ? dy : first dy             first >= 0
    clip         y = min(max(x, first), second)            dx = first < y < second ? dy : 0
    sigmoid      y = 1 / (1 + exp(-x))                     dx = dy y (1 - y)
    tanh         y = tanh(x)                               dx = dy (1 - y y)

NaN stays NaN.
"""

import numpy as np

from cython cimport floating
from libc.math cimport exp, expf, tanh, tanhf
from libc.string cimport memcpy

from ._plans cimport plan, pointer, result, run_fn, run_plan

cdef enum:
    LEAKY_RELU
    CLIP
    SIGMOID
    TANH
    CHUNK = 1 << 12

cdef dict KINDS = {"leaky_relu": LEAKY_RELU, "clip": CLIP, "sigmoid": SIGMOID, "tanh": TANH}
cdef double[4] CYCLES = [1, 1, 20, 40]      # about how many cycles a number takes


cdef inline floating _sigmoid(floating x) noexcept nogil:
    return 1 / (1 + (expf(-x) if floating is float else exp(-x)))


cdef void _forward(const plan *p, ptrdiff_t item, floating zero) noexcept nogil:
    """The numbers of one chunk. In the plan, `relu` is the kind and `own` the two parameters."""
    cdef ptrdiff_t i, start = item * CHUNK, stop = min(start + CHUNK, p.rows)
    cdef const floating *x = <const floating *> p.a
    cdef floating *y = <floating *> p.out
    cdef double[2] numbers
    memcpy(numbers, p.own, sizeof(numbers))
    cdef floating first = <floating> numbers[0], second = <floating> numbers[1]
    if p.relu == LEAKY_RELU:
        for i in range(start, stop):
            y[i] = x[i] * first if x[i] <= 0 else x[i]
    elif p.relu == CLIP:
        for i in range(start, stop):
            y[i] = first if x[i] < first else second if x[i] > second else x[i]
    elif p.relu == SIGMOID:
        for i in range(start, stop):
            y[i] = _sigmoid(x[i])
    else:
        for i in range(start, stop):
            y[i] = tanhf(x[i]) if floating is float else tanh(x[i])


cdef void _backward(const plan *p, ptrdiff_t item, floating zero) noexcept nogil:
    """The same for the gradient: a is the error, b the result."""
    cdef ptrdiff_t i, start = item * CHUNK, stop = min(start + CHUNK, p.rows)
    cdef const floating *dy = <const floating *> p.a
    cdef const floating *y = <const floating *> p.b
    cdef floating *dx = <floating *> p.out
    cdef double[2] numbers
    memcpy(numbers, p.own, sizeof(numbers))
    cdef floating first = <floating> numbers[0], second = <floating> numbers[1]
    if p.relu == LEAKY_RELU:
        for i in range(start, stop):
            dx[i] = dy[i] if y[i] > 0 else dy[i] * first
    elif p.relu == CLIP:
        for i in range(start, stop):
            dx[i] = dy[i] if first < y[i] and y[i] < second else zero
    elif p.relu == SIGMOID:
        for i in range(start, stop):
            dx[i] = dy[i] * (y[i] * (1 - y[i]))
    else:
        for i in range(start, stop):
            dx[i] = dy[i] * (1 - y[i] * y[i])


cdef void _forward_float(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) noexcept nogil:
    _forward[float](p, item, 0)


cdef void _forward_double(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) noexcept nogil:
    _forward[double](p, item, 0)


cdef void _backward_float(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) noexcept nogil:
    _backward[float](p, item, 0)


cdef void _backward_double(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) noexcept nogil:
    _backward[double](p, item, 0)


cdef int _plan_each(
    plan *p, a, b, str kind, double first, double second, y, run_fn narrow, run_fn wide, double cost
) except -1:
    """Complete a plan that goes over the numbers of `a`, chunk by chunk."""
    cdef double[2] numbers = [first, second]
    memcpy(p.own, numbers, sizeof(numbers))
    p.relu, p.rows, p.channels = KINDS[kind], a.size, 1
    p.a, p.b, p.out = pointer(a), pointer(b), pointer(y)
    p.stages, p.prepared, p.shared_bytes, p.scratch_bytes = 1, 0, 0, 0
    p.items[0] = (p.rows + CHUNK - 1) // CHUNK
    p.cycles = p.rows * cost
    p.run = wide if a.dtype == np.float64 else narrow
    return 0


cdef int plan_activate(plan *p, x, str kind, double first, double second, y) except -1:
    """Complete the plan of :func:`activate`, with its operands."""
    return _plan_each(p, x, None, kind, first, second, y, _forward_float, _forward_double, CYCLES[KINDS[kind]])


def activate(x, str kind, double first=0, double second=0, *, int threads=1, out=None):
    """The activation `kind` of each number; `out` may be `x`."""
    cdef plan p
    y = result(out, x.shape, x.dtype)
    plan_activate(&p, x, kind, first, second, y)
    run_plan(&p, threads)
    return y


def activate_grad(grad_out, y, str kind, double first=0, double second=0, *, int threads=1, out=None):
    """The gradient of the activation's input, from its result `y`; `out` may be `grad_out`."""
    cdef plan p
    dx = result(out, grad_out.shape, grad_out.dtype)
    _plan_each(&p, grad_out, y, kind, first, second, dx, _backward_float, _backward_double, 1)
    run_plan(&p, threads)
    return dx


def pad2d(x, padding, *, int threads=1, out=None):
    """Images with zeros around them: ``((top, bottom), (left, right))`` pixels."""
    (top, bottom), (left, right) = padding
    n, h, w, c = x.shape
    y = result(out, (n, h + top + bottom, w + left + right, c), x.dtype)
    y[:, :top] = 0
    y[:, top + h :] = 0
    y[:, top : top + h, :left] = 0
    y[:, top : top + h, left + w :] = 0
    y[:, top : top + h, left : left + w] = x
    return y


def crop2d(x, padding, *, int threads=1, out=None):
    """Images without so many pixels around them: the gradient of :func:`pad2d`."""
    (top, bottom), (left, right) = padding
    n, h, w, c = x.shape
    y = result(out, (n, h - top - bottom, w - left - right, c), x.dtype)
    y[...] = x[:, top : h - bottom, left : w - right]
    return y
