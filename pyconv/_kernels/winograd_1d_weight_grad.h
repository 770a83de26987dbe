/* winograd_1d_weight_grad.h: the weight gradient with fewer multiplications along rows.

       dw[i, c] = G' sum over rows r and tiles  (B' x[r + i, c]) o (A dy[r])

   Lanes are filters. A register block holds the sums of up to 6 pairs (i, c) in four points: the m errors of
   a tile are loaded and transformed in registers, and each of the pairs' points is broadcast once. A block's
   second half has its errors in the cache, and fetches those of the next vector or block from memory: of
   whole cache lines only, since errors across two lines bring most of their neighbours with them.

   Stage 0, an item: one part of the blocks of rows; its sums, [vector][i][c][point][LANES], are its own part
   of `shared`. Stage 1, an item: one pair, the parts' sums in their order, and G'. */

#define ROWWISE_PAIRS (REGISTERS == 32 ? 6 : 2)

typedef struct NAME(row_products) {
    const REAL *x[6];      /* the first tile of each pair */
    const REAL *dy, *next; /* errors; NULL, or those to fetch into the L2 cache */
    REAL *sums;            /* of the first pair and point; 8 vectors a pair */
    ptrdiff_t rows, columns;
    ptrdiff_t tile;  /* in x: from tile to tile; rows follow one another */
    ptrdiff_t pixel; /* in dy: from pixel to pixel */
} NAME(row_products);

/* A y, of one half. */
INLINE void NAME(rowwise_errors)(const vec *y, vec *w, const int M, const int half) {
    if (half == 0) {
        vec even = y[0], odd = y[1];
        UNROLL
        for (int j = 2; j < M; j++) {
            if (j % 2)
                odd += y[j];
            else
                even += y[j];
        }
        w[0] = y[0], w[1] = even + odd, w[2] = even - odd, w[3] = y[M - 1];
        return;
    }
    UNROLL
    for (int q = 0; q < 2; q++) {
        const REAL point = q ? (REAL)0.5 : 2;
        vec even = y[(M - 1) & ~1], odd = y[(M - 2) | 1]; /* Horner's scheme in the point's square */
        UNROLL
        for (int j = M - 3; j >= 0; j--) {
            if (j % 2)
                odd = y[j] + point * point * odd;
            else
                even = y[j] + point * point * even;
        }
        w[2 * q] = even + point * odd, w[2 * q + 1] = even - point * odd;
    }
}

INLINE void NAME(row_products_body)(const NAME(row_products) * t, const int N, const int M, const int half) {
    const ptrdiff_t columns = t->columns, tile = t->tile;
    const REAL *x[6], *dy = t->dy, *next = t->next;
    const int fetch = next != NULL;
    REAL edge[6 * LANES] __attribute__((aligned(VECTOR_BYTES)));
    vec sum[6][4];
    UNROLL
    for (int n = 0; n < N; n++) {
        x[n] = t->x[n] + 4 * half;
        UNROLL
        for (int p = 0; p < 4; p++) sum[n][p] = (vec){0};
    }
    for (ptrdiff_t r = 0; r < t->rows; r++)
        for (ptrdiff_t s = 0; s < columns; s += M) {
            const REAL *from = dy;
            ptrdiff_t step = t->pixel;
            const ptrdiff_t count = min_of(M, columns - s);
            if (count < M) { /* zeros beside the image's errors */
                memset(edge, 0, sizeof edge);
                for (ptrdiff_t j = 0; j < count; j++) *(vec *)(edge + j * LANES) = NAME(load)(dy + j * step);
                from = edge, step = LANES;
            }
            vec y[6], w[4];
            UNROLL
            for (int j = 0; j < M; j++) {
                if (half == 0) __builtin_prefetch(dy + (j + 24) * t->pixel);
                if (half == 1 && fetch) {
                    __builtin_prefetch(next + j * t->pixel, 0, 2);
                    __builtin_prefetch(next + j * t->pixel + LANES - 1, 0,
                                       2); /* they may begin amid a line */
                }
                y[j] = NAME(load)(from + j * step);
            }
            NAME(rowwise_errors)(y, w, M, half);
            UNROLL
            for (int n = 0; n < N; n++) {
                UNROLL
                for (int p = 0; p < 4; p++) sum[n][p] += (x[n][p] - (vec){0}) * w[p];
                x[n] += tile;
            }
            dy += count * t->pixel;
            if (half == 1 && fetch) next += count * t->pixel;
        }
    UNROLL
    for (int n = 0; n < N; n++) {
        UNROLL
        for (int p = 0; p < 4; p++) *(vec *)(t->sums + (8 * n + 4 * half + p) * LANES) += sum[n][p];
    }
}

