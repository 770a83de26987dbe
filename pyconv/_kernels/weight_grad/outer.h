/* outer.h: the register tile of the weight gradient, P kernel elements x V vectors of filters.

       sum[l, k] += sum over r, s of x[r row + s pixel + l] dy[r, s, k]

   for P neighbours l (columns and channels of the kernel, which follow one another in x) and V * LANES
   filters: an outer product for each pixel, with all sums in registers. The sums begin at zero and are added
   to those in memory at the end, because one sum over a million pixels would grow too large beside its terms.
   There are P broadcasts and V loads for P V multiply-adds, so load units are idle: with the first pixels,
   they fetch some of the next errors. Where there are many filters, the errors of one block of filters are
   short pieces far apart in memory, and no hardware prefetcher foresees those. */

typedef struct NAME(outer) {
    const REAL *x, *dy;
    REAL *sum;                           /* (P, V LANES) */
    ptrdiff_t images, x_image, dy_image; /* steps in x and dy */
    ptrdiff_t rows, x_row, dy_row;
    ptrdiff_t columns, x_pixel, dy_pixel;
    ptrdiff_t second; /* distance from the first vector's filters to the second's */
    ptrdiff_t fresh;  /* sum holds garbage: do not add to it */
    const REAL *next; /* the errors of the next `fetch` pixels, to fetch into the L2 cache */
    ptrdiff_t fetch, next_pixel;
} NAME(outer);

INLINE void NAME(outer_body)(const NAME(outer) * t, const int P, const int V) {
    const ptrdiff_t rows = t->rows, x_row = t->x_row, dy_row = t->dy_row;
    const ptrdiff_t columns = t->columns, x_pixel = t->x_pixel, dy_pixel = t->dy_pixel, second = t->second;
    const ptrdiff_t next_pixel = t->next_pixel;
    const REAL *next = t->next;
    ptrdiff_t fetch = t->fetch;
    REAL *const total = t->sum;
    vec sum[14][2]; /* of a fixed size: an array of P by V would go to memory */
    UNROLL
    for (int p = 0; p < P; p++) {
        UNROLL
        for (int v = 0; v < V; v++) sum[p][v] = (vec){0};
    }
    for (ptrdiff_t n = 0; n < t->images; n++)
        for (ptrdiff_t r = 0; r < rows; r++) {
            const REAL *x = t->x + n * t->x_image + r * x_row;
            const REAL *dy = t->dy + n * t->dy_image + r * dy_row;
            for (ptrdiff_t s = 0; s < columns; s++) {
                vec error[2];
                if (fetch-- > 0) {
                    UNROLL
                    for (int v = 0; v < V; v++)
                        if (v * VECTOR_BYTES % 64 == 0) __builtin_prefetch(next + v * LANES, 0, 2);
                    __builtin_prefetch(next + V * LANES - 1, 0, 2); /* they may begin inside a cache line */
                    next += next_pixel;
                }
                UNROLL
                for (int v = 0; v < V; v++) error[v] = NAME(load)(dy + v * second);
                UNROLL
                for (int p = 0; p < P; p++) {
                    const vec pixel = x[p] - (vec){0};
                    UNROLL
                    for (int v = 0; v < V; v++) sum[p][v] += pixel * error[v];
                }
                x += x_pixel;
                dy += dy_pixel;
            }
        }
    if (!t->fresh) {
        UNROLL
        for (int p = 0; p < P; p++) {
            UNROLL
            for (int v = 0; v < V; v++) sum[p][v] += *(const vec *)(total + (p * V + v) * LANES);
        }
    }
    UNROLL
    for (int p = 0; p < P; p++) {
        UNROLL
        for (int v = 0; v < V; v++) *(vec *)(total + (p * V + v) * LANES) = sum[p][v];
    }
}

#define OUTER(P, V)                                                                                          \
    static void NAME(outer_##P##x##V)(const NAME(outer) * t) {                                               \
        NAME(outer_body)(t, P, V);                                                                           \
    }
/* clang-format off */
OUTER(1, 1) OUTER(2, 1) OUTER(3, 1) OUTER(4, 1) OUTER(5, 1) OUTER(6, 1)
OUTER(7, 1) OUTER(8, 1) OUTER(9, 1) OUTER(10, 1) OUTER(11, 1) OUTER(12, 1)
OUTER(1, 2) OUTER(2, 2) OUTER(3, 2) OUTER(4, 2) OUTER(5, 2) OUTER(6, 2)
#if REGISTERS == 32
OUTER(13, 1) OUTER(14, 1)
OUTER(7, 2) OUTER(8, 2) OUTER(9, 2) OUTER(10, 2) OUTER(11, 2) OUTER(12, 2) OUTER(13, 2) OUTER(14, 2)
#endif
#undef OUTER

#define O(P, V) NAME(outer_##P##x##V)
static void (*const NAME(outers)[2][14])(const NAME(outer) *) = {
    {O(1, 1), O(2, 1), O(3, 1), O(4, 1), O(5, 1), O(6, 1), O(7, 1), O(8, 1), O(9, 1), O(10, 1), O(11, 1), O(12, 1),
#if REGISTERS == 32
     O(13, 1), O(14, 1)},
    {O(1, 2), O(2, 2), O(3, 2), O(4, 2), O(5, 2), O(6, 2), O(7, 2), O(8, 2), O(9, 2), O(10, 2), O(11, 2), O(12, 2),
     O(13, 2), O(14, 2)},
#else
    },
    {O(1, 2), O(2, 2), O(3, 2), O(4, 2), O(5, 2), O(6, 2)},
#endif
};
/* clang-format on */
#undef O

/* Parts of the sum over pixels. Each part has sums of `bytes`, for `items` groups and blocks of filters.
   There are 32 items or more for the threads. Where the sums take little memory, there are so many that
   groups and blocks find a part's pixels in the L2 cache. Adding the parts up must be little work beside
   making them. */
static ptrdiff_t NAME(gradient_parts)(const conv *g, ptrdiff_t items, ptrdiff_t pixel_blocks,
                                      ptrdiff_t bytes) {
    const ptrdiff_t worth = g->n * g->oh * g->ow / 512;
    const ptrdiff_t all = g->n * (g->h * g->w * g->c + g->oh * g->ow * g->k) * (ptrdiff_t)sizeof(REAL);
    const ptrdiff_t cached = items > 1 ? min_of(all / (512 << 10), (4 << 20) / bytes) : 1;
    return max_of(min_of(min_of(max_of(ceil_div(32, items), cached), worth), pixel_blocks), 1);
}

/* Every group reads a part of each pixel, which is slow from memory. Where a part is a cache line or more, or
   is read for several kernel columns, the first of the items that share a block of pixels reads all its input
   and errors beforehand, in their order in memory. */
INLINE int NAME(is_touched)(const conv *g) {
    const ptrdiff_t size = sizeof(REAL);
    return g->groups > 1 && (g->c / g->groups * size >= 64 || g->kw > 1) && g->sh <= g->kh &&
           g->n * g->h * g->w * g->c * size > FETCHED;
}
