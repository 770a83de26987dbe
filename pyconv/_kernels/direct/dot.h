/* dot.h: the register tile for few filters and many channels, P pixels x F filters.

       y[p, k] = b[k] + sum over i, j, l of x[i row + j column + p step + l] w[i, j, l, k]

   as in tile.h, but vectorised over the sum: a vector holds LANES neighbours l (the kernel's columns and
   channels), and the lanes of each of the P F sums are added up at the end. The gradient of a first layer's
   images is such a convolution: in tile.h, its 3 channels would leave 13 of 16 lanes idle. If a run is no
   multiple of LANES, its last vector overlaps the one before, with filters of zero in the lanes that have
   already been counted. */

typedef struct NAME(dot) {
    const REAL *x, *w, *bias; /* w: [i][j][vector of l][F][LANES]; bias: NULL, or the first filter's */
    REAL *y;
    ptrdiff_t tiles, x_step, y_step;
    ptrdiff_t rows, row, columns, column, run; /* i, j and their steps in x; l */
    int relu, in_order;                        /* in_order: one pixel after the other */
} NAME(dot);

static const INTEGER NAME(lane_numbers)[16]
    __attribute__((aligned(64))) = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

/* One vector of l: `x0` is where it begins for the first pixel. With TAIL the lanes that `keep` leaves out
   are zero in the input too: an infinity there, times the filter's zero, would be NaN. */
INLINE void NAME(dot_step)(const REAL *x0, ptrdiff_t step, const REAL *w, ivec keep, vec sum[][4],
                           const int P, const int F, const int TAIL) {
    const REAL *x[3]; /* every third pixel, as in tile.h */
    vec filter[4];
    UNROLL
    for (int q = 0; q < (P + 2) / 3; q++) {
        x[q] = x0 + 3 * q * step;
        APART(x[q]);
    }
    UNROLL
    for (int f = 0; f < F; f++) filter[f] = *(const vec *)(w + f * LANES);
    UNROLL
    for (int p = 0; p < P; p++) {
        vec pixel = NAME(load)(x[p / 3] + p % 3 * step);
        if (TAIL) pixel = (vec)((ivec)pixel & keep);
        UNROLL
        for (int f = 0; f < F; f++) sum[p][f] += pixel * filter[f];
    }
}

INLINE void NAME(dot_body)(const NAME(dot) * t, const int P, const int F) {
    const ptrdiff_t step = t->x_step, y_step = t->y_step, run = t->run;
    const ptrdiff_t rows = t->rows, row = t->row, columns = t->columns, column = t->column;
    const ptrdiff_t whole = run / LANES * LANES;
    const REAL *const filters = t->w, *const bias = t->bias, *x0 = t->x;
    const int relu = t->relu;
    REAL *y = t->y;
    const ivec keep = *(const ivec *)NAME(lane_numbers) >= (INTEGER)(LANES + whole - run) - (ivec){0};
    for (ptrdiff_t tile = 0; tile < t->tiles; tile++, x0 += P * step, y += P * y_step) {
        vec sum[8][4];
        const REAL *w = filters;
        UNROLL
        for (int p = 0; p < P; p++) {
            UNROLL
            for (int f = 0; f < F; f++) sum[p][f] = (vec){0};
        }
        for (ptrdiff_t i = 0; i < rows; i++)
            for (ptrdiff_t j = 0; j < columns; j++) {
                const REAL *const from = x0 + i * row + j * column;
                for (ptrdiff_t next = 0; next < whole; next += LANES, w += F * LANES)
                    NAME(dot_step)(from + next, step, w, keep, sum, P, F, 0);
                if (whole == run) continue;
                NAME(dot_step)(from + run - LANES, step, w, keep, sum, P, F, 1);
                w += F * LANES;
            }
        UNROLL
        for (int p = 0; p < P; p++) {
            UNROLL
            for (int f = 0; f < F; f++) {
                const REAL total = NAME(total)(sum[p][f]) + (bias ? bias[f] : 0);
                y[p * y_step + f] = relu && total < 0 ? 0 : total;
            }
        }
    }
}

#define DOT(P, F)                                                                                            \
    static void NAME(dot_##P##x##F)(const NAME(dot) * t) {                                                   \
        NAME(dot_body)(t, P, F);                                                                             \
    }
#define D(P, F) NAME(dot_##P##x##F)
/* clang-format off */
DOT(1, 1) DOT(2, 1) DOT(4, 1) DOT(8, 1)
DOT(1, 2) DOT(2, 2) DOT(4, 2)
DOT(1, 3) DOT(2, 3) DOT(4, 3)
DOT(1, 4) DOT(2, 4)
#if REGISTERS == 32
DOT(8, 2)
DOT(8, 3)
DOT(4, 4)
#endif

/* Tiles for F filters, by the logarithm of P; up to the largest P whose sums fit in the registers. */
static void (*const NAME(dots)[4][4])(const NAME(dot) *) = {
#if REGISTERS == 32
    {D(1, 1), D(2, 1), D(4, 1), D(8, 1)},
    {D(1, 2), D(2, 2), D(4, 2), D(8, 2)},
    {D(1, 3), D(2, 3), D(4, 3), D(8, 3)},
    {D(1, 4), D(2, 4), D(4, 4)},
#else
    {D(1, 1), D(2, 1), D(4, 1), D(8, 1)},
    {D(1, 2), D(2, 2), D(4, 2)},
    {D(1, 3), D(2, 3), D(4, 3)},
    {D(1, 4), D(2, 4)},
#endif
};
/* clang-format on */
#undef D
#undef DOT

/* The logarithm of the most pixels whose sums fit in the registers. */
INLINE int NAME(dot_size)(ptrdiff_t filters) {
    return filters == 1 ? 3 : REGISTERS == 32 ? (filters < 4 ? 3 : 2) : filters < 4 ? 2 : 1;
}

/* `count` neighbouring pixels, in tiles of 8, 4, 2 and 1. With one or two filters the pixels are waited for;
   from memory they come fastest in order. */
static void NAME(dot_row)(NAME(dot) * t, ptrdiff_t filters, ptrdiff_t count) {
    int size = t->in_order ? 0 : NAME(dot_size)(filters);
    for (; size >= 0; size--) {
        t->tiles = count >> size;
        if (t->tiles) NAME(dots)[filters - 1][size](t);
        t->x += (t->tiles << size) * t->x_step;
        t->y += (t->tiles << size) * t->y_step;
        count -= t->tiles << size;
    }
}
