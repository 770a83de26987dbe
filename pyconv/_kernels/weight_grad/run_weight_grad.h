/* run_weight_grad.h: the weight gradient for few filters and many channels. The lanes are a run of the
   input's columns and channels (shifted.h), where outer.h has the filters.

       dw[i, l, k] = sum over pixels q of x[q + i row + l] dy[q, k]

   for neighbours l of a kernel row, LANES at a time. If a run is no multiple of LANES, its last vector
   overlaps the one before. The pixels are cut into blocks of rows, whose input is copied with its padding.
   Stage 0, an item: one part of the blocks and one group. Stage 1 adds the parts up in their order. */

enum { NAME(RUN_PIXELS) = 192 }; /* pixels of a block */

typedef struct NAME(runs) {
    ptrdiff_t from, to; /* channels and filters of one group */
    ptrdiff_t n, h, oh; /* of the images; if a kernel is one row high, all images are one */
    ptrdiff_t taps, run, vectors,
        places; /* of a kernel row: its runs, their length and vectors; places: vectors in all */
    ptrdiff_t rows, row_blocks, parts;
    ptrdiff_t touched; /* input and errors are read beforehand, in their order in memory */
    ptrdiff_t copied, region_rows, region_columns;
} NAME(runs);

/* Where vector v of a run begins. */
INLINE ptrdiff_t NAME(run_start)(const NAME(runs) * d, ptrdiff_t v) {
    return d->run < LANES ? 0 : min_of(v * LANES, d->run - LANES);
}

static void NAME(run_part)(const plan *p, ptrdiff_t item, REAL *sums, REAL *scratch) {
    const NAME(runs) *d = (const void *)p->own;
    const conv *g = &p->g;
    const ptrdiff_t group = item % g->groups, part = item / g->groups, blocks = d->n * d->row_blocks;
    ptrdiff_t *at = (void *)scratch;
    REAL *const region = scratch + round_up(d->places * (ptrdiff_t)sizeof *at, 64) / (ptrdiff_t)sizeof(REAL);
    const ptrdiff_t pixel = d->copied ? d->from : g->c, row = (d->copied ? d->region_columns : g->w) * pixel;
    for (ptrdiff_t i = 0; i < g->kh; i++)
        for (ptrdiff_t j = 0; j < d->taps; j++)
            for (ptrdiff_t v = 0; v < d->vectors; v++)
                at[(i * d->taps + j) * d->vectors + v] =
                    i * g->dh * row + j * g->dw * pixel + NAME(run_start)(d, v);
    memset(sums, 0, (size_t)(d->places * d->to * LANES) * sizeof(REAL));
    NAME(shifted)
    t = {.columns = g->ow, .x_step = g->sw * pixel, .x_row = g->sh * row, .dy_next = 1};
    t.dy_step = g->k, t.dy_row = g->ow * g->k;
    for (ptrdiff_t b = even_cut(blocks, d->parts, part); b < even_cut(blocks, d->parts, part + 1); b++) {
        const ptrdiff_t image = b / d->row_blocks, first = b % d->row_blocks * d->rows;
        const REAL *x = (const REAL *)p->a + image * d->h * g->w * g->c;
        t.rows = min_of(d->rows, d->oh - first);
        t.dy = (const REAL *)p->b + (image * d->oh + first) * t.dy_row + group * d->to;
        if (d->copied)
            NAME(copy_region)(region, x, d->h, g->w, g->c, first * g->sh - g->pt,
                              (t.rows - 1) * g->sh + (g->kh - 1) * g->dh + 1, -g->pl, d->region_columns,
                              group * d->from, d->from);
        else if (d->touched && group == 0) {
            NAME(touch)(x + first * g->sh * row, ((t.rows - 1) * g->sh + 1) * row);
            NAME(touch)(t.dy, t.rows * t.dy_row);
        }
        t.x = d->copied ? region : x + first * g->sh * row + group * d->from;
        NAME(shifted_sums)(&t, at, d->places, d->to, sums);
    }
}

