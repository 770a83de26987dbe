/* winograd_1d_few_grad.h: the weight gradient along rows for few pairs (i, c) of kernel row and channel, as
   in a network's first layer. Each error is used so little that storing its eight points would cost more than
   its products.

   A register block holds the sums of up to 6 pairs and 2 vectors of filters at two points. The m errors of a
   tile are loaded and transformed in registers, and a pair's point is broadcast once for both vectors. There
   are four passes over a block of rows; the first one reads its errors from memory. Each pass over the last
   pairs fetches a quarter of the next block's errors, so that memory is never idle. */

#define FEW_PAIRS   (REGISTERS == 32 ? 6 : 5)
#define FEW_VECTORS (REGISTERS == 32 ? 2 : 1)

enum { NAME(FEW_BYTES) = 32 << 10 }; /* errors of a block of rows, in or near the L1 cache */

typedef struct NAME(few_pairs) {
    const REAL *x[6];      /* the first tile of each pair */
    const REAL *dy, *next; /* dy: errors of the first vector; next: NULL, or the first errors to fetch */
    REAL *sums;            /* S, at the first pair and vector */
    ptrdiff_t rows, columns;
    ptrdiff_t tile;        /* in x: from tile to tile; rows follow one another */
    ptrdiff_t pixel;       /* in dy: from pixel to pixel */
    ptrdiff_t second;      /* in dy: from vector to vector */
    ptrdiff_t point, pair; /* in S: from point to point, from pair to pair; vectors follow one another */
} NAME(few_pairs);

/* A y at two points: 0 and inf, 1 and -1, 2 and -2, or 1/2 and -1/2. There are `count` of the M errors.
   Pointers go to every third error, as in tile.h: an address for each would not fit in the registers. */
INLINE void NAME(errors_in_two)(const REAL *first, ptrdiff_t pixel, ptrdiff_t count, vec *w, const int M,
                                const int two) {
    const REAL *y[2] = {first, first + 3 * pixel};
    APART(y[0]);
    if (M > 3) APART(y[1]);
#define Y(j) ((j) < count ? NAME(load)(y[(j) / 3] + (j) % 3 * pixel) : (vec){0})
    if (two == 0) {
        w[0] = Y(0), w[1] = Y(M - 1);
        return;
    }
    const REAL point = two == 3 ? (REAL)0.5 : two, square = point * point;
    vec even = Y((M - 1) & ~1), odd = Y((M - 2) | 1); /* Horner's scheme in the point's square */
    UNROLL
    for (int j = M - 3; j >= 0; j--) {
        if (j % 2)
            odd = two == 1 ? Y(j) + odd : Y(j) + square * odd;
        else
            even = two == 1 ? Y(j) + even : Y(j) + square * even;
    }
    w[0] = two == 1 ? even + odd : even + point * odd;
    w[1] = two == 1 ? even - odd : even - point * odd;
#undef Y
}

/* Adds up N pairs, V vectors and two points over some rows. */
INLINE void NAME(few_pass)(const NAME(few_pairs) * t, const int N, const int V, const int M, const int two) {
    static const int places[4][2] = {{0, 3}, {1, 2}, {4, 5}, {6, 7}};
    const int *const place = places[two];
    const ptrdiff_t columns = t->columns, tile = t->tile, pixel = t->pixel, second = t->second;
    const REAL *x[6], *dy = t->dy, *next = t->next;
    const int fetch = next != NULL;
    vec sum[6][2][2];
    UNROLL
    for (int n = 0; n < N; n++) {
        x[n] = t->x[n];
        UNROLL
        for (int v = 0; v < V; v++) sum[n][v][0] = sum[n][v][1] = (vec){0};
    }
    for (ptrdiff_t r = 0; r < t->rows; r++)
        for (ptrdiff_t s = 0; s < columns; s += M) {
            const ptrdiff_t count = min_of(M, columns - s);
            vec w[2][2];
            UNROLL
            for (int v = 0; v < V; v++) {
                if (count < M)
                    NAME(errors_in_two)(dy + v * second, pixel, count, w[v], M, two);
                else
                    NAME(errors_in_two)(dy + v * second, pixel, M, w[v], M, two);
            }
            if (fetch) {
                UNROLL
                for (int j = two; j < M; j += 4) {
                    UNROLL
                    for (int v = 0; v < V; v++) __builtin_prefetch(next + j * pixel + v * second, 0, 2);
                }
                next += count * pixel;
            }
            UNROLL
            for (int n = 0; n < N; n++) {
                UNROLL
                for (int p = 0; p < 2; p++) {
                    vec input = x[n][place[p]] - (vec){0};
                    if (V == 2) IN_REGISTER(input);
                    UNROLL
                    for (int v = 0; v < V; v++) sum[n][v][p] += input * w[v][p];
                }
                x[n] += tile;
            }
            dy += count * pixel;
        }
    UNROLL
    for (int n = 0; n < N; n++) {
        UNROLL
        for (int v = 0; v < V; v++) {
            UNROLL
            for (int p = 0; p < 2; p++)
                *(vec *)(t->sums + place[p] * t->point + n * t->pair + v * LANES) += sum[n][v][p];
        }
    }
}

