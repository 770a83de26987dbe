/* pooled_weight_grad.h: the weight gradient of a convolution straight from the errors of the max pooling that
   follows it.

       dw[i, j, c, k] = sum over pooled pixels q of x[at(q, k) + (i, j), c] e[q, k]
       db[k]          = sum over pooled pixels q of e[q, k]

   where at(q, k) is the pixel of window q that was filter k's maximum. e is the pooled error; with ReLU it is
   zero where the pooled result is not positive. Most errors of the convolution's own pixels are zero (three
   of four after 2x2 pooling). They are never written, and nothing is multiplied by them: a quarter of the
   multiply-adds remains. In a first layer, whose images need no gradient, this is the whole backward pass.

   Lanes are filters, and each lane has its own pixel of the window. All the pixels that a lane may want for
   neighbours l of a kernel row (columns and channels follow one another) lie in one vector, the table: LANES
   / ph numbers from each of the window's ph rows. A permutation of the table gives each lane its own pixel:
   one permutation and one multiply-add for a tap.

       table    [ row r: l, l + 1, ... | row r + 1: l, l + 1, ... ]            (ph = 2)

   With four lanes a table would hold two numbers of a row, fewer than a window needs beside its taps.

   Stage 0, an item: some of the images. Its sums, [i][l][filters] and then [filters] for the bias, are in its
   own part of `shared`. Stage 1 adds the parts up in their order. */

#if LANES >= 8
enum {
    NAME(POOLED_PARTS) = 32,
    NAME(POOLED_TAPS) = LANES == 16 ? 7 : 3, /* the most of one table that are compiled */
    NAME(POOLED_TABLES) = 32 << 10           /* bytes of tables, in the first-level cache */
};

typedef struct NAME(pooled) {
    ptrdiff_t part;               /* numbers of a table that come from one row of the window */
    ptrdiff_t chunk;              /* taps of a kernel row that one table serves */
    ptrdiff_t run;                /* columns of the kernel and channels */
    ptrdiff_t rows, row_blocks;   /* pooled rows whose tables are made at a time */
    ptrdiff_t region_rows, width; /* input rows and numbers of a row that a block of them sees */
    ptrdiff_t vectors, parts;     /* vectors of filters; items among which the images are divided */
    ptrdiff_t size;               /* numbers of one part's sums */
} NAME(pooled);

typedef struct NAME(scatter) {
    const REAL *tables, *errors, *y; /* y: NULL, or the pooled result, for the gradient of its ReLU */
    const unsigned char *places;
    REAL *sums, *bias; /* bias: NULL, or sums of the errors */
    ptrdiff_t rows, columns;
    ptrdiff_t table_row,
        pooled_row;            /* steps from kernel row to kernel row, and from pooled row to pooled row */
    ptrdiff_t k, tap, tap_row; /* steps: errors, sums of neighbouring taps, sums of kernel rows */
    vec in_table[1];           /* for each place in the window: where in the table tap 0 is, as integers */
} NAME(scatter);

/* I kernel rows of L taps. */
INLINE void NAME(scatter_body)(const NAME(scatter) * t, const int I, const int L) {
    const ptrdiff_t table_row = t->table_row, k = t->k;
    const REAL *const y = t->y;
    const vec in_table = t->in_table[0];
    vec sum[5][8], bias = {0};
    UNROLL
    for (int i = 0; i < I; i++) {
        UNROLL
        for (int l = 0; l < L; l++) sum[i][l] = (vec){0}; /* as in outer.h */
    }
    for (ptrdiff_t r = 0; r < t->rows; r++) {
        const REAL *tables = t->tables + r * t->pooled_row;
        const ptrdiff_t row = r * t->columns * k;
        for (ptrdiff_t s = 0; s < t->columns; s++, tables += LANES) {
            const ptrdiff_t at = row + s * k;
            vec error = NAME(load)(t->errors + at);
            if (y) error = NAME(select)(NAME(load)(y + at) > (vec){0}, error, (vec){0});
            bias += error;
            const ivec place = (ivec)NAME(permute)(in_table, NAME(load_numbers)(t->places, at, 1));
            UNROLL
            for (int l = 0; l < L; l++) {
                const ivec here = place + l;
                UNROLL
                for (int i = 0; i < I; i++)
                    sum[i][l] += NAME(permute)(*(const vec *)(tables + i * table_row), here) * error;
            }
        }
    }
    UNROLL
    for (int i = 0; i < I; i++) {
        UNROLL
        for (int l = 0; l < L; l++) *(vec *)(t->sums + i * t->tap_row + l * t->tap) += sum[i][l];
    }
    if (t->bias) *(vec *)t->bias += bias;
}

#define SCATTER(I, L)                                                                                        \
    static void NAME(scatter_##I##x##L)(const NAME(scatter) * t) {                                           \
        NAME(scatter_body)(t, I, L);                                                                         \
    }
