/* shifted.h: the other register tile of the weight gradient; its lanes are the input.

       sum[t, k] += sum over pixels q of x[at[t] + q step] dy[q, k]

   for T places in the input, a vector at each, and K filters. In outer.h the lanes are filters, and with few
   filters most lanes would be idle. Here the lanes are

       neighbours in a pixel's run of columns and channels, with one error broadcast to all of them; each lane
       of a sum belongs to another kernel element (run_weight_grad.h), or

       neighbouring pixels of one channel, with as many errors of one filter; the lanes of a sum are added up
       at the end (plane_weight_grad.h).

   There are T loads of input and K of errors for T K multiply-adds. As in outer.h, sums begin at zero. */

typedef struct NAME(shifted) {
    const REAL *x, *dy;
    const ptrdiff_t *at; /* places of the T vectors */
    REAL *sum;           /* [place][filter][LANES] */
    ptrdiff_t place;     /* distance from place to place in sum */
    ptrdiff_t rows, x_row, dy_row;
    ptrdiff_t columns, x_step, dy_step;
    ptrdiff_t dy_next; /* distance from filter to filter in dy */
} NAME(shifted);

INLINE void NAME(shifted_body)(const NAME(shifted) * t, const int T, const int K, const int BROADCAST) {
    const ptrdiff_t columns = t->columns, x_step = t->x_step, dy_step = t->dy_step;
    vec sum[8][4]; /* of a fixed size: an array of T by K would go to memory */
    UNROLL
    for (int i = 0; i < T; i++) {
        UNROLL
        for (int k = 0; k < K; k++) sum[i][k] = (vec){0};
    }
    for (ptrdiff_t r = 0; r < t->rows; r++) {
        const REAL *x[8], *dy[4];
        UNROLL
        for (int i = 0; i < T; i++) x[i] = t->x + t->at[i] + r * t->x_row;
        UNROLL
        for (int k = 0; k < K; k++) dy[k] = t->dy + r * t->dy_row + k * (BROADCAST ? 1 : t->dy_next);
        for (ptrdiff_t s = 0, here = 0, there = 0; s < columns; s++, here += x_step, there += dy_step) {
            vec error[4];
            UNROLL
            for (int k = 0; k < K; k++) {
                if (BROADCAST)
                    error[k] = dy[0][there + k] - (vec){0};
                else
                    error[k] = *(const vec *)(dy[k] + here);
            }
            UNROLL
            for (int i = 0; i < T; i++) {
                vec pixels = NAME(load)(x[i] + here);
                if (K > 1) IN_REGISTER(pixels); /* it may cross a cache line: load it once, not K times */
                UNROLL
                for (int k = 0; k < K; k++) sum[i][k] += pixels * error[k];
            }
        }
    }
    UNROLL
    for (int i = 0; i < T; i++) {
        UNROLL
        for (int k = 0; k < K; k++) *(vec *)(t->sum + i * t->place + k * LANES) += sum[i][k];
    }
}

#define SHIFTED(T, K)                                                                                        \
    static void NAME(shifted_##T##x##K)(const NAME(shifted) * t) {                                           \
        NAME(shifted_body)(t, T, K, 0);                                                                      \
    }                                                                                                        \
    static void NAME(broadcast_##T##x##K)(const NAME(shifted) * t) {                                         \
        NAME(shifted_body)(t, T, K, 1);                                                                      \
    }
#define S(T, K) {NAME(shifted_##T##x##K), NAME(broadcast_##T##x##K)}
/* clang-format off */
SHIFTED(1, 1) SHIFTED(2, 1) SHIFTED(3, 1) SHIFTED(4, 1) SHIFTED(5, 1) SHIFTED(6, 1) SHIFTED(7, 1) SHIFTED(8, 1)
SHIFTED(1, 2) SHIFTED(2, 2) SHIFTED(3, 2) SHIFTED(4, 2) SHIFTED(5, 2) SHIFTED(6, 2)
SHIFTED(1, 3) SHIFTED(2, 3) SHIFTED(3, 3) SHIFTED(4, 3)
#if REGISTERS == 32
SHIFTED(7, 2) SHIFTED(8, 2)
SHIFTED(5, 3) SHIFTED(6, 3) SHIFTED(7, 3)
SHIFTED(1, 4) SHIFTED(2, 4) SHIFTED(3, 4) SHIFTED(4, 4) SHIFTED(5, 4) SHIFTED(6, 4)
#endif

