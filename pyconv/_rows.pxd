"""Plans of what is computed row by row, for programmes: each function completes one, with its operands."""

from ._plans cimport plan

cdef int plan_relu(plan *p, x, y) except -1
cdef int plan_add(plan *p, x, y, z) except -1
cdef int plan_batch_norm_inference(plan *p, x, gamma, beta, running_mean, running_var, double eps, y) except -1