#define S(I, L) NAME(scatter_##I##x##L)
/* clang-format off */
SCATTER(1, 1) SCATTER(1, 2) SCATTER(1, 3)
SCATTER(2, 1) SCATTER(2, 2) SCATTER(2, 3)
SCATTER(3, 1) SCATTER(3, 2) SCATTER(3, 3)
SCATTER(4, 1) SCATTER(4, 2)
SCATTER(5, 1)
#if REGISTERS == 32
SCATTER(4, 3)
SCATTER(5, 2) SCATTER(5, 3)
#endif
#if LANES == 16
SCATTER(1, 4) SCATTER(1, 5) SCATTER(1, 6) SCATTER(1, 7)
SCATTER(2, 4) SCATTER(2, 5) SCATTER(2, 6) SCATTER(2, 7)
SCATTER(3, 4) SCATTER(3, 5) SCATTER(3, 6) SCATTER(3, 7)
SCATTER(4, 4) SCATTER(4, 5) SCATTER(4, 6)
SCATTER(5, 4) SCATTER(5, 5)
#endif

/* Those for which there are registers and tables. */
static void (*const NAME(scatters)[5][7])(const NAME(scatter) *) = {
#if LANES == 16
    {S(1, 1), S(1, 2), S(1, 3), S(1, 4), S(1, 5), S(1, 6), S(1, 7)},
    {S(2, 1), S(2, 2), S(2, 3), S(2, 4), S(2, 5), S(2, 6), S(2, 7)},
    {S(3, 1), S(3, 2), S(3, 3), S(3, 4), S(3, 5), S(3, 6), S(3, 7)},
    {S(4, 1), S(4, 2), S(4, 3), S(4, 4), S(4, 5), S(4, 6)},
    {S(5, 1), S(5, 2), S(5, 3), S(5, 4), S(5, 5)},
#elif REGISTERS == 32
    {S(1, 1), S(1, 2), S(1, 3)}, {S(2, 1), S(2, 2), S(2, 3)}, {S(3, 1), S(3, 2), S(3, 3)},
    {S(4, 1), S(4, 2), S(4, 3)}, {S(5, 1), S(5, 2), S(5, 3)},
#else
    {S(1, 1), S(1, 2), S(1, 3)}, {S(2, 1), S(2, 2), S(2, 3)}, {S(3, 1), S(3, 2), S(3, 3)},
    {S(4, 1), S(4, 2)}, {S(5, 1)},
#endif
};
/* clang-format on */
#undef S
#undef SCATTER

/* The most kernel rows at once whose sums fit in the registers beside seven registers for the work. */
INLINE ptrdiff_t NAME(scatter_rows)(ptrdiff_t taps) {
    return min_of((REGISTERS - 7) / taps, 5);
}

/* Makes the tables of the input rows that a block of pooled rows sees, from tap l on: [input row][pooled
 * column][LANES]. */
static void NAME(make_tables)(const plan *p, const REAL *region, ptrdiff_t l, REAL *to) {
    const NAME(pooled) *d = (const void *)p->own;
    const pool *q = &p->q;
    const ptrdiff_t step = q->sw * p->g.c;
    for (ptrdiff_t r = 0; r + q->kh <= d->region_rows; r++)
        for (ptrdiff_t s = 0; s < q->ow; s++)
            for (ptrdiff_t a = 0; a < q->kh; a++, to += d->part)
                memcpy(to, region + (r + a) * d->width + s * step + l, (size_t)d->part * sizeof(REAL));
}

/* Adds up the sums of one block of pooled rows of an image. */
static void NAME(scatter_rows_of)(const plan *p, ptrdiff_t image, ptrdiff_t first, REAL *sums,
                                  REAL *scratch) {
    const NAME(pooled) *d = (const void *)p->own;
    const conv *g = &p->g;
    const pool *q = &p->q;
    const ptrdiff_t block = d->vectors * LANES, columns = (q->ow - 1) * q->sw + q->kw + g->kw - 1;
    REAL *region = scratch, *tables = region + round_up(d->region_rows * d->width + LANES, LANES);
    NAME(copy_region)(region, (const REAL *)p->a + image * g->h * g->w * g->c, g->h, g->w, g->c,
                      first * q->sh - g->pt, d->region_rows, -g->pl, columns, 0, g->c);
    REAL in_table[LANES] __attribute__((aligned(VECTOR_BYTES)));
    for (ptrdiff_t place = 0; place < LANES; place++) {
        const INTEGER at = (INTEGER)(place / q->kw * d->part + place % q->kw * g->c);
        memcpy(in_table + place, &at, sizeof at);
    }
    NAME(scatter) t;
    t.in_table[0] = *(const vec *)in_table;
    t.rows = min_of(d->rows, q->oh - first), t.columns = q->ow;
    t.table_row = q->ow * LANES, t.pooled_row = q->sh * t.table_row;
    t.k = g->k, t.tap = block, t.tap_row = d->run * block;
    const ptrdiff_t pixels = (image * q->oh + first) * q->ow * g->k;
    for (ptrdiff_t l = 0; l < d->run; l += d->chunk) {
        const ptrdiff_t taps = min_of(d->chunk, d->run - l), most = NAME(scatter_rows)(taps);
        NAME(make_tables)(p, region, l, tables);
        for (ptrdiff_t i = 0; i < g->kh; i += most)
            for (ptrdiff_t v = 0; v < d->vectors; v++) {
                const ptrdiff_t at = pixels + NAME(vector_start)(v, g->k);
                t.tables = tables + i * t.table_row;
                t.errors = (const REAL *)p->b + at;
                t.y = p->relu ? (const REAL *)p->c + at : NULL;
                t.places = (const unsigned char *)p->d + at;
                t.sums = sums + i * t.tap_row + l * block + v * LANES;
                t.bias = l || i ? NULL : sums + g->kh * t.tap_row + v * LANES;
                NAME(scatters)[min_of(most, g->kh - i) - 1][taps - 1](&t);
            }
    }
}

