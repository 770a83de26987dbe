/* winograd_1d_filters.h: G w, one vector of filters at the eight points. */

/* 1 / N_p of a point and its negative, for the points 0, 1, 2 and 1/2: factors of the filters. */
static const REAL NAME(rowwise_norms)[4] = {-1, (REAL)(-2. / 9), (REAL)(1. / 90), (REAL)(32. / 45)};

/* For kernel row i and channel c, counted over all pieces. The gradient's filters are the weight's channels,
   and its kernel is flipped. If a piece has fewer columns than the widest, the missing ones are zero. */
INLINE void NAME(filter_points)(const plan *p, ptrdiff_t v, ptrdiff_t i, ptrdiff_t c, vec *points) {
    const NAME(rowwise) *d = (const void *)p->own;
    const conv *g = &p->g;
    const ptrdiff_t next = d->grad ? g->k : 1, inner = d->grad ? 1 : g->k;
    const ptrdiff_t piece = c / d->channels, row = d->grad ? g->kh - 1 - i : i;
    const ptrdiff_t start = NAME(piece_start)(d, piece), count = NAME(piece_start)(d, piece + 1) - start;
    const REAL *const norms = NAME(rowwise_norms);
    const REAL *const w = (const REAL *)p->b + row * g->kw * g->c * g->k + c % d->channels * inner +
                          NAME(vector_start)(v, d->to) * next;
    vec first = {0}, last = {0}, parts[2][3] = {{{0}}}; /* even and odd powers of 1, 2 and 1/2 */
    UNROLL
    for (int j = 0; j < 5; j++) {
        if (j >= count) break;
        const ptrdiff_t column = d->grad ? g->kw - 1 - start - j : start + j;
        const REAL *const from = w + column * g->c * g->k;
        if (next == 1)
            last = NAME(load)(from);
        else {
            REAL lanes[LANES] __attribute__((aligned(VECTOR_BYTES)));
            for (ptrdiff_t l = 0; l < LANES; l++) lanes[l] = from[l * next];
            last = *(const vec *)lanes;
        }
        if (j == 0) first = last;
        parts[j % 2][0] += last;
        parts[j % 2][1] += (REAL)(1 << j) * last;
        parts[j % 2][2] += 1 / (REAL)(1 << j) * last;
    }
    points[0] = first * norms[0];
    points[3] = count == d->taps ? last : (vec){0};
    static const int places[3] = {1, 4, 6};
    for (int q = 0; q < 3; q++) {
        points[places[q]] = (parts[0][q] + parts[1][q]) * norms[q + 1];
        points[places[q] + 1] = (parts[0][q] - parts[1][q]) * norms[q + 1];
    }
}