#define PRODUCTS(N, M)                                                                                       \
    static void NAME(row_products_##N##x##M)(const NAME(row_products) * t) {                                 \
        NAME(row_products_body)(t, N, M, 0);                                                                 \
        NAME(row_products_body)(t, N, M, 1);                                                                 \
    }
#define P(N, M) NAME(row_products_##N##x##M)
/* clang-format off */
PRODUCTS(1, 2) PRODUCTS(1, 3) PRODUCTS(1, 4) PRODUCTS(1, 5) PRODUCTS(1, 6)
PRODUCTS(2, 2) PRODUCTS(2, 3) PRODUCTS(2, 4) PRODUCTS(2, 5) PRODUCTS(2, 6)
#if REGISTERS == 32
PRODUCTS(3, 2) PRODUCTS(3, 3) PRODUCTS(3, 4) PRODUCTS(3, 5) PRODUCTS(3, 6)
PRODUCTS(4, 2) PRODUCTS(4, 3) PRODUCTS(4, 4) PRODUCTS(4, 5) PRODUCTS(4, 6)
PRODUCTS(5, 2) PRODUCTS(5, 3) PRODUCTS(5, 4) PRODUCTS(5, 5) PRODUCTS(5, 6)
PRODUCTS(6, 2) PRODUCTS(6, 3) PRODUCTS(6, 4) PRODUCTS(6, 5) PRODUCTS(6, 6)
#endif

/* By pairs, and outputs of a tile. */
static void (*const NAME(rowwise_products)[6][5])(const NAME(row_products) *) = {
    {P(1, 2), P(1, 3), P(1, 4), P(1, 5), P(1, 6)},
    {P(2, 2), P(2, 3), P(2, 4), P(2, 5), P(2, 6)},
#if REGISTERS == 32
    {P(3, 2), P(3, 3), P(3, 4), P(3, 5), P(3, 6)},
    {P(4, 2), P(4, 3), P(4, 4), P(4, 5), P(4, 6)},
    {P(5, 2), P(5, 3), P(5, 4), P(5, 5), P(5, 6)},
    {P(6, 2), P(6, 3), P(6, 4), P(6, 5), P(6, 6)},
#endif
};
/* clang-format on */
#undef P
#undef PRODUCTS

/* Stage 0: the sums of the blocks of rows of one part. */
static void NAME(rowwise_part)(const plan *p, ptrdiff_t part, REAL *sums, REAL *x) {
    const NAME(rowwise) *d = (const void *)p->own;
    const conv *g = &p->g;
    const ptrdiff_t pairs = g->kh * d->from, all = g->n * d->row_blocks;
    const ptrdiff_t chunks = ceil_div(pairs, ROWWISE_PAIRS);
    memset(sums, 0, (size_t)d->size * sizeof(REAL));
    NAME(row_products) t = {.columns = d->ow, .tile = d->from * 8, .pixel = d->to};
    for (ptrdiff_t b = even_cut(all, d->parts, part); b < even_cut(all, d->parts, part + 1); b++) {
        const ptrdiff_t image = b / d->row_blocks, first = b % d->row_blocks * d->rows;
        t.rows = min_of(d->rows, d->oh - first);
        NAME(rowwise_inputs)(d, (const REAL *)p->a + image * d->ih * d->iw * d->from, first - d->top,
                             t.rows + g->kh - 1, x);
        const REAL *dy = (const REAL *)p->b + (image * d->oh + first) * d->ow * d->to;
        for (ptrdiff_t v = 0; v < d->vectors; v++)
            for (ptrdiff_t chunk = 0; chunk < chunks; chunk++) {
                const ptrdiff_t from = even_cut(pairs, chunks, chunk),
                                end = even_cut(pairs, chunks, chunk + 1);
                for (ptrdiff_t pair = from; pair < end; pair++)
                    t.x[pair - from] = x + pair / d->from * d->tile_row + pair % d->from * 8;
                t.dy = dy + NAME(vector_start)(v, d->to);
                t.next = NULL;
                if (chunk == chunks - 1 && d->to % LANES == 0) {
                    if (v < d->vectors - 1)
                        t.next = t.dy + LANES;
                    else if (b < all - 1)
                        t.next = dy + t.rows * d->ow * d->to;
                }
                t.sums = sums + (v * pairs + from) * 8 * LANES;
                NAME(rowwise_products)[end - from - 1][d->m - 2](&t);
            }
    }
}

