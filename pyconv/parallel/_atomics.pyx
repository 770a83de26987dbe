# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Atomic words, waits and reductions over shared memory.

The control words of a parallel run are 64-bit integers in a memory segment that all its processes map. Every access
here is sequentially consistent, because the protocol (docs/explanation/parameter-server.md) reasons about one order of
all accesses.

Waiting threads sleep in the kernel (futex) on the low half of a word, always with a time-out. So neither a lost wake-up
nor a dead process can hang anyone: at worst the words are looked at late.
"""

from libc.stdint cimport int32_t, int64_t

cdef extern from *:
    """
    #include <errno.h>
    #include <limits.h>
    #include <math.h>
    #include <stdint.h>
    #include <time.h>
    #include <unistd.h>
    #if defined(__linux__)
    #include <linux/futex.h>
    #include <signal.h>
    #include <sys/prctl.h>
    #include <sys/syscall.h>
    #endif

    #if defined(__x86_64__) || defined(__i386__)
    #define pyconv_relax() __builtin_ia32_pause()
    #elif defined(__aarch64__)
    #define pyconv_relax() __asm__ __volatile__("yield")
    #else
    #define pyconv_relax() ((void)0)
    #endif

    /* The futex lives in the low 32 bits of the word, wherever the byte order puts them. */
    static int32_t *pyconv_low(int64_t *word) {
    #if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        return (int32_t *)word + 1;
    #else
        return (int32_t *)word;
    #endif
    }

    static void pyconv_sleep(int64_t *word, int32_t seen, double seconds) {
        struct timespec span;
        if (!(seconds > 0)) return;
        span.tv_sec = (time_t)seconds;
        span.tv_nsec = (long)((seconds - (double)span.tv_sec) * 1e9);
    #if defined(__linux__)
        syscall(SYS_futex, pyconv_low(word), FUTEX_WAIT, seen, &span, NULL, 0);
    #else
        (void)word; (void)seen;
        if (span.tv_sec || span.tv_nsec > 1000000) { span.tv_sec = 0; span.tv_nsec = 1000000; }
        nanosleep(&span, NULL);
    #endif
    }

    static void pyconv_wake(int64_t *word) {
    #if defined(__linux__)
        syscall(SYS_futex, pyconv_low(word), FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
    #else
        (void)word;
    #endif
    }

    static double pyconv_now(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
    }

    static int64_t pyconv_load(int64_t *word) { return __atomic_load_n(word, __ATOMIC_SEQ_CST); }
    static void pyconv_store(int64_t *word, int64_t value) { __atomic_store_n(word, value, __ATOMIC_SEQ_CST); }
    static int64_t pyconv_add(int64_t *word, int64_t value) {
        return __atomic_fetch_add(word, value, __ATOMIC_SEQ_CST);
    }
    static int pyconv_cas(int64_t *word, int64_t expected, int64_t desired) {
        return __atomic_compare_exchange_n(word, &expected, desired, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    }

    static int pyconv_all_reached(int64_t *first, ptrdiff_t stride, ptrdiff_t count, int64_t threshold) {
        for (ptrdiff_t i = 0; i < count; i++)
            if (__atomic_load_n(first + i * stride, __ATOMIC_SEQ_CST) < threshold) return 0;
        return 1;
    }

    static int pyconv_die_with_parent(void) {
    #if defined(__linux__)
        return prctl(PR_SET_PDEATHSIG, SIGKILL);
    #else
        return -1;
    #endif
    }

    /* Blocks of 1024 elements keep the sum in the L1 cache while the slots stream by. The numbers of each element are
       added in the order of the slots. */
    #define PYCONV_REDUCE(T, NAME)                                                                     \\
    static void NAME(const char *slots, ptrdiff_t stride, const double *weights, ptrdiff_t workers,    \\
                     T *restrict out, ptrdiff_t n) {                                                   \\
        for (ptrdiff_t start = 0; start < n; start += 1024) {                                          \\
            ptrdiff_t m = n - start < 1024 ? n - start : 1024;                                         \\
            T *restrict o = out + start;                                                               \\
            int first = 1;                                                                             \\
            for (ptrdiff_t w = 0; w < workers; w++) {                                                  \\
                const T *restrict g = (const T *)(slots + w * stride) + start;                         \\
                T weight = (T)weights[w];                                                              \\
                if (weights[w] == 0) continue;                                                         \\
                if (first) for (ptrdiff_t i = 0; i < m; i++) o[i] = weight * g[i];                     \\
                else for (ptrdiff_t i = 0; i < m; i++) o[i] += weight * g[i];                          \\
                first = 0;                                                                             \\
            }                                                                                          \\
            if (first) for (ptrdiff_t i = 0; i < m; i++) o[i] = 0;                                     \\
        }                                                                                              \\
    }
    PYCONV_REDUCE(float, pyconv_reduce_f)
    PYCONV_REDUCE(double, pyconv_reduce_d)

    /* A finite number times zero is zero; NaN and infinity give NaN, and NaN survives the sum. */
    #define PYCONV_FINITE(T, NAME)                                                                     \\
    static int NAME(const T *x, ptrdiff_t n) {                                                         \\
        T s[16] = {0};                                                                                 \\
        ptrdiff_t i = 0;                                                                               \\
        for (; i + 16 <= n; i += 16)                                                                   \\
            for (int j = 0; j < 16; j++) s[j] += x[i + j] * 0;                                         \\
        for (; i < n; i++) s[0] += x[i] * 0;                                                           \\
        for (int j = 1; j < 16; j++) s[0] += s[j];                                                     \\
        return s[0] == 0;                                                                              \\
    }
    PYCONV_FINITE(float, pyconv_finite_f)
    PYCONV_FINITE(double, pyconv_finite_d)
    """
    void pyconv_relax() noexcept nogil
    void pyconv_sleep(int64_t *word, int32_t seen, double seconds) noexcept nogil
    void pyconv_wake(int64_t *word) noexcept nogil
    double pyconv_now() noexcept nogil
    int64_t pyconv_load(int64_t *word) noexcept nogil
    void pyconv_store(int64_t *word, int64_t value) noexcept nogil
    int64_t pyconv_add(int64_t *word, int64_t value) noexcept nogil
    int pyconv_cas(int64_t *word, int64_t expected, int64_t desired) noexcept nogil
    int pyconv_all_reached(int64_t *first, Py_ssize_t stride, Py_ssize_t count, int64_t threshold) noexcept nogil
    int pyconv_die_with_parent() noexcept nogil
    void pyconv_reduce_f(const char *slots, Py_ssize_t stride, const double *weights, Py_ssize_t workers, float *out,
                         Py_ssize_t n) noexcept nogil
    void pyconv_reduce_d(const char *slots, Py_ssize_t stride, const double *weights, Py_ssize_t workers, double *out,
                         Py_ssize_t n) noexcept nogil
    int pyconv_finite_f(const float *x, Py_ssize_t n) noexcept nogil
    int pyconv_finite_d(const double *x, Py_ssize_t n) noexcept nogil

ctypedef fused real:
    float
    double


def load(int64_t[::1] words, Py_ssize_t i):
    """Value of ``words[i]``."""
    return pyconv_load(&words[i])


def store(int64_t[::1] words, Py_ssize_t i, int64_t value):
    """Set ``words[i]``."""
    pyconv_store(&words[i], value)


def add(int64_t[::1] words, Py_ssize_t i, int64_t value):
    """Add to ``words[i]``; returns the value before."""
    return pyconv_add(&words[i], value)


def cas(int64_t[::1] words, Py_ssize_t i, int64_t expected, int64_t desired):
    """Set ``words[i]`` to `desired` if it is `expected`; returns whether it was."""
    return bool(pyconv_cas(&words[i], expected, desired))


def wake(int64_t[::1] words, Py_ssize_t i):
    """Increment ``words[i]`` and wake all who sleep on it."""
    pyconv_add(&words[i], 1)
    pyconv_wake(&words[i])


def sleep_on(int64_t[::1] words, Py_ssize_t i, int64_t seen, double seconds):
    """Sleep until ``words[i]`` is no longer `seen`, someone wakes it, a signal comes, or `seconds` have passed."""
    with nogil:
        if pyconv_load(&words[i]) == seen:
            pyconv_sleep(&words[i], <int32_t>seen, seconds)


def all_reached(int64_t[::1] words, Py_ssize_t first, Py_ssize_t stride, Py_ssize_t count, int64_t threshold):
    """Whether `count` words, from `first` on and `stride` apart, are all at least `threshold`."""
    return bool(pyconv_all_reached(&words[first], stride, count, threshold))


def wait_reached(
    int64_t[::1] words,
    Py_ssize_t first,
    Py_ssize_t stride,
    Py_ssize_t count,
    int64_t threshold,
    Py_ssize_t event,
    double seconds,
    double spin_seconds,
):
    """Wait until `count` words are all at least `threshold`: spin for a moment, then sleep on the word `event`.

    Whoever raises the last of them must `wake` the event. Returns whether they are; False after `seconds`.
    """
    cdef double start, now
    cdef int64_t seen
    cdef int _k
    cdef bint reached = False
    with nogil:
        start = pyconv_now()
        while True:
            seen = pyconv_load(&words[event])
            if pyconv_all_reached(&words[first], stride, count, threshold):
                reached = True
                break
            now = pyconv_now()
            if now - start >= seconds:
                break
            if now - start < spin_seconds:
                for _k in range(64):
                    pyconv_relax()
            else:
                pyconv_sleep(&words[event], <int32_t>seen, seconds - (now - start))
    return reached


def reduce_slots(const real[:, :] slots, const double[::1] weights, real[::1] out):
    """``out = Σ_w weights[w] slots[w]``, added in the order of w; a slot of weight 0 is not read.

    Parameters
    ----------
    slots : (W, n) float32 or float64, rows contiguous
    weights : (W,) float64
    out : (n,) of the slots' dtype, overwritten
    """
    cdef Py_ssize_t n = out.shape[0]
    if slots.shape[0] != weights.shape[0] or slots.shape[1] != n:
        raise ValueError("slots, weights and out do not fit together")
    if n > 1 and slots.strides[1] != sizeof(real):
        raise ValueError("the rows of slots must be contiguous")
    if n == 0 or slots.shape[0] == 0:
        return
    with nogil:
        if real is float:
            pyconv_reduce_f(<const char *>&slots[0, 0], slots.strides[0], &weights[0], slots.shape[0], &out[0], n)
        else:
            pyconv_reduce_d(<const char *>&slots[0, 0], slots.strides[0], &weights[0], slots.shape[0], &out[0], n)


def finite(const real[::1] x):
    """Whether every element is finite."""
    cdef Py_ssize_t n = x.shape[0]
    cdef int answer = 1
    if n:
        with nogil:
            if real is float:
                answer = pyconv_finite_f(&x[0], n)
            else:
                answer = pyconv_finite_d(&x[0], n)
    return bool(answer)


def die_with_parent():
    """Ask the kernel to kill this process when the thread that started it ends; False where it cannot be asked."""
    return pyconv_die_with_parent() == 0
