# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""ReLU, scaling, bias gradient, batch normalisation and softmax for the backends `serial` and `multicore`."""

import numpy as np

from ._plans cimport kernels_for, plan, pointer, result, run_plan


cdef void _matrix(plan *p, array):
    """`array` as rows of channels."""
    p.channels = max(array.shape[array.ndim - 1], 1) if array.ndim else 1
    p.rows = array.size // p.channels


cdef int plan_relu(plan *p, x, y) except -1:
    """Complete the plan of :func:`relu`, with its operands."""
    p.rows, p.channels, p.prepared = x.size, 1, 0
    p.a, p.out = pointer(x), pointer(y)
    kernels_for(x).relu(p)
    return 0


def relu(x, *, int threads=1, out=None):
    """``max(x, 0)``; NaN stays NaN."""
    cdef plan p
    y = result(out, x.shape, x.dtype)
    plan_relu(&p, x, y)
    run_plan(&p, threads)
    return y


cdef int plan_add(plan *p, x, y, z) except -1:
    """Complete the plan of :func:`add`, with its operands."""
    p.rows, p.channels, p.prepared = x.size, 1, 0
    p.a, p.b, p.out = pointer(x), pointer(y), pointer(z)
    kernels_for(x).add(p)
    return 0


def add(x, y, *, int threads=1, out=None):
    """``x + y``, number by number; `out` may be either."""
    cdef plan p
    z = result(out, x.shape, x.dtype)
    plan_add(&p, x, y, z)
    run_plan(&p, threads)
    return z


def relu_grad(grad_out, y, *, int threads=1, out=None):
    """`grad_out` where `y`, the result of :func:`relu`, is positive, else zero; `out` may be `grad_out`."""
    cdef plan p
    g = result(out, y.shape, y.dtype)
    p.rows, p.channels = y.size, 1
    p.a, p.b, p.out = pointer(grad_out), pointer(y), pointer(g)
    kernels_for(y).relu_grad(&p)
    run_plan(&p, threads)
    return g


def scale_shift(x, scale, shift, *, int threads=1, out=None):
    """``x * scale + shift``, one pair of numbers a channel."""
    cdef plan p
    y = result(out, x.shape, x.dtype)
    _matrix(&p, x)
    p.a, p.b, p.c, p.out = pointer(x), pointer(scale), pointer(shift), pointer(y)
    kernels_for(x).scale_shift(&p)
    run_plan(&p, threads)
    return y


cdef int plan_batch_norm_inference(plan *p, x, gamma, beta, running_mean, running_var, double eps, y) except -1:
    """Complete the plan of :func:`batch_norm_inference`, with its operands."""
    _matrix(p, x)
    p.eps = eps
    p.a, p.b, p.c, p.d = pointer(x), pointer(gamma), pointer(beta), pointer(running_var)
    p.e, p.out = pointer(running_mean), pointer(y)
    kernels_for(x).batch_norm_inference(p)
    return 0


def batch_norm_inference(x, gamma, beta, running_mean, running_var, double eps, *, int threads=1, out=None):
    """`x` normalised by the running statistics; `out` may be `x`."""
    cdef plan p
    y = result(out, x.shape, x.dtype)
    plan_batch_norm_inference(&p, x, gamma, beta, running_mean, running_var, eps, y)
    run_plan(&p, threads)
    return y


def bias_grad(grad_out, *, int threads=1):
    """Sum over all but the last axis, ``(K,)``."""
    cdef plan p
    gb = np.empty(grad_out.shape[grad_out.ndim - 1], grad_out.dtype)
    _matrix(&p, grad_out)
    p.relu = 0
    p.a, p.out = pointer(grad_out), pointer(gb)
    kernels_for(grad_out).bias_grad(&p)
    run_plan(&p, threads)
    return gb


def relu_bias_grad(grad_out, y, *, int threads=1, out=None):
    """:func:`relu_grad` and the :func:`bias_grad` of its result, in one pass; `out` may be `grad_out`."""
    cdef plan p
    g, gb = result(out, y.shape, y.dtype), np.empty(y.shape[y.ndim - 1], y.dtype)
    _matrix(&p, y)
    p.relu = 1
    p.a, p.b, p.out, p.out2 = pointer(grad_out), pointer(y), pointer(gb), pointer(g)
    kernels_for(y).bias_grad(&p)
    run_plan(&p, threads)
    return g, gb


def softmax_cross_entropy(logits, labels, *, int threads=1):
    """Loss ``(N,)`` of each example and its gradient ``(N, classes)``; `labels` are int64."""
    cdef plan p
    labels = np.ascontiguousarray(labels, dtype=np.int64)
    losses, grad = np.empty(len(logits), logits.dtype), np.empty(logits.shape, logits.dtype)
    _matrix(&p, logits)
    p.a, p.b, p.out, p.out2 = pointer(logits), pointer(labels), pointer(losses), pointer(grad)
    kernels_for(logits).softmax(&p)
    run_plan(&p, threads)
    return losses, grad


def batch_norm(x, gamma, beta, double eps, *, int threads=1, out=None):
    """Normalised `x`, and the mean and 1 / standard deviation of each channel, ``(C,)``."""
    cdef plan p
    y = result(out, x.shape, x.dtype)
    mean, inv_std = np.empty(gamma.shape, x.dtype), np.empty(gamma.shape, x.dtype)
    _matrix(&p, x)
    p.eps = eps
    p.a, p.b, p.c = pointer(x), pointer(gamma), pointer(beta)
    p.out, p.out2, p.out3 = pointer(y), pointer(mean), pointer(inv_std)
    kernels_for(x).batch_norm(&p)
    run_plan(&p, threads)
    return y, mean, inv_std


def batch_norm_grad(x, grad_out, gamma, mean, inv_std, *, int threads=1, out=None):
    """Gradients for `x`, gamma and beta."""
    cdef plan p
    gx = result(out, x.shape, x.dtype)
    ggamma, gbeta = np.empty(gamma.shape, x.dtype), np.empty(gamma.shape, x.dtype)
    _matrix(&p, x)
    p.a, p.b, p.c, p.d, p.e = pointer(x), pointer(gamma), pointer(mean), pointer(inv_std), pointer(grad_out)
    p.out, p.out2, p.out3 = pointer(gx), pointer(ggamma), pointer(gbeta)
    kernels_for(x).batch_norm_grad(&p)
    run_plan(&p, threads)
    return gx, ggamma, gbeta
