"""The plan of a dense layer, for programmes: it is completed with its operands."""

from ._plans cimport plan

cdef int plan_dense(plan *p, plan *sparse, x, weight, bias, bint relu, y) except -1
