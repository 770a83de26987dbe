"""Plans of copies, for programmes: each function completes one, with its operands."""

from ._plans cimport plan

cdef int plan_copy(plan *p, x, Py_ssize_t count, Py_ssize_t target, y, Py_ssize_t offset) except -1
cdef int plan_pad2d(plan *p, x, padding, y) except -1
