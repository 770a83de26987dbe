"""The plan of an activation, for programmes: it is completed with its operands."""

from ._plans cimport plan

cdef int plan_activate(plan *p, x, str kind, double first, double second, y) except -1
