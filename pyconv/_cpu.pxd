"""Plans of convolution and pooling, for programmes: each function completes one, with its operands."""

from ._plans cimport plan

cdef struct together:
    plan conv, pool                 # of one batch of images; without the operands that differ from batch to batch
    size_t conv_in, pool_out, indices       # bytes of one batch

cdef int plan_conv2d(plan *p, x, weight, bias, g, activation, str algorithm, y) except -1
cdef bint is_fused(x, g) except -1
cdef int plan_conv2d_pool(
    plan *p, together *f, x, weight, bias, g, pg, activation, str algorithm, y, indices
) except -1
cdef int plan_max_pool2d(plan *p, x, pg, y, indices) except -1
cdef int plan_avg_pool2d(plan *p, x, pg, y) except -1