/* Item: one tap, or (after the taps) the bias. Adds up its sums of all parts, in order. */
static void NAME(pooled_sum)(const plan *p, ptrdiff_t item, const REAL *shared) {
    const NAME(pooled) *d = (const void *)p->own;
    REAL *out = item < p->g.kh * d->run ? (REAL *)p->out + item * p->g.k : p->out2;
    for (ptrdiff_t v = 0; v < d->vectors; v++) {
        const REAL *from = shared + (item * d->vectors + v) * LANES;
        vec total = *(const vec *)from;
        for (ptrdiff_t part = 1; part < d->parts; part++) total += *(const vec *)(from + part * d->size);
        NAME(store)(out + NAME(vector_start)(v, p->g.k), total);
    }
}

static void NAME(pooled_run)(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) {
    const NAME(pooled) *d = (const void *)p->own;
    if (stage == 1) {
        NAME(pooled_sum)(p, item, shared);
        return;
    }
    REAL *sums = (REAL *)shared + item * d->size;
    memset(sums, 0, (size_t)d->size * sizeof(REAL));
    for (ptrdiff_t n = even_cut(p->g.n, d->parts, item); n < even_cut(p->g.n, d->parts, item + 1); n++)
        for (ptrdiff_t block = 0; block < d->row_blocks; block++)
            NAME(scatter_rows_of)(p, n, block * d->rows, sums, scratch);
}

/* p->g is the convolution, p->q the pooling of its result with narrow indices. a: x, b: pooled errors, c: the
   pooled result (if relu), d: indices; out, out2: the gradients of filters and bias. */
static int NAME(pooled_weight_grad)(plan *p) {
    const conv *g = &p->g;
    const pool *q = &p->q;
    NAME(pooled) *d = (void *)p->own;
    const ptrdiff_t size = sizeof(REAL);
    if (g->groups != 1 || g->sh != 1 || g->sw != 1 || g->dh != 1 || g->dw != 1 || g->k < LANES) return 0;
    if (q->pt || q->pb || q->pl || q->pr || q->kh * q->kw > LANES || LANES % q->kh) return 0;
    d->part = LANES / q->kh;
    d->chunk = min_of(d->part - (q->kw - 1) * g->c, NAME(POOLED_TAPS));
    if (d->chunk < 3) return 0; /* the tables would be too much work */
    d->run = g->kw * g->c;
    d->vectors = ceil_div(g->k, LANES);
    const ptrdiff_t line = q->ow * LANES * size;
    d->rows = min_of(max_of((NAME(POOLED_TABLES) / line - g->kh + 1) / q->sh, 1), q->oh);
    d->row_blocks = ceil_div(q->oh, d->rows);
    d->region_rows = (d->rows - 1) * q->sh + q->kh + g->kh - 1;
    d->width = ((q->ow - 1) * q->sw + q->kw + g->kw - 1) * g->c;
    d->parts = min_of(g->n, NAME(POOLED_PARTS));
    d->size = (g->kh * d->run + 1) * d->vectors * LANES;
    p->stages = 2;
    p->items[0] = d->parts;
    p->items[1] = g->kh * d->run + 1;
    p->shared_bytes = (size_t)(d->parts * d->size * size);
    p->scratch_bytes =
        (size_t)((round_up(d->region_rows * d->width + LANES, LANES) + d->region_rows * q->ow * LANES) *
                 size);
    p->scratch_bytes = (p->scratch_bytes + 63) / 64 * 64;
    p->cycles = (double)(g->n * q->oh * q->ow * d->vectors) * (double)(2 * g->kh * d->run + 10);
    p->run = NAME(pooled_run);
    return 1;
}
#else
static int NAME(pooled_weight_grad)(plan *p) {
    (void)p;
    return 0;
}
#endif
