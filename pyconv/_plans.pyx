# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Runs the kernels: chooses the instruction set, the number of threads and the memory of a plan.

``_kernels/plan.h`` says what a plan is. ``threads=1`` is the serial backend: the same loop on one thread, with the same
bits.
"""

import math
import os

import numpy as np

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cython.parallel cimport prange, threadid
from libc.stdlib cimport free

from .errors import ShapeError, unknown_name

cdef extern from "stdlib.h" nogil:
    int posix_memalign(void **memory, size_t alignment, size_t size)

cdef extern from *:
    """
    #ifdef _OPENMP
    #define PYCONV_OPENMP 1
    #else
    #define PYCONV_OPENMP 0
    #endif

    static char pyconv_workspace_in_use;
    static int pyconv_enter_workspace(void) {
        return !__atomic_test_and_set(&pyconv_workspace_in_use, __ATOMIC_ACQUIRE);
    }
    static void pyconv_leave_workspace(void) {
        __atomic_clear(&pyconv_workspace_in_use, __ATOMIC_RELEASE);
    }
    """
    const int PYCONV_OPENMP
    bint pyconv_enter_workspace() nogil
    void pyconv_leave_workspace() nogil

has_openmp = bool(PYCONV_OPENMP)


# Which kernels ------------------------------------------------------------------------------------------------------

cdef int _isa = 0
cdef int _settings = 0


cdef int settings_number() noexcept:
    """Another number whenever a setting has changed on which the choice of kernels depends."""
    return _settings


cdef void count_settings() noexcept:
    """A setting has changed."""
    global _settings
    _settings += 1


def isas():
    """Instruction sets whose kernels this processor can run, the best last."""
    return tuple(pyconv_isa_name(i).decode() for i in range(ISA_COUNT) if pyconv_isa_available(i))


def isa():
    """Name of the instruction set whose kernels run."""
    return pyconv_isa_name(_isa).decode()


def vector_bytes():
    """Size of a vector of that instruction set."""
    return pyconv_vector_bytes(_isa)


def set_isa(name):
    """Run the kernels of instruction set `name` from now on; None for the best. For tests: see `PYCONV_ISA`."""
    global _isa
    count_settings()
    if name is None:
        _isa = pyconv_isa_best()
        return
    for i in range(ISA_COUNT):
        if pyconv_isa_name(i).decode() == name and pyconv_isa_available(i):
            _isa = i
            return
    raise unknown_name("instruction set of this processor", name, isas())


set_isa(os.environ.get("PYCONV_ISA") or None)


cdef const kernels *kernels_for(array):
    return pyconv_kernels(_isa, array.dtype == np.float64)


cdef const kernels *narrower_kernels_for(array):
    """Kernels with vectors half as wide and as many registers, or NULL: only AVX-512 has them."""
    return pyconv_kernels(ISA_AVX512VL, array.dtype == np.float64) if _isa == ISA_AVX512 else NULL


cdef bint _halves_vectors = pyconv_halves_vectors()


cdef double narrower_limit(const plan *p, int what, array) noexcept:
    """If vectors half as wide need fewer cycles than this, they replace plan `p`; 0 if they cannot.

    Estimates count whole and half vectors alike. Some processors do two half vectors in the time of a whole one: then
    half vectors pay if the last vector's second half is idle. Others do as many of either: then most lanes must be
    idle.
    """
    cdef ptrdiff_t half = 32 // array.itemsize, c = p.g.c // p.g.groups, k = p.g.k // p.g.groups
    if _halves_vectors:
        return 1.6 * p.cycles if 0 < (c if what == INPUT_GRAD else k) % (2 * half) <= half else 0
    return p.cycles if min(c, k) <= half else 0


cdef const kernel *choose(const kernels *among, const char *algorithm, int what, plan *p, double *cycles) noexcept:
    """`pyconv_choose`, for other modules: the kernels are linked with this one."""
    return pyconv_choose(among, algorithm, what, p, cycles)


def _compiled_algorithms():
    cdef int i = 0
    names = []
    while pyconv_algorithm(i) != NULL:
        names.append(pyconv_algorithm(i).decode())
        i += 1
    return tuple(names)


algorithms = ("naive", *_compiled_algorithms())


def table():
    """The kernels of convolution, in their order: the lines of ``_kernels/table.h``.

    Returns
    -------
    list of dict
        ``name``, ``algorithm``, ``operations`` (numbers: 0 forward, 1 the input's gradient, 2 the filters'), ``unit``
        (of a tile), ``lanes`` (what they hold), ``does`` (which geometries), ``file``, ``worth`` (it replaces a kernel
        above it if so many times its cycles are fewer), ``instead`` (the only kernel that it replaces, or None),
        ``compiled`` (False if the instruction set does without it).
    """
    cdef const kernel *k = pyconv_kernels(_isa, 0).table
    lines = []
    while k.name != NULL:
        own = [name for name in algorithms[1:] if pyconv_kernels_of(name.encode()) == k.algorithm]
        lines.append({
            "name": k.name.decode(), "algorithm": own[0],
            "operations": tuple(what for what in range(3) if k.operations >> what & 1),
            "unit": k.unit.decode(), "lanes": k.lanes.decode(), "does": k.does.decode(), "file": k.file.decode(),
            "worth": k.worth,
            "instead": None if k.instead == NULL else k.instead.decode(),
            "compiled": k.can != NULL,
        })
        k += 1
    return lines


# Running a plan -----------------------------------------------------------------------------------------------------

# A parallel region takes some microseconds to start. A thread with fewer cycles of work than this is not worth it.
cdef double _cycles_per_thread = 20_000


def _set_cycles_per_thread(cycles):
    """Set the least cycles of work of a thread; None for the default. For tests that want threads on tiny arrays."""
    global _cycles_per_thread
    count_settings()
    _cycles_per_thread = 20_000 if cycles is None else cycles


# One workspace is kept between calls, since fresh memory costs a page fault every 4 KiB. Without a GIL, Python's
# threads run at the same time: a thread that finds another one at these variables does without them.
cdef void *_kept = NULL
cdef size_t _kept_size = 0
cdef size_t MOST_KEPT = 256 << 20


cdef void *take_workspace(size_t size, size_t *got) except? NULL:
    global _kept
    cdef void *memory = NULL
    if pyconv_enter_workspace():
        if _kept != NULL and _kept_size >= size:
            memory, got[0] = _kept, _kept_size
            _kept = NULL
        pyconv_leave_workspace()
    if memory == NULL:
        if posix_memalign(&memory, 4096, size) != 0:
            raise MemoryError(f"{size} bytes of workspace for a convolution")
        got[0] = size
    return memory


cdef void give_back(void *memory, size_t size) noexcept:
    global _kept, _kept_size
    if size <= MOST_KEPT and pyconv_enter_workspace():
        if _kept == NULL or _kept_size < size:
            memory, _kept = _kept, memory
            _kept_size = size
        pyconv_leave_workspace()
    free(memory)


cdef int threads_for(double cycles, ptrdiff_t items, int threads) noexcept nogil:
    """How many threads are worth starting."""
    return _worth(cycles / _cycles_per_thread, items, threads)


cdef int threads_worth(double cycles, ptrdiff_t items, int threads) noexcept nogil:
    """How many threads are worth it that have started already: they only have to meet."""
    return _worth(4 * cycles / _cycles_per_thread, items, threads)


cdef int _worth(double worth, ptrdiff_t items, int threads) noexcept nogil:
    if threads > items:
        threads = <int> items
    if threads > worth:
        threads = <int> worth
    return max(threads, 1)


cdef void run_item(const plan *p, int stage, ptrdiff_t item, char *shared, char *scratch) noexcept nogil:
    cdef float_control before = pyconv_flush_subnormals()
    p.run(p, stage, item, shared, scratch)
    pyconv_set_control(before)


cdef void run_stage(const plan *p, int stage, int threads, char *shared, char *scratch) noexcept nogil:
    cdef ptrdiff_t item, items = p.items[stage], chunk
    threads = threads_for(p.cycles, items, threads)
    if threads == 1:
        for item in range(items):
            run_item(p, stage, item, shared, scratch)
        return
    chunk = max(items // (16 * threads), 1)
    for item in prange(items, num_threads=threads, schedule="dynamic", chunksize=chunk):
        run_item(p, stage, item, shared, scratch + threadid() * p.scratch_bytes)


cdef int run_plan(const plan *p, int threads) except -1:
    """Run a plan that is complete and has its operands."""
    cdef size_t shared = (p.shared_bytes + 63) // 64 * 64, got = 0
    cdef void *memory = NULL
    cdef int stage
    if not has_openmp:
        threads = 1
    if shared + p.scratch_bytes > 0:
        memory = take_workspace(shared + p.scratch_bytes * threads, &got)
    with nogil:
        for stage in range(p.stages):
            run_stage(p, stage, threads, <char *> memory, <char *> memory + shared)
    if memory != NULL:
        give_back(memory, got)
    return 0


# Arrays -------------------------------------------------------------------------------------------------------------

cdef void *pointer(array) except? NULL:
    """Address of an array's first number; NULL for None."""
    cdef Py_buffer view
    if array is None:
        return NULL
    PyObject_GetBuffer(array, &view, PyBUF_SIMPLE)      # several times as fast as array.ctypes.data
    PyBuffer_Release(&view)
    return view.buf


cdef result(out, shape, dtype):
    """`out`, which must have this shape, or a fresh array.

    A large one begins at a multiple of 64 bytes, for stores of whole cache lines.
    """
    if out is not None:
        if out.shape != shape:
            raise ShapeError(f"out must have the result's shape {shape}, not {out.shape}")
        return out
    cdef Py_ssize_t count = np.dtype(dtype).itemsize * math.prod(shape)
    if count < 1 << 16:
        return np.empty(shape, dtype)
    memory = np.empty(count + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + count].view(dtype).reshape(shape)
