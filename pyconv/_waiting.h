/* _waiting.h: lets OpenMP's threads spin or sleep while they wait for work, and measures how long threads had
   to wait for a CPU. _waiting.pyx decides the first by the second.

   GNU OpenMP reads how long its threads spin only once, when it is loaded. It uses a second, "throttled"
   number while the process has more OpenMP threads than CPUs. To get there, a thread of ours holds a small
   team that sleeps; as long as it holds the team, the other threads spin briefly. LLVM's OpenMP has a
   function for it. */
#ifndef PYCONV_WAITING_H
#define PYCONV_WAITING_H

#if defined(_OPENMP) && defined(__linux__)

#include <fcntl.h>
#include <omp.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define PYCONV_CAN_WATCH 1
#define PYCONV_NEVER     INT64_MAX

extern void kmp_set_blocktime(int milliseconds) __attribute__((weak));
extern int kmp_get_blocktime(void) __attribute__((weak));

static int64_t pyconv_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* When to look */

static int64_t pyconv_next_look = PYCONV_NEVER;

/* Whether it is time for a look. Of the threads that ask, one gets yes, then none for `interval` ns. */
static inline int pyconv_look_is_due(int64_t interval) {
    int64_t due = __atomic_load_n(&pyconv_next_look, __ATOMIC_RELAXED);
    if (due == PYCONV_NEVER) return 0;
    const int64_t now = pyconv_ns(CLOCK_MONOTONIC_COARSE);
    return now >= due && __atomic_compare_exchange_n(&pyconv_next_look, &due, now + interval, 0,
                                                     __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

/* How long threads waited for a CPU */

/* Nanoseconds since the calling thread began that it was ready to run and did not run; -1 if the kernel keeps
   no account of it. The file has three numbers, and this is the second. */
static int64_t pyconv_account(void) {
    char text[96];
    const int file = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    if (file < 0) return -1;
    const ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    if (length <= 0) return -1;
    text[length] = 0;
    char *at = text;
    strtoll(at, &at, 10);
    const int64_t waited = strtoll(at, &at, 10);
    return strtoll(at, &at, 10) > 0 ? waited : -1;
}

static int pyconv_has_account;

static int64_t pyconv_waited_ns(void) {
    if (pyconv_has_account) return pyconv_account();
#ifdef RUSAGE_THREAD
    struct rusage used; /* counts how often it lost its CPU to another program: each time one time slice */
    if (getrusage(RUSAGE_THREAD, &used) == 0) return used.ru_nivcsw * INT64_C(3000000);
#endif
    return 0;
}

static __thread int64_t pyconv_seen_ran, pyconv_seen_waited;

/* How the calling thread spent the time since its last look: seconds on a CPU, and seconds in which it waited
   for one. Time in which it had nothing to do is in neither. */
static void pyconv_own_times(double *ran, double *waited) {
    const int64_t ran_ns = pyconv_ns(CLOCK_THREAD_CPUTIME_ID), waited_ns = pyconv_waited_ns();
    *ran = 1e-9 * (double)(ran_ns - pyconv_seen_ran);
    *waited = pyconv_seen_ran != 0 && waited_ns > pyconv_seen_waited
                  ? 1e-9 * (double)(waited_ns - pyconv_seen_waited)
                  : 0;
    pyconv_seen_ran = ran_ns;
    pyconv_seen_waited = waited_ns;
}

/* The same for a team: the longest times of any thread, because a team is as late as its last thread. */
static void pyconv_times(int threads, double *ran, double *waited) {
    double most_ran = 0, most_waited = 0;
#pragma omp parallel num_threads(threads) reduction(max : most_ran, most_waited)
    {
        double own_ran, own_waited;
        pyconv_own_times(&own_ran, &own_waited);
        most_ran = own_ran > most_ran ? own_ran : most_ran;
        most_waited = own_waited > most_waited ? own_waited : most_waited;
    }
    *ran = most_ran;
    *waited = most_waited;
}

/* How threads wait */

struct pyconv_holder {
    sem_t enough;
    int extra; /* threads besides the one that holds the team */
};

static struct pyconv_holder *pyconv_held;
static int pyconv_cpus, pyconv_blocktime;

enum { PYCONV_MOST_EXTRA = 128 };

static void *pyconv_pass(void *gate) {
    while (sem_wait(gate) != 0) continue;
    return NULL;
}

/* Whether the system grants so many more threads. If it does not, OpenMP's library ends the process. */
static int pyconv_room_for(int extra) {
    pthread_t threads[PYCONV_MOST_EXTRA];
    sem_t gate;
    int made = 0;
    sem_init(&gate, 0, 0);
    while (made < extra && pthread_create(&threads[made], NULL, pyconv_pass, &gate) == 0) made++;
    for (int i = 0; i < made; i++) sem_post(&gate);
    for (int i = 0; i < made; i++) pthread_join(threads[i], NULL);
    sem_destroy(&gate);
    return made == extra;
}

/* A thread that holds a team: the team's threads sleep until this thread ends, and it sleeps until it is told
 * to. */
static void *pyconv_hold(void *argument) {
    struct pyconv_holder *holder = argument;
    int present = 0;
    if (pyconv_room_for(holder->extra)) {
        omp_set_dynamic(0); /* for this thread: OpenMP must not make the team smaller */
#pragma omp parallel num_threads(holder->extra + 1)
        {
#pragma omp atomic
            present++;
        }
    }
    while (sem_wait(&holder->enough) != 0) continue;
    sem_destroy(&holder->enough);
    free(holder);
    return NULL;
}

static void pyconv_release(void) {
    struct pyconv_holder *holder = __atomic_exchange_n(&pyconv_held, NULL, __ATOMIC_ACQ_REL);
    if (holder != NULL) sem_post(&holder->enough);
}

/* Makes more OpenMP threads than CPUs, beside a team of `threads`. */
static void pyconv_crowd(int threads) {
    struct pyconv_holder *holder = malloc(sizeof *holder), *none = NULL;
    const int extra = threads < pyconv_cpus ? pyconv_cpus - threads + 1 : 1;
    sigset_t all, before;
    pthread_t thread;
    if (holder == NULL || extra > PYCONV_MOST_EXTRA) {
        free(holder);
        return;
    }
    holder->extra = extra;
    sem_init(&holder->enough, 0, 0);
    if (!__atomic_compare_exchange_n(&pyconv_held, &none, holder, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
        sem_destroy(&holder->enough);
        free(holder); /* another thread was faster */
        return;
    }
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals go to the program's own threads */
    if (pthread_create(&thread, NULL, pyconv_hold, holder) == 0) {
        pthread_detach(thread);
    } else {
        __atomic_store_n(&pyconv_held, NULL, __ATOMIC_RELEASE);
        sem_destroy(&holder->enough);
        free(holder);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* Lets threads sleep at once, or spin as the library was told; with LLVM's OpenMP, those of the caller's
 * teams. */
static void pyconv_wait_briefly(int briefly, int threads) {
    if (kmp_set_blocktime != NULL) {
        kmp_set_blocktime(briefly ? 0 : pyconv_blocktime);
    } else if (!briefly) {
        pyconv_release();
    } else if (__atomic_load_n(&pyconv_held, __ATOMIC_RELAXED) == NULL) {
        pyconv_crowd(threads);
    }
}

/* Beginning and end */

/* A forked child has one thread, and computes on it. */
static void pyconv_forget(void) {
    pyconv_next_look = PYCONV_NEVER;
    pyconv_held = NULL;
}

static void pyconv_start(void) {
    if (pyconv_cpus == 0) {
        pyconv_cpus = omp_get_num_procs();
        pyconv_has_account = pyconv_account() >= 0;
        pyconv_blocktime = kmp_get_blocktime != NULL ? kmp_get_blocktime() : 0;
        pthread_atfork(NULL, NULL, pyconv_forget);
    }
    __atomic_store_n(&pyconv_next_look, 0, __ATOMIC_RELEASE);
}

static void pyconv_stop(void) {
    __atomic_store_n(&pyconv_next_look, PYCONV_NEVER, __ATOMIC_RELEASE);
    pyconv_release();
}

#else /* threads wait as OpenMP's library decides */

#define PYCONV_CAN_WATCH 0

static inline int pyconv_look_is_due(long long interval) {
    (void)interval;
    return 0;
}

static inline void pyconv_times(int threads, double *ran, double *waited) {
    (void)threads;
    *ran = *waited = 0;
}

static inline void pyconv_wait_briefly(int briefly, int threads) {
    (void)briefly;
    (void)threads;
}

static inline void pyconv_start(void) {}

static inline void pyconv_stop(void) {}

#endif

#endif