/* Stage 1: G' of the parts' sums of one pair. */
static void NAME(rowwise_sum)(const plan *p, ptrdiff_t pair, const REAL *shared) {
    const NAME(rowwise) *d = (const void *)p->own;
    const conv *g = &p->g;
    const REAL *const norms = NAME(rowwise_norms);
    REAL *out = (REAL *)p->out + (pair / d->from * g->kw * d->from + pair % d->from) * g->k;
    for (ptrdiff_t v = 0; v < d->vectors; v++) {
        vec s[8] = {{0}};
        for (ptrdiff_t part = 0; part < d->parts; part++) {
            const REAL *from = shared + part * d->size + (v * g->kh * d->from + pair) * 8 * LANES;
            for (int q = 0; q < 8; q++) s[q] += *(const vec *)(from + q * LANES);
        }
        const vec even_1 = (s[1] + s[2]) * norms[1], odd_1 = (s[1] - s[2]) * norms[1];
        const vec even_2 = (s[4] + s[5]) * norms[2], odd_2 = (s[4] - s[5]) * norms[2];
        const vec even_half = (s[6] + s[7]) * norms[3], odd_half = (s[6] - s[7]) * norms[3];
        REAL two = 1, half_power = 1;
        for (ptrdiff_t j = 0; j < g->kw; j++, two *= 2, half_power /= 2) {
            vec tap = j % 2 ? odd_1 + two * odd_2 + half_power * odd_half
                            : even_1 + two * even_2 + half_power * even_half;
            if (j == 0) tap += s[0] * norms[0];
            if (j == g->kw - 1) tap += s[3];
            NAME(store)(out + j * d->from * g->k + NAME(vector_start)(v, g->k), tap);
        }
    }
}

static void NAME(rowwise_weight_grad_run)(const plan *p, int stage, ptrdiff_t item, void *shared,
                                          void *scratch) {
    const NAME(rowwise) *d = (const void *)p->own;
    if (stage == 0)
        NAME(rowwise_part)(p, item, (REAL *)shared + item * d->size, scratch);
    else
        NAME(rowwise_sum)(p, item, shared);
}

static int NAME(rowwise_weight_grad)(plan *p) {
    const conv *g = &p->g;
    NAME(rowwise) *d = (void *)p->own;
    const ptrdiff_t size = sizeof(REAL);
    if (!NAME(rowwise_sizes)(g, d, 0)) return 0;
    const ptrdiff_t pairs = g->kh * d->from;
    d->size = d->vectors * pairs * 8 * LANES;
    d->parts = min_of(g->n * d->row_blocks, 32);
    p->stages = 2;
    p->items[0] = d->parts;
    p->items[1] = pairs;
    p->shared_bytes = (size_t)(d->parts * d->size * size);
    p->scratch_bytes = (size_t)(d->inputs * size + 63) / 64 * 64;
    const double rows = (double)(g->n * (d->oh + d->row_blocks * (g->kh - 1)));
    const double tiles = (double)(g->n * d->oh * d->across * d->vectors);
    p->cycles = cost_winograd_1d_weight_grad(tiles * (double)pairs, rows * (double)(d->across * d->from),
                                             tiles * (double)ceil_div(pairs, ROWWISE_PAIRS), (double)d->m,
                                             (double)(d->parts * d->vectors * pairs));
    p->run = NAME(rowwise_weight_grad_run);
    return 1;
}
