/* direct_filters.h: the sizes that the parts of direct.h share (struct direct), and the packing of its
   filters.

   Filters are packed as [group][block of 2 LANES filters][phase row][phase column][i][j][c][2 LANES]: the
   tile reads them from first to last. Where the number of filters is no multiple of LANES, the last vector
   begins earlier and overlaps the one before. It computes some filters twice, to the same bits, and no store
   needs a mask. For dot.h a block is four filters or fewer, packed as [i][j][vector of the
   run][filters][LANES]. */

typedef struct NAME(direct) {
    ptrdiff_t grad;         /* the input gradient, not the forward pass */
    ptrdiff_t ih, iw, from; /* input size, and its channels of one group */
    ptrdiff_t oh, ow, to;   /* result size, and its channels of one group */
    ptrdiff_t n, groups, phases_y, phases_x;
    ptrdiff_t dot;             /* the tile is that of dot.h */
    ptrdiff_t vectors, blocks; /* of filters of one group; a block is two vectors or the last one */
    ptrdiff_t together;        /* grouped.h: groups of a block */
    ptrdiff_t width;           /* packed filters of one group: whole vectors, or as many as there are (dot) */
    ptrdiff_t size;            /* packed numbers of one filter, all phases */
    ptrdiff_t results;         /* result rows of the longest phase */
    ptrdiff_t rows, row_blocks;             /* rows (of a phase) of one item, and how many items that makes */
    ptrdiff_t splits;                       /* items among which the blocks of filters are divided */
    ptrdiff_t low_y, high_y, low_x, high_x; /* first and last tap of result 0, over all phases */
    ptrdiff_t step_y, step_x;               /* input positions from one result position to the next */
    ptrdiff_t columns;                      /* result columns of the widest phase */
    ptrdiff_t every;  /* every second input column is seen if stride and dilation are even; usually all (1) */
    ptrdiff_t copied; /* these columns of the input rows go through scratch */
    ptrdiff_t alone; /* groups that are not copied: kernel columns do not follow one another, one at a time */
    ptrdiff_t in_order; /* dot.h reads the input, which is large, in its order in memory */
    ptrdiff_t fetched;  /* input rows, most of which are needed, are read beforehand in that order */
    ptrdiff_t inside;   /* direct_inside.h: every kernel column leaves out the results that see padding */
    ptrdiff_t flat;     /* a row's pixels follow those of the row before, in the input and in the result */
    ptrdiff_t large;    /* the result goes past the caches */
} NAME(direct);

/* Columns of the input that an item sees. */
INLINE ptrdiff_t NAME(region_columns)(const NAME(direct) * d) {
    return (d->columns - 1) * d->step_x + d->high_x - d->low_x + 1;
}

INLINE ptrdiff_t NAME(region_rows)(const NAME(direct) * d) {
    return (d->rows - 1) * d->step_y + d->high_y - d->low_y + 1;
}

INLINE ptrdiff_t NAME(region_pixels)(const NAME(direct) * d) {
    return NAME(region_rows)(d) * NAME(region_columns)(d);
}

INLINE NAME(axis) NAME(direct_y)(const plan *p, ptrdiff_t phase) {
    const NAME(direct) *d = (const void *)p->own;
    return NAME(axis_down)(&p->g, d->grad, d->oh, phase);
}

/* The axis across. Its steps count the columns that are seen; in0 and d->iw count columns of the input. */
INLINE NAME(axis) NAME(direct_x)(const plan *p, ptrdiff_t phase) {
    const NAME(direct) *d = (const void *)p->own;
    NAME(axis) x = NAME(axis_across)(&p->g, d->grad, d->ow, phase);
    if (d->every > 1) { /* saves a division */
        x.in_step /= d->every;
        x.tap_step /= d->every;
    }
    return x;
}

/* Where vector v of a group's filters begins. */
INLINE ptrdiff_t NAME(vector_start)(ptrdiff_t v, ptrdiff_t filters) {
    const ptrdiff_t last = filters > LANES ? filters - LANES : 0;
    return v * LANES < last ? v * LANES : last;
}

/* How many packed filters come before a block, and how many it has. */
INLINE ptrdiff_t NAME(block_first)(const NAME(direct) * d, ptrdiff_t block) {
    return d->dot ? block * d->to / d->blocks : block < d->blocks ? 2 * block * LANES : d->width;
}

INLINE ptrdiff_t NAME(block_width)(const NAME(direct) * d, ptrdiff_t block) {
    return NAME(block_first)(d, block + 1) - NAME(block_first)(d, block);
}

/* Whether the columns of the kernel and the channels are one run in the input: they follow one another there.
 */
INLINE int NAME(is_merged)(const NAME(direct) * d, const NAME(axis) * x) {
    return x->tap_step == 1 && !d->alone;
}

/* Packed numbers of one filter in one row of the kernel, in one phase (phase_row); in all its rows. */
INLINE ptrdiff_t NAME(phase_row)(const NAME(direct) * d, const NAME(axis) * x) {
    if (!d->dot) return x->taps * d->from;
    const int merged = NAME(is_merged)(d, x);
    const ptrdiff_t runs = merged ? (x->taps > 0) : x->taps, run = merged ? x->taps * d->from : d->from;
    return runs * round_up(run, LANES);
}

