/* few_examples.h: a fully connected layer for a few examples.

       y[n, k] = sum over c of x[n, c] w[c, k]

   There is less arithmetic than memory to read: the weights are read once, in the order in which they lie.
   Lanes are units k. An item adds up a part of the rows of the weights, some rows at a time, which stay in
   the L1 cache while every example uses them. The next rows are fetched meanwhile. */

enum {
    NAME(EXAMPLES) = 4, /* that share a vector of weights in registers */
    NAME(EXAMPLE_VECTORS) = REGISTERS == 32 ? 6 : 3,
    NAME(ROWS_BYTES) = 12 << 10, /* of weights at a time */
    NAME(PART_BYTES) = 16 << 10, /* an item has at least so much to read, */
    NAME(PART_ROWS) = 1 << 11    /* and at most so many terms of a sum */
};

typedef struct NAME(rows) {
    const REAL *x, *w, *ahead; /* ahead: the rows that come next */
    ptrdiff_t count, x_step, w_step, fetched;
    REAL *out;
    ptrdiff_t out_step;
    int fresh; /* out holds garbage: start from zero */
} NAME(rows);

/* Adds `count` rows to the sums of N examples, V vectors of units each. */
INLINE void NAME(add_rows_body)(const NAME(rows) * t, const int N, const int V) {
    const REAL *w = t->w, *ahead = t->ahead;
    vec sum[NAME(EXAMPLES)][8];
    UNROLL
    for (int n = 0; n < N; n++) {
        UNROLL
        for (int v = 0; v < V; v++)
            sum[n][v] = t->fresh ? (vec){0} : NAME(load)(t->out + n * t->out_step + v * LANES);
    }
    for (ptrdiff_t i = 0; i < t->count; i++, w += t->w_step, ahead += t->w_step) {
        if (i < t->fetched) NAME(fetch)(ahead, V * LANES, 0);
        UNROLL
        for (int v = 0; v < V; v++) {
            const vec weights = NAME(load)(w + v * LANES);
            UNROLL
            for (int n = 0; n < N; n++) sum[n][v] += t->x[n * t->x_step + i] * weights;
        }
    }
    UNROLL
    for (int n = 0; n < N; n++) {
        UNROLL
        for (int v = 0; v < V; v++) NAME(store)(t->out + n * t->out_step + v * LANES, sum[n][v]);
    }
}

#define ADD_ROWS(N, V)                                                                                       \
    static void NAME(add_rows_##N##_##V)(const NAME(rows) * t) {                                             \
        NAME(add_rows_body)(t, N, V);                                                                        \
    }
/* clang-format off */
ADD_ROWS(1, 1) ADD_ROWS(1, 2) ADD_ROWS(1, 3) ADD_ROWS(1, 4) ADD_ROWS(1, 5) ADD_ROWS(1, 6) ADD_ROWS(1, 7) ADD_ROWS(1, 8)
ADD_ROWS(4, 1) ADD_ROWS(4, 2) ADD_ROWS(4, 3)
#if REGISTERS == 32
ADD_ROWS(4, 4) ADD_ROWS(4, 5) ADD_ROWS(4, 6)
#endif
#undef ADD_ROWS

/* By the number of vectors. */
static void (*const NAME(add_rows_one)[])(const NAME(rows) *) = {
    NAME(add_rows_1_1), NAME(add_rows_1_2), NAME(add_rows_1_3), NAME(add_rows_1_4),
    NAME(add_rows_1_5), NAME(add_rows_1_6), NAME(add_rows_1_7), NAME(add_rows_1_8)};

static void (*const NAME(add_rows_four)[])(const NAME(rows) *) = {
    NAME(add_rows_4_1), NAME(add_rows_4_2), NAME(add_rows_4_3),
#if REGISTERS == 32
    NAME(add_rows_4_4), NAME(add_rows_4_5), NAME(add_rows_4_6),
#endif
};
/* clang-format on */

