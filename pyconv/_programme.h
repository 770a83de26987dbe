/* _programme.h: runs the stages of many plans, one after the other, in one parallel region.

   A region takes some microseconds to start, as long as a small layer takes to compute. Here it starts once:
   between two stages the threads only meet at a barrier, and stages that one thread does follow one another
   without any. */
#ifndef PYCONV_PROGRAMME_H
#define PYCONV_PROGRAMME_H

#include "plan.h"
#include "subnormals.h"

#ifdef _OPENMP
#include <omp.h>
#endif

/* One stage of a plan. */
typedef struct pyconv_stage {
    const plan *p;
    int stage;
    int threads; /* that share its items */
    int meet;    /* all threads wait for one another after it */
    ptrdiff_t items, chunk;
    char *kept;                                  /* what is shared, if it is kept from run to run; or NULL */
    char *shared, *scratch;                      /* of thread 0; scratch of the others follows */
    ptrdiff_t next __attribute__((aligned(64))); /* the first item that no thread has taken */
} pyconv_stage;

/* Does what thread `me` has to do of a stage. */
static inline void pyconv_do_stage(pyconv_stage *s, int me) {
    char *const scratch = s->scratch + (size_t)me * s->p->scratch_bytes;
    if (s->threads == 1) {
        for (ptrdiff_t item = 0; item < s->items; item++) s->p->run(s->p, s->stage, item, s->shared, scratch);
        return;
    }
    for (;;) {
        const ptrdiff_t first = __atomic_fetch_add(&s->next, s->chunk, __ATOMIC_RELAXED);
        const ptrdiff_t end = first + s->chunk < s->items ? first + s->chunk : s->items;
        if (first >= s->items) return;
        for (ptrdiff_t item = first; item < end; item++) s->p->run(s->p, s->stage, item, s->shared, scratch);
    }
}

static void pyconv_run_stages(pyconv_stage *stages, int count, int threads) {
    for (int i = 0; i < count; i++) stages[i].next = 0;
#ifdef _OPENMP
    if (threads > 1) {
#pragma omp parallel num_threads(threads)
        {
            const int me = omp_get_thread_num();
            const float_control before = pyconv_flush_subnormals();
            for (int i = 0; i < count; i++) {
                if (me < stages[i].threads) pyconv_do_stage(&stages[i], me);
                if (stages[i].meet) {
#pragma omp barrier
                }
            }
            pyconv_set_control(before);
        }
        return;
    }
#endif
    const float_control before = pyconv_flush_subnormals();
    for (int i = 0; i < count; i++) {
        stages[i].threads = 1;
        pyconv_do_stage(&stages[i], 0);
    }
    pyconv_set_control(before);
}

#endif
