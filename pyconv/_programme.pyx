# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Programme: operations that are recorded once, and then run again and again by one call, in one parallel region.

A programme has the operations of a backend's forward pass, with the same signatures. Called, they compute nothing: each
completes the plan that the backend would run, and keeps it. The bits are those of the backend, whose plans they are.
"""

import numpy as np

from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from ._cpu cimport is_fused, plan_avg_pool2d, plan_conv2d, plan_conv2d_pool, plan_max_pool2d, together
from ._dense cimport plan_dense
from ._elementwise cimport plan_activate
from ._moves cimport plan_copy, plan_pad2d
from ._plans cimport FORWARD, give_back, plan, pointer, settings_number, take_workspace, threads_worth
from ._rows cimport plan_add, plan_batch_norm_inference, plan_relu

from ._cpu import narrow_indices as _narrow_indices
from ._plans import has_openmp
from .errors import NotRecorded

cdef extern from "stdlib.h" nogil:
    int posix_memalign(void **memory, size_t alignment, size_t size)

cdef extern from "_programme.h" nogil:
    ctypedef struct pyconv_stage:
        const plan *p
        int stage, threads, meet
        ptrdiff_t items, chunk
        char *kept
        char *shared
        char *scratch

    void pyconv_run_stages(pyconv_stage *stages, int count, int threads)


# Of convolutions with at most so many pixels, prepared filters are kept, so many bytes in all.
cdef Py_ssize_t KEPT_PIXELS = 4096
cdef size_t KEPT_BYTES = 16 << 20


def _set_kept(nbytes, pixels):
    """Set how many bytes of filters a programme keeps, and of how many pixels; to measure what is worth it."""
    global KEPT_PIXELS, KEPT_BYTES
    KEPT_PIXELS, KEPT_BYTES = pixels, nbytes


# Where an operand is whose address differs from run to run.
cdef enum:
    IN_INPUT, IN_RESULT, BETWEEN    # the last: between two operations that are recorded as one
    PLACES

cdef struct operand:
    int number              # of the plan
    int place
    size_t field, offset    # where in the plan its address is; where it is from the place's beginning on

ctypedef void *address


cdef size_t _lines(size_t nbytes) noexcept nogil:
    """`nbytes` in whole cache lines."""
    return (nbytes + 63) // 64 * 64


cdef bint _within(const void *at, array) except -1:
    """Whether an address is in the memory of an array, which may be None."""
    if array is None:
        return False
    cdef size_t begin = <size_t> pointer(array)
    return begin <= <size_t> at < begin + <size_t> array.nbytes


cdef class Memory:
    """Memory that begins at a multiple of 64 and is freed with this object."""

    cdef char *at

    def __cinit__(self, size_t nbytes):
        cdef void *memory = NULL
        if posix_memalign(&memory, 64, max(nbytes, <size_t> 64)) != 0:
            raise MemoryError(f"{nbytes} bytes for a programme")
        self.at = <char *> memory

    def __dealloc__(self):
        free(self.at)


cdef class Stages:
    """Stages of plans, divided among threads."""

    cdef Memory _memory
    cdef int _count, threads, team
    cdef size_t _between, workspace     # bytes: of what is between two operations; of all that the stages need
    cdef char *_at                      # the workspace that the stages' addresses are in

    cdef int divide(
        self, const plan *plans, int count, char *kept, bint prepared, int threads, size_t between
    ) except -1:
        """Divide among so many threads the stages that prepare what is kept from run to run, or all others.

        What the plans keep is at `kept`, one after the other.
        """
        cdef const plan *p
        cdef pyconv_stage *stages
        cdef pyconv_stage *each
        cdef int i, stage, first, most = 0
        for i in range(count):
            most += plans[i].stages
        self._memory = Memory(most * sizeof(pyconv_stage))
        each = stages = <pyconv_stage *> self._memory.at
        self.team, self.workspace, self._between = 1, 0, _lines(between)
        for i in range(count):
            p = &plans[i]
            first = p.prepared if p.keep else 0
            for stage in range(0 if prepared else first, first if prepared else p.stages):
                each.p, each.stage, each.items = p, stage, p.items[stage]
                each.kept = kept if p.keep else NULL
                each.threads = threads_worth(p.cycles, p.items[stage], threads)
                each.chunk = max(each.items // (16 * each.threads), 1)
                each.meet = each.threads > 1
                self.team = max(self.team, each.threads)
                each += 1
            kept += _lines(p.shared_bytes) if p.keep else 0
        self._count = <int> (each - stages)
        for i in range(self._count - 1):
            stages[i].meet |= stages[i + 1].threads > 1
        for i in range(self._count):
            p = stages[i].p
            self.workspace = max(
                self.workspace, (0 if p.keep else _lines(p.shared_bytes)) + self.team * p.scratch_bytes
            )
        self.workspace += self._between
        self.threads, self._at = threads, NULL
        return 0

    cdef void place(self, char *memory) noexcept:
        """Let the stages use this workspace."""
        cdef pyconv_stage *each = <pyconv_stage *> self._memory.at
        cdef int _i
        for _i in range(self._count if memory != self._at else 0):
            each.scratch = memory + self._between
            each.shared = each.kept
            if each.kept == NULL:
                each.shared = each.scratch
                each.scratch += _lines(each.p.shared_bytes)
            each += 1
        self._at = memory

    cdef void run(self) noexcept nogil:
        pyconv_run_stages(<pyconv_stage *> self._memory.at, self._count, self.team)


cdef class Programme:
    """Operations in a row, of which the first ones read an input.

    Parameters
    ----------
    x : ndarray
        The input while operations are recorded; each run has another array of its shape. Everything else that
        operations read or write must stay where it is, and alive.

    Attributes
    ----------
    narrow_indices : bool
        As a backend's.
    kept_bytes : int
        Memory for filters that are kept as they were prepared.
    preparations : int
        How often such filters were prepared.
    """

    cdef readonly bint narrow_indices
    cdef readonly size_t kept_bytes
    cdef readonly int preparations
    cdef plan *_plans
    cdef plan *_keeping             # the same plans where filters are kept, or NULL
    cdef int _count, _room
    cdef list _parts                # memory that plans read, and arrays
    cdef list _operands             # numbers of each `operand`
    cdef object _x, _full           # arrays that stand for the input, and for what is between two operations
    cdef object _written            # what the last operation has written, as a whole
    cdef object _result             # the array that stands for the result, or None if each run finds it where it is
    cdef size_t _between            # bytes
    cdef int _settings
    cdef Stages _all, _first, _rest     # of `_plans`; of `_keeping`, those that prepare filters and the others
    cdef list _filters              # of each convolution the number of pixels, and that of the plan
    cdef object _seen, _prepared    # the state of the weights in the last run; with which the kept filters were made
    cdef Memory _kept, _places      # what is prepared; `operand`s

    def __cinit__(self, x):
        self._plans, self._count, self._room = NULL, 0, 0
        self._parts, self._operands = [], []
        self._x, self._full, self._written, self._result = x, None, None, None
        self._keeping, self._filters, self._seen, self._prepared, self._kept = NULL, [], None, None, None
        self._all, self._first, self._rest = Stages(), Stages(), Stages()
        self._between = self.kept_bytes = self.preparations = 0
        self.narrow_indices = _narrow_indices
        self._settings = settings_number()

    def __dealloc__(self):
        free(self._plans)
        free(self._keeping)

    def __len__(self):
        return self._count

    def __getattr__(self, name):
        raise NotRecorded(name)

    # ---- recording --------------------------------------------------------------------------------------------------

    cdef int _locate(self, size_t field, const void *at, array, int place) except -1:
        """Note operand `field` of the last plan if it is in `array`."""
        if _within(at, array):
            self._operands.append((self._count - 1, place, field, <size_t> at - <size_t> pointer(array)))
        return 0

    cdef int _add(self, const plan *p, written, tuple arrays) except -1:
        """Keep a complete plan, and its arrays; `written` is what it writes as a whole, or None."""
        if self._count == self._room:
            self._plans = <plan *> _grown(self._plans, 2 * self._room + 8)
            self._room = 2 * self._room + 8
        self._plans[self._count] = p[0]
        self._plans[self._count].keep = 0
        self._count += 1
        for array, place in ((self._x, IN_INPUT), (self._full, BETWEEN)):
            self._locate(<char *> &p.a - <char *> p, p.a, array, place)
            self._locate(<char *> &p.b - <char *> p, p.b, array, place)
            self._locate(<char *> &p.out - <char *> p, p.out, array, place)
        self._written = written
        for array in arrays:        # the input belongs to the caller
            if array is not None and not _within(pointer(array), self._x) and not _within(pointer(array), self._full):
                self._parts.append(array)
        return 0

    cdef plan *_part(self, size_t nbytes) except NULL:
        """Memory that lives as long as the programme."""
        cdef Memory made = Memory(nbytes)
        self._parts.append(made)
        return <plan *> made.at

    def cut(self, int count):
        """Forget all but the first `count` plans."""
        self._count, self._written = count, None
        self._operands = [each for each in self._operands if each[0] < count]
        self._filters = [each for each in self._filters if each[1] < count]

    def conv2d(self, x, weight, bias, g, *, activation=None, algorithm="auto", threads=1, out):
        """As a backend's operation of this name; so are the others."""
        cdef plan p
        if algorithm == "naive":
            raise NotRecorded(algorithm)
        plan_conv2d(&p, x, weight, bias, g, activation, algorithm, out)
        self._filters.append((g.n * g.oh * g.ow, self._count))
        self._add(&p, out, (x, weight, bias, out))
        return out

    def conv2d_pool(
        self, x, weight, bias, g, pg, *, activation=None, algorithm="auto", threads=1, out, indices=None
    ):
        cdef plan p
        cdef together *parts
        if algorithm == "naive" or indices is not None:
            raise NotRecorded("indices")
        if is_fused(x, g):
            parts = <together *> self._part(sizeof(together))
            plan_conv2d_pool(&p, parts, x, weight, bias, g, pg, activation, algorithm, out, None)
            self._add(&p, out, (x, weight, bias, out))
            return out
        self._full = np.empty(g.output_shape, x.dtype)
        self._between = max(self._between, <size_t> self._full.nbytes)
        try:
            self.conv2d(x, weight, bias, g, activation=activation, algorithm=algorithm, out=self._full)
            self.max_pool2d(self._full, pg, out=out)
        finally:
            self._full = None
        return out

    def max_pool2d(self, x, pg, *, threads=1, out, indices=None):
        cdef plan p
        if indices is not None:
            raise NotRecorded("indices")
        plan_max_pool2d(&p, x, pg, out, None)
        self._add(&p, out, (x, out))
        return out

    def avg_pool2d(self, x, pg, *, threads=1, out):
        cdef plan p
        plan_avg_pool2d(&p, x, pg, out)
        self._add(&p, out, (x, out))
        return out

    def dense(self, x, weight, bias, *, activation=None, threads=1, out):
        cdef plan p
        plan_dense(&p, self._part(sizeof(plan)), x, weight, bias, activation == "relu", out)
        self._add(&p, out, (x, weight, bias, out))
        return out

    def relu(self, x, *, threads=1, out):
        cdef plan p
        plan_relu(&p, x, out)
        self._add(&p, out, (x, out))
        return out

    def activate(self, x, kind, first=0.0, second=0.0, *, threads=1, out):
        cdef plan p
        plan_activate(&p, x, kind, first, second, out)
        self._add(&p, out, (x, out))
        return out

    def add(self, x, y, *, threads=1, out):
        cdef plan p
        plan_add(&p, x, y, out)
        self._add(&p, out, (x, y, out))
        return out

    def batch_norm_inference(self, x, gamma, beta, running_mean, running_var, eps, *, threads=1, out):
        cdef plan p
        plan_batch_norm_inference(&p, x, gamma, beta, running_mean, running_var, eps, out)
        self._add(&p, out, (x, gamma, beta, running_mean, running_var, out))
        return out

    def copy(self, x, *, out):
        cdef plan p
        plan_copy(&p, x, len(x), x.nbytes // len(x), out, 0)
        self._add(&p, out, (x, out))
        return out

    def concatenate(self, parts, *, threads=1, out):
        cdef plan p
        cdef Py_ssize_t row = out.shape[out.ndim - 1] * out.itemsize, offset = 0
        for part in parts:
            plan_copy(&p, part, out.nbytes // row, row, out, offset)
            self._add(&p, None, (part, out))
            offset += part.shape[part.ndim - 1] * part.itemsize
        return out

    def pad2d(self, x, padding, *, threads=1, out):
        cdef plan p
        plan_pad2d(&p, x, padding, out)
        self._add(&p, out, (x, out))
        return out

    # ---- running ----------------------------------------------------------------------------------------------------

    def finish(self, result=None):
        """End the recording.

        Parameters
        ----------
        result : ndarray, optional
            If it is what the last operation wrote, each run writes it to an array of its own.

        Returns
        -------
        bool
            Whether that is so.
        """
        cdef Memory places
        cdef operand *each
        if result is not None and self._written is not None and self._written.nbytes == result.nbytes:
            if <size_t> pointer(self._written) == <size_t> pointer(result):
                self._operands.append((self._count - 1, IN_RESULT, <char *> &self._plans.out - <char *> self._plans, 0))
                self._result = result
        places = Memory(len(self._operands) * sizeof(operand))
        each = <operand *> places.at
        for number, place, field, offset in self._operands:
            each.number, each.place, each.field, each.offset = number, place, field, offset
            each += 1
        self._places, self._x, self._written = places, None, None
        return self._result is not None

    @property
    def fresh(self):
        """Whether all plans are those that the backend would run now: its instruction set is the same, for example."""
        return self._settings == settings_number()

    cdef int _plan_keeping(self) except -1:
        """Complete the plans of the same kernels that keep prepared filters, as many as there is room for."""
        cdef plan *plans = <plan *> _grown(NULL, self._count)
        cdef plan p
        cdef size_t nbytes = 0
        memcpy(plans, self._plans, self._count * sizeof(plan))
        self._keeping = plans
        for pixels, number in sorted(self._filters):        # with few pixels, more of the time goes to filters
            p = plans[<int> number]
            p.keep = 1
            p.kernel.estimate(&p, FORWARD)
            if pixels <= KEPT_PIXELS and p.prepared > 0 and nbytes + _lines(p.shared_bytes) <= KEPT_BYTES:
                plans[<int> number] = p
                nbytes += _lines(p.shared_bytes)
        self._kept = Memory(nbytes)
        self.kept_bytes = nbytes
        return 0

    def run(self, x, int threads, out=None, weights=None):
        """Compute everything.

        Parameters
        ----------
        x : ndarray
            The input, of the shape and dtype of the one while operations were recorded.
        threads : int
        out : ndarray, optional
            An array for the result, if :meth:`finish` said so.
        weights : object, optional
            The state of the weights: with the same object as in the last run they are what they were. Then filters are
            prepared once, in memory of the programme's own; the bits of the result are the same.
        """
        cdef char *places[PLACES]
        cdef size_t got = 0
        cdef char *memory
        cdef operand *each = <operand *> self._places.at
        cdef address *field
        cdef int i
        cdef Py_ssize_t count = len(self._operands)
        cdef bint known = weights is not None and weights is self._seen, prepares = False
        cdef plan *plans = self._plans
        cdef Stages now = self._all
        threads = threads if has_openmp else 1
        self._seen = weights
        if known and self._keeping == NULL:
            self._plan_keeping()
        if known and self.kept_bytes > 0:
            plans, now = self._keeping, self._rest
            prepares = weights is not self._prepared
            if prepares:
                self._first.divide(plans, self._count, self._kept.at, True, threads, 0)
        if threads != now.threads:
            now.divide(plans, self._count, NULL if self._kept is None else self._kept.at, False, threads, self._between)
        places[IN_INPUT] = <char *> pointer(x)
        places[IN_RESULT] = <char *> pointer(self._result if out is None else out)
        memory = <char *> take_workspace(max(now.workspace, self._first.workspace), &got)
        places[BETWEEN] = memory
        now.place(memory)
        for i in range(<int> count):
            field = <address *> (<char *> &plans[each[i].number] + each[i].field)
            field[0] = places[each[i].place] + each[i].offset
        if prepares:
            self._first.place(memory)
            self._prepared = None
        with nogil:
            if prepares:
                self._first.run()
            now.run()
        give_back(memory, got)
        if prepares:
            self._prepared = weights
            self.preparations += 1


cdef void *_grown(void *memory, Py_ssize_t plans) except NULL:
    cdef void *more = realloc(memory, plans * sizeof(plan))
    if more == NULL:
        raise MemoryError(f"{plans} plans of a programme")
    return more