/* By filters, places, and whether errors are broadcast. */
static void (*const NAME(shifted_tiles)[4][8][2])(const NAME(shifted) *) = {
    {S(1, 1), S(2, 1), S(3, 1), S(4, 1), S(5, 1), S(6, 1), S(7, 1), S(8, 1)},
#if REGISTERS == 32
    {S(1, 2), S(2, 2), S(3, 2), S(4, 2), S(5, 2), S(6, 2), S(7, 2), S(8, 2)},
    {S(1, 3), S(2, 3), S(3, 3), S(4, 3), S(5, 3), S(6, 3), S(7, 3)},
    {S(1, 4), S(2, 4), S(3, 4), S(4, 4), S(5, 4), S(6, 4)},
#else
    {S(1, 2), S(2, 2), S(3, 2), S(4, 2), S(5, 2), S(6, 2)},
    {S(1, 3), S(2, 3), S(3, 3), S(4, 3)},
#endif
};
/* clang-format on */
#undef S
#undef SHIFTED

/* Filters and places of a tile: as many as the registers hold sums of, divided evenly. */
INLINE ptrdiff_t NAME(filter_cuts)(ptrdiff_t filters) {
    return ceil_div(filters, REGISTERS == 32 ? 4 : 3);
}

INLINE ptrdiff_t NAME(place_cuts)(ptrdiff_t places, ptrdiff_t width) {
    return ceil_div(places, REGISTERS == 32 ? (width < 3 ? 8 : 10 - width) : 10 - 2 * width);
}

/* Cycles of one step of all tiles, and of loading and storing their sums. */
static double NAME(shifted_cycles)(ptrdiff_t places, ptrdiff_t filters, double steps, double starts) {
    const ptrdiff_t cuts = NAME(filter_cuts)(filters),
                    chunks = NAME(place_cuts)(places, ceil_div(filters, cuts));
    const double step = cost_of_tile((double)places / (double)chunks, (double)filters / (double)cuts, 1.5);
    return (double)(cuts * chunks) * (steps * step + starts * 20) + starts * (double)(places * filters) * 2;
}

/* All `places` by `filters` sums, [place][filter][LANES], over the pixels of t; t's x and dy are those of
   place 0 and filter 0. Errors are broadcast where dy_next is 1. */
static void NAME(shifted_sums)(NAME(shifted) * t, const ptrdiff_t *at, ptrdiff_t places, ptrdiff_t filters,
                               REAL *sums) {
    const REAL *const dy = t->dy;
    const int broadcast = t->dy_next == 1;
    const ptrdiff_t cuts = NAME(filter_cuts)(filters);
    t->place = filters * LANES;
    for (ptrdiff_t cut = 0; cut < cuts; cut++) {
        const ptrdiff_t k = even_cut(filters, cuts, cut), width = even_cut(filters, cuts, cut + 1) - k;
        const ptrdiff_t chunks = NAME(place_cuts)(places, width);
        t->dy = dy + k * t->dy_next;
        for (ptrdiff_t chunk = 0; chunk < chunks; chunk++) {
            const ptrdiff_t first = even_cut(places, chunks, chunk);
            const ptrdiff_t count = even_cut(places, chunks, chunk + 1) - first;
            t->at = at + first;
            t->sum = sums + (first * filters + k) * LANES;
            NAME(shifted_tiles)[width - 1][count - 1][broadcast](t);
        }
    }
    t->dy = dy;
}

/* One sum, added up over all parts in their order; `part` is the distance between parts. */
INLINE vec NAME(sum_of_parts)(const REAL *sums, ptrdiff_t part, ptrdiff_t parts) {
    vec sum = {0};
    for (ptrdiff_t i = 0; i < parts; i++) sum += *(const vec *)(sums + i * part);
    return sum;
}
