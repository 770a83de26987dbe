/* winograd_filters.h: nine taps of LANES x LANES (input channel, output channel) pairs, output channels in
   the lanes.

   Forward, output channels are the filters, contiguous in memory. For the input gradient they are the
   weight's input channels and the filters run over the sum: blocks are transposed on the way, and the kernel
   is turned.
*/

/* rows[i] lane j  <->  rows[j] lane i, by log2(LANES) perfect shuffles. */
INLINE void NAME(transpose)(vec *rows) {
#if LANES == 2
#define LOW  0, 2
#define HIGH 1, 3
#elif LANES == 4
#define LOW  0, 4, 1, 5
#define HIGH 2, 6, 3, 7
#elif LANES == 8
#define LOW  0, 8, 1, 9, 2, 10, 3, 11
#define HIGH 4, 12, 5, 13, 6, 14, 7, 15
#else
#define LOW  0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#endif
    UNROLL
    for (int step = 1; step < LANES; step *= 2) {
        vec next[LANES];
        UNROLL
        for (int i = 0; i < LANES / 2; i++) {
            next[2 * i] = SHUFFLE(rows[i], rows[i + LANES / 2], LOW);
            next[2 * i + 1] = SHUFFLE(rows[i], rows[i + LANES / 2], HIGH);
        }
        UNROLL
        for (int i = 0; i < LANES; i++) rows[i] = next[i];
    }
#undef LOW
#undef HIGH
}

/* taps[i][t] for up to LANES input channels i from `in` and LANES output channels from `to` of one group. */
static void NAME(gather_taps)(const plan *p, const winograd_conv *w, ptrdiff_t group, ptrdiff_t in,
                              ptrdiff_t to, vec (*taps)[9]) {
    const REAL *weight = p->b;
    const ptrdiff_t filters = p->g.k, per_tap = p->g.c / p->g.groups * filters;
    const ptrdiff_t ins = min_of(LANES, w->c - in), tos = min_of(LANES, w->k - to);
    for (int t = 0; t < 9; t++) {
        if (!w->turned) {
            const REAL *from = weight + t * per_tap + in * filters + group * w->k + to;
            for (ptrdiff_t i = 0; i < ins; i++)
                taps[i][t] =
                    tos == LANES ? NAME(load)(from + i * filters) : NAME(load_some)(from + i * filters, tos);
        } else {
            const REAL *from = weight + (8 - t) * per_tap + to * filters + group * w->c + in;
            vec block[LANES];
            for (ptrdiff_t i = 0; i < LANES; i++)
                block[i] = i >= tos       ? (vec){0}
                           : ins == LANES ? NAME(load)(from + i * filters)
                                          : NAME(load_some)(from + i * filters, ins);
            NAME(transpose)(block);
            for (ptrdiff_t i = 0; i < LANES; i++) taps[i][t] = block[i];
        }
    }
}