/* Adds rows to the sums of one block of units, of all examples. */
static void NAME(add_rows)(const NAME(layer) * d, NAME(rows) t) {
    for (ptrdiff_t n = 0; n < d->rows; t.fetched = 0) { /* the first examples fetch for all */
        const ptrdiff_t examples = d->rows - n >= NAME(EXAMPLES) ? NAME(EXAMPLES) : 1;
        if (examples == 1)
            NAME(add_rows_one)[d->vectors - 1](&t);
        else
            for (ptrdiff_t v = 0; v < d->vectors; v += NAME(EXAMPLE_VECTORS)) {
                NAME(rows) some = t;
                some.w += v * LANES, some.ahead += v * LANES, some.out += v * LANES;
                NAME(add_rows_four)[min_of(d->vectors - v, NAME(EXAMPLE_VECTORS)) - 1](&some);
            }
        n += examples, t.x += examples * t.x_step, t.out += examples * t.out_step;
    }
}

/* Item: a part of the rows. Its sums go to its own part of `shared`, [block][example][vectors of units]. The
   last vector of a row may reach into the rows that follow. Rows at the end that have no such rows are copied
   to `tail`. */
static void NAME(rows_part)(const plan *p, ptrdiff_t part, REAL *sums, REAL *tail) {
    const NAME(layer) *d = (const void *)p->own;
    const ptrdiff_t k = p->g.k, width = d->vectors * LANES, all = d->blocks * width;
    const ptrdiff_t last = even_cut(d->inner, d->parts, part + 1), inside = d->inner - d->tail;
    int fresh = 1;
    for (ptrdiff_t row = even_cut(d->inner, d->parts, part), count; row < last; row += count, fresh = 0) {
        const REAL *w = (const REAL *)p->b + row * k;
        ptrdiff_t step = k;
        if (row < inside)
            count = min_of(min_of(d->longest, last - row), inside - row);
        else {
            count = last - row, step = all;
            memset(tail, 0, (size_t)(count * all) * sizeof(REAL));
            for (ptrdiff_t i = 0; i < count; i++) memcpy(tail + i * all, w + i * k, (size_t)k * sizeof(REAL));
            w = tail;
        }
        NAME(rows) t = {.x = (const REAL *)p->a + row, .count = count, .x_step = d->row_step, .w_step = step};
        t.fetched = max_of(0, min_of(count, inside - row - count));
        t.fresh = fresh, t.out_step = width;
        for (ptrdiff_t block = 0; block < d->blocks; block++) {
            t.w = w + block * width, t.ahead = t.w + count * k;
            t.out = sums + block * d->rows * width;
            NAME(add_rows)(d, t);
        }
    }
}

static void NAME(few_examples_run)(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) {
    const NAME(layer) *d = (const void *)p->own;
    if (stage == 0)
        NAME(rows_part)(p, item, (REAL *)shared + item * d->blocks * d->rows * d->vectors * LANES, scratch);
    else
        NAME(sparse_sum)(p, item, shared);
}

/* a: images (n, c), b: filters (c, k), bias: (k,) or NULL, out: (n, k); with relu. Of p->g only n, c and k
   are read. */
static int NAME(few_examples)(plan *p) {
    NAME(layer) *d = (void *)p->own;
    const ptrdiff_t n = p->g.n, c = p->g.c, k = p->g.k, row = k * (ptrdiff_t)sizeof(REAL);
    if (n >= NAME(FEWEST) || c == 0) return 0;
    const ptrdiff_t vectors = ceil_div(k, LANES);
    d->blocks = ceil_div(vectors, 8), d->vectors = ceil_div(vectors, d->blocks);
    const ptrdiff_t all = d->blocks * d->vectors * LANES;
    d->inner = c, d->rows = n, d->row_step = c;
    d->tail = min_of(c, ceil_div(all - k, k));
    d->longest = max_of(4, NAME(ROWS_BYTES) / row);
    const ptrdiff_t fair = max_of(1, min_of(c * row / NAME(PART_BYTES), NAME(FORWARD_PARTS)));
    d->parts = min_of(c, max_of(fair, ceil_div(c, NAME(PART_ROWS))));
    p->stages = 2;
    p->items[0] = d->parts;
    p->items[1] = d->blocks;
    p->shared_bytes = (size_t)(d->parts * n * all) * sizeof(REAL);
    p->scratch_bytes = (size_t)(d->tail * all) * sizeof(REAL);
    p->cycles = (double)c * (double)vectors * (1 + 0.6 * (double)n);
    p->run = NAME(few_examples_run);
    return 1;
}
