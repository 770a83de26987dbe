# cython: cdivision=True
"""Decides whether OpenMP's threads spin or sleep while they wait, from how long threads had to wait for a CPU.

A thread that spins answers at once. But beside a program that wants its CPU, it takes time from the very thread that it
waits for. So threads spin until the kernel says that they wait for CPUs; then they sleep, and after a while spinning is
tried again. Decision 24 says why, and ``_waiting.h`` how. A look at the kernel's numbers takes about 20 microseconds;
it happens at the start of an operation on several threads, at most every tenth of a second.
"""

from libc.stdint cimport int64_t


cdef extern from "_waiting.h" nogil:
    const int PYCONV_CAN_WATCH
    bint pyconv_look_is_due(int64_t interval)
    void pyconv_times(int threads, double *ran, double *waited)
    void pyconv_wait_briefly(bint briefly, int threads)
    void pyconv_start()
    void pyconv_stop()


cdef int64_t INTERVAL = 100_000_000     # nanoseconds between two looks
cdef double WAITED = 0.08               # share of the time: if a thread waited more, another program is the cause
cdef double LEAST = 1, MOST = 32        # seconds without waiting after which spinning is tried again

can_watch = bool(PYCONV_CAN_WATCH)


cdef class Rule:
    """Spin until threads wait for CPUs; then sleep until they have not waited for a while.

    Threads that sleep disturb nobody even if the other program is still there, so only trying to spin tells. After each
    try that fails, the time before the next one doubles.

    Attributes
    ----------
    brief : bool
        Whether threads sleep now.
    tries : int
        How often threads began to sleep.
    """

    cdef public bint brief
    cdef public int tries
    cdef double calm, patience, spun

    def __init__(self):
        self.patience, self.spun = LEAST, MOST

    cdef bint decide(self, double seconds, double waited) noexcept nogil:
        if self.brief:
            self.calm = self.calm + seconds if waited < WAITED else 0
            if self.calm >= self.patience:
                self.brief, self.spun = False, 0
        elif waited < WAITED:
            self.spun += seconds
        else:
            self.patience = min(2 * self.patience, MOST) if self.spun < self.patience else LEAST
            self.brief, self.calm = True, 0
            self.tries += 1
        return self.brief

    def look(self, double seconds, double waited):
        """Decide after `seconds`, of which a thread `waited` that share for a CPU; returns whether threads sleep."""
        return self.decide(seconds, waited)


cdef Rule rule = Rule()


cdef double share(double seconds, double waited) noexcept nogil:
    # Of one interval at least: a few milliseconds of waiting, as when another program ends, happen once only.
    return waited / max(seconds, 1e-9 * INTERVAL)


cdef void look(int threads) noexcept nogil:
    cdef double ran, waited
    pyconv_times(threads, &ran, &waited)
    # Only time in which threads wanted a CPU counts: a pause between two calls does not show that CPUs are free.
    pyconv_wait_briefly(rule.decide(min(ran + waited, 3e-9 * INTERVAL), share(ran + waited, waited)), threads)


def watch(int threads):
    """Call this before an operation on so many threads: if it is time, decide anew how they wait."""
    if threads > 1 and pyconv_look_is_due(INTERVAL):
        with nogil:
            look(threads)


def start():
    """Decide how threads wait, from now on."""
    pyconv_start()


def stop():
    """Decide no more: threads wait as OpenMP's library does."""
    pyconv_stop()
    rule.brief = False


def state():
    """Whether threads sleep now instead of spinning, and how often they began to."""
    return rule.brief, rule.tries


def share_waited(int threads):
    """The share of the time since the last look in which a thread wanted a CPU and had to wait; the team's largest."""
    cdef double ran, waited
    with nogil:
        pyconv_times(threads, &ran, &waited)
    return share(ran + waited, waited)


def sleep_now(bint briefly, int threads=2):
    """Let threads sleep or spin, whatever other programs do. For tests, after :func:`stop`."""
    pyconv_wait_briefly(briefly, threads)