#define FEW(N, V, M)                                                                                         \
    static void NAME(few_##N##x##V##x##M)(const NAME(few_pairs) * t) {                                       \
        NAME(few_pass)(t, N, V, M, 0);                                                                       \
        NAME(few_pass)(t, N, V, M, 1);                                                                       \
        NAME(few_pass)(t, N, V, M, 2);                                                                       \
        NAME(few_pass)(t, N, V, M, 3);                                                                       \
    }
#define EACH_M(N, V) FEW(N, V, 4) FEW(N, V, 5) FEW(N, V, 6)
/* clang-format off */
EACH_M(1, 1) EACH_M(2, 1) EACH_M(3, 1) EACH_M(4, 1) EACH_M(5, 1)
#if REGISTERS == 32
EACH_M(6, 1)
EACH_M(1, 2) EACH_M(2, 2) EACH_M(3, 2) EACH_M(4, 2) EACH_M(5, 2) EACH_M(6, 2)
#endif
#undef EACH_M
#undef FEW

/* By vectors, pairs, and outputs of a tile. */
#define F(N, V, M)   NAME(few_##N##x##V##x##M)
#define EACH_M(N, V) {F(N, V, 4), F(N, V, 5), F(N, V, 6)}
static void (*const NAME(few_blocks)[2][6][3])(const NAME(few_pairs) *) = {
    {EACH_M(1, 1), EACH_M(2, 1), EACH_M(3, 1), EACH_M(4, 1), EACH_M(5, 1),
#if REGISTERS == 32
     EACH_M(6, 1)},
    {EACH_M(1, 2), EACH_M(2, 2), EACH_M(3, 2), EACH_M(4, 2), EACH_M(5, 2), EACH_M(6, 2)
#endif
    },
};
/* clang-format on */
#undef EACH_M
#undef F

/* Adds result rows `row` ... `row + rows - 1` of an image to all sums S. Unless the block of rows is `fresh`,
   x holds the transformed inputs of the block before it. The next block's errors follow this one's in memory;
   with `more` they are fetched. */
static void NAME(add_few)(const plan *p, ptrdiff_t image, ptrdiff_t row, ptrdiff_t rows, int fresh, int more,
                          REAL *x, REAL *s) {
    const NAME(rowwise) *d = (const void *)p->own;
    const ptrdiff_t kh = p->g.kh, pairs = kh * d->from, chunks = ceil_div(pairs, FEW_PAIRS);
    const REAL *const dy = (const REAL *)p->b + (image * d->oh + row) * d->ow * d->to;
    /* The last kh - 1 rows of the block before are the first of this one. */
    const ptrdiff_t kept = fresh ? 0 : kh - 1;
    memmove(x, x + d->rows * d->tile_row, (size_t)(kept * d->tile_row) * sizeof(REAL));
    NAME(rowwise_inputs)(d, (const REAL *)p->a + image * d->ih * d->iw * d->channels, row - d->top + kept,
                         rows + kh - 1 - kept, x + kept * d->tile_row, x + d->inputs - d->line);
    NAME(few_pairs)
    t = {.rows = rows, .tile = d->from * 8, .pixel = d->to};
    t.point = d->s_point, t.pair = d->vectors * LANES;
    const ptrdiff_t span = rows == 1 ? SUM_TILES * d->m : d->ow; /* columns of one sum in registers */
    for (ptrdiff_t v = 0; v < d->vectors; v += FEW_VECTORS) {
        const ptrdiff_t width = min_of(FEW_VECTORS, d->vectors - v), k = NAME(vector_start)(v, d->to);
        t.second = NAME(vector_start)(v + 1, d->to) - k;
        for (ptrdiff_t chunk = 0; chunk < chunks; chunk++) {
            const ptrdiff_t first = even_cut(pairs, chunks, chunk), end = even_cut(pairs, chunks, chunk + 1);
            const REAL *next = NULL;
            if (chunk == chunks - 1) {
                if (v + width < d->vectors)
                    next = dy + NAME(vector_start)(v + width, d->to);
                else if (more)
                    next = dy + rows * d->ow * d->to;
            }
            t.sums = s + first * t.pair + v * LANES;
            for (ptrdiff_t column = 0; column < d->ow; column += span) {
                for (ptrdiff_t pair = first; pair < end; pair++)
                    t.x[pair - first] =
                        x + pair / d->from * d->tile_row + pair % d->from * 8 + column / d->m * t.tile;
                t.columns = min_of(span, d->ow - column);
                t.dy = dy + k + column * d->to;
                t.next = next ? next + column * d->to : NULL;
                NAME(few_blocks)[width - 1][end - first - 1][d->m - 4](&t);
            }
        }
    }
}