INLINE ptrdiff_t NAME(phase_size)(const NAME(direct) * d, const NAME(axis) * y, const NAME(axis) * x) {
    return y->taps * NAME(phase_row)(d, x);
}

/* The filters of one kernel position, with the block's two vectors side by side: [c][vectors LANES]. For the
   input gradient the weight's filters are the channels of the sum: they are transposed on the way. */
static void NAME(pack_position)(const NAME(direct) * d, const REAL *w, ptrdiff_t next, ptrdiff_t inner,
                                ptrdiff_t block, REAL *to) {
    const ptrdiff_t width = NAME(block_width)(d, block), lanes = d->to < LANES ? d->to : LANES;
    for (ptrdiff_t v = 0; v < width / LANES; v++, to += LANES) {
        const REAL *source = w + NAME(vector_start)(2 * block + v, d->to) * next;
        if (lanes == LANES && next == 1)
            for (ptrdiff_t c = 0; c < d->from; c++) *(vec *)(to + c * width) = NAME(load)(source + c * inner);
        else if (lanes == LANES && d->from >= LANES)
            NAME(transpose_matrix)(source, next, LANES, d->from, to, width);
        else
            for (ptrdiff_t c = 0; c < d->from; c++) {
                REAL *lane = to + c * width;
                for (ptrdiff_t l = 0; l < lanes; l++) lane[l] = source[c * inner + l * next];
                for (ptrdiff_t l = lanes; l < LANES; l++) lane[l] = 0;
            }
    }
}

/* The same for dot.h: channels c of kernel position j of a run, to [vector][F filters][LANES]. */
INLINE void NAME(pack_lanes)(const NAME(direct) * d, const REAL *w, ptrdiff_t next, ptrdiff_t inner,
                             ptrdiff_t j, ptrdiff_t run, REAL *to, const int F) {
    for (ptrdiff_t c = 0, count; c < d->from; c += count) {
        const ptrdiff_t l = j * d->from + c, vector = l / LANES;
        const ptrdiff_t start = vector * LANES < run - LANES ? vector * LANES : run - LANES;
        REAL *const lanes = to + vector * F * LANES + l - start;
        count = min_of((vector + 1) * LANES - l, d->from - c);
        for (ptrdiff_t i = 0; i < count; i++) {
            UNROLL
            for (int f = 0; f < F; f++) lanes[f * LANES + i] = w[f * next + (c + i) * inner];
        }
    }
}

static void NAME(pack_run)(const NAME(direct) * d, const REAL *w, ptrdiff_t next, ptrdiff_t inner,
                           ptrdiff_t block, ptrdiff_t j, ptrdiff_t run, REAL *to) {
    const ptrdiff_t width = NAME(block_width)(d, block);
    w += NAME(block_first)(d, block) * next;
    if (width == 1) NAME(pack_lanes)(d, w, next, inner, j, run, to, 1);
    if (width == 2) NAME(pack_lanes)(d, w, next, inner, j, run, to, 2);
    if (width == 3) NAME(pack_lanes)(d, w, next, inner, j, run, to, 3);
    if (width == 4) NAME(pack_lanes)(d, w, next, inner, j, run, to, 4);
}

/* Stage 0: the filters of one block, for all phases. The part of a phase begins where the taps of the phases
   before it end, since every kernel position belongs to one phase. */
static void NAME(pack_filters)(const plan *p, ptrdiff_t item, REAL *packed) {
    const NAME(direct) *d = (const void *)p->own;
    const ptrdiff_t group = item / d->blocks, block = item % d->blocks, width = NAME(block_width)(d, block);
    const ptrdiff_t c_group = p->g.c / p->g.groups, k_group = p->g.k / p->g.groups, k = p->g.k;
    const ptrdiff_t next = d->grad ? k : 1, inner = d->grad ? 1 : k;
    REAL *to = packed + (group * d->width + NAME(block_first)(d, block)) * d->size;
    for (ptrdiff_t a = 0; a < d->phases_y; a++) {
        const NAME(axis) y = NAME(direct_y)(p, a);
        for (ptrdiff_t b = 0; b < d->phases_x; b++) {
            const NAME(axis) x = NAME(direct_x)(p, b);
            const int merged = NAME(is_merged)(d, &x);
            const ptrdiff_t run = merged ? x.taps * d->from : d->from;
            const ptrdiff_t vectors = (run + LANES - 1) / LANES;
            if (d->dot) memset(to, 0, (size_t)(NAME(phase_size)(d, &y, &x) * width) * sizeof(REAL));
            for (ptrdiff_t i = 0; i < y.taps; i++)
                for (ptrdiff_t j = 0; j < x.taps; j++) {
                    const ptrdiff_t at =
                        (y.kernel0 + i * y.kernel_step) * p->g.kw + x.kernel0 + j * x.kernel_step;
                    const REAL *w = (const REAL *)p->b + at * c_group * k + group * k_group;
                    if (!d->dot)
                        NAME(pack_position)(d, w, next, inner, block,
                                            to + (i * x.taps + j) * d->from * width);
                    else if (merged)
                        NAME(pack_run)(d, w, next, inner, block, j, run, to + i * vectors * width * LANES);
                    else
                        NAME(pack_run)(d, w, next, inner, block, 0, run,
                                       to + (i * x.taps + j) * vectors * width * LANES);
                }
            to += NAME(phase_size)(d, &y, &x) * width;
        }
    }
}
