/* winograd_filters.h: collects the nine taps of LANES x LANES pairs of input and output channel, with output
   channels in the lanes, for the transform.

   In the forward pass, output channels are the filters, contiguous in memory. In the input gradient they are
   the weight's input channels, and the filters are summed over: blocks are transposed on the way, and the
   kernel is flipped.
*/

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
            NAME(transpose)(block, LANES);
            for (ptrdiff_t i = 0; i < LANES; i++) taps[i][t] = block[i];
        }
    }
}