/* One run: adds up the sums of all parts, and transposes them to where they belong. */
static void NAME(run_sum)(const plan *p, ptrdiff_t item, const REAL *shared) {
    const NAME(runs) *d = (const void *)p->own;
    const ptrdiff_t runs = p->g.kh * d->taps, group = item / runs, size = d->places * d->to * LANES;
    for (ptrdiff_t v = 0; v < d->vectors; v++) {
        const ptrdiff_t place = item % runs * d->vectors + v;
        const ptrdiff_t element = item % runs * d->run + NAME(run_start)(d, v);
        REAL *const out = (REAL *)p->out + element * p->g.k + group * d->to;
        for (ptrdiff_t k = 0; k < d->to; k++) {
            REAL lanes[LANES] __attribute__((aligned(VECTOR_BYTES)));
            *(vec *)lanes = NAME(sum_of_parts)(shared + group * size + (place * d->to + k) * LANES,
                                               p->g.groups * size, d->parts);
            for (ptrdiff_t l = 0; l < min_of(LANES, d->run); l++) out[l * p->g.k + k] = lanes[l];
        }
    }
}

static void NAME(run_grad_run)(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) {
    const NAME(runs) *d = (const void *)p->own;
    if (stage == 1)
        NAME(run_sum)(p, item, shared);
    else
        NAME(run_part)(p, item, (REAL *)shared + item * d->places * d->to * LANES, scratch);
}

static void NAME(run_grad_plan)(plan *p, int what) {
    const conv *g = &p->g;
    NAME(runs) *d = (void *)p->own;
    (void)what;
    _Static_assert(sizeof(NAME(runs)) <= sizeof p->own, "the plan holds the algorithm's numbers");
    const ptrdiff_t size = sizeof(REAL), reach = (g->kh - 1) * g->dh + 1;
    *d = (NAME(runs)){.from = g->c / g->groups, .to = g->k / g->groups, .n = g->n, .h = g->h, .oh = g->oh};
    d->region_columns = (g->ow - 1) * g->sw + (g->kw - 1) * g->dw + 1;
    d->taps = g->dw == 1 ? 1 : g->kw;
    d->run = g->dw == 1 ? g->kw * d->from : d->from;
    d->vectors = ceil_div(d->run, LANES);
    d->places = g->kh * d->taps * d->vectors;
    d->copied = (g->groups > 1 && g->kw > 1) || g->pt > 0 || g->pl > 0 || d->region_columns > g->w ||
                (g->oh - 1) * g->sh + reach > g->h || d->run < LANES;
    d->touched = !d->copied && NAME(is_touched)(g);
    if (NAME(row_by_row)(g)) d->oh = d->h = g->n * g->h, d->n = 1;
    d->rows = min_of(ceil_div(NAME(RUN_PIXELS), g->ow), d->oh);
    d->row_blocks = even_blocks(d->oh, &d->rows);
    d->region_rows = (d->rows - 1) * g->sh + reach;
    d->parts = NAME(gradient_parts)(g, g->groups, d->n * d->row_blocks,
                                    g->groups * d->places * d->to * LANES * size);

    const double pixels = (double)(d->n * d->oh * g->ow), blocks = (double)(d->n * d->row_blocks);
    p->cycles =
        1.2 * (double)g->groups *
        (NAME(shifted_cycles)(d->places, d->to, pixels, blocks) + (double)(d->parts * d->places * d->to) * 8);
    p->stages = 2;
    p->items[0] = d->parts * g->groups;
    p->items[1] = g->kh * d->taps * g->groups;
    p->shared_bytes = (size_t)(d->parts * g->groups * d->places * d->to * LANES * size);
    const ptrdiff_t region = d->copied ? d->region_rows * d->region_columns * d->from + LANES : 0;
    p->scratch_bytes =
        (size_t)round_up(round_up(d->places * (ptrdiff_t)sizeof(ptrdiff_t), 64) + region * size, 64);
}
