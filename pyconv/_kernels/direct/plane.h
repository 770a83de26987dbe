/* plane.h: direct convolution for few filters and few channels, forward and input gradient, stride 1.

       out[oy, ox, k] = act(b[k] + sum over taps i, j and channels c of in[oy + i, ox + j tj, c] w[i, j, c,
   k])

   as in direct.h, but the lanes are neighbouring pixels of a row: in direct.h one 7x7 filter over one gray
   image would leave 15 of 16 lanes idle. The channels are copied apart first, each to a plane with its
   padding (apart.h). A register tile is R rows x 2 vectors of the result for one filter. A vector of input at
   some shift j is loaded once for all the rows that see it through one of their kernel rows, and a weight is
   loaded once for both vectors:

       input row r meets kernel row r - p of the tile's row p, where there is one:  0 <= r - p < taps

   so for each shift there are 2 loads of input and R of weights for 2 R multiply-adds.

   Stage 0 copies the weights as [k][c][i][j]. Stage 1, an item: a block of rows of one image. */

enum {
    NAME(PLANE_ROWS) = 6,
    NAME(PLANE_BYTES) = 256 << 10 /* the planes of an item: part of an L2 cache */
};

typedef struct NAME(plane) {
    ptrdiff_t grad;         /* the input gradient, not the forward pass */
    ptrdiff_t ih, iw, from; /* input size and channels */
    ptrdiff_t oh, ow, to;   /* result size and filters */
    ptrdiff_t tile_rows;    /* R */
    ptrdiff_t rows, row_blocks;
    ptrdiff_t region_rows, width; /* the size of a plane */
} NAME(plane);

typedef struct NAME(plane_tile) {
    const REAL *x, *w; /* x: the planes, at the tile's first pixel and tap; w: the filter */
    REAL *sums;        /* (R, 2 LANES) */
    ptrdiff_t planes, plane, row, taps, columns, column;
} NAME(plane_tile);

/* Two vectors of an input row, for the tile's rows first ... end - 1; `weight` is the one that row 0 meets.
 */
INLINE void NAME(plane_column)(const REAL *x, const REAL *weight, ptrdiff_t columns, vec sum[][2],
                               const int first, const int end) {
    vec left = NAME(load)(x), right = NAME(load)(x + LANES);
    IN_REGISTER(left); /* a load that crosses a cache line costs as much as two: do not repeat it */
    IN_REGISTER(right);
    UNROLL
    for (int p = first; p < end; p++) {
        const vec factor = weight[-p * columns] - (vec){0};
        sum[p][0] += left * factor;
        sum[p][1] += right * factor;
    }
}

/* One input row for the tile's rows first ... end - 1; `filter` is the kernel row that row 0 meets. */
INLINE void NAME(plane_row)(const NAME(plane_tile) * t, const REAL *x, const REAL *filter, vec sum[][2],
                            const int first, const int end, const int C) {
    const ptrdiff_t columns = C ? C : t->columns, column = t->column;
    APART(filter); /* weights are loaded anew for every row: if they were kept, they would go to the stack */
    if (C) {
        UNROLL
        for (int j = 0; j < C; j++, x += column) NAME(plane_column)(x, filter + j, C, sum, first, end);
    } else
        for (ptrdiff_t j = 0; j < columns; j++, x += column)
            NAME(plane_column)(x, filter + j, columns, sum, first, end);
}

/* R rows, and a kernel of at least R rows. C columns, or any number if C is 0. */
INLINE void NAME(plane_body)(const NAME(plane_tile) * t, const int R, const int C) {
    const ptrdiff_t row = t->row, columns = C ? C : t->columns, taps = t->taps;
    vec sum[NAME(PLANE_ROWS)][2];
    UNROLL
    for (int p = 0; p < R; p++) sum[p][0] = sum[p][1] = (vec){0};
    const REAL *w = t->w, *x = t->x;
    for (ptrdiff_t c = 0; c < t->planes; c++, w += taps * columns, x += t->plane) {
        const REAL *from = x, *filter = w;
        UNROLL
        for (int r = 0; r < R - 1; r++, from += row, filter += columns)
            NAME(plane_row)(t, from, filter, sum, 0, r + 1, C);
        for (ptrdiff_t r = R - 1; r < taps; r++, from += row, filter += columns)
            NAME(plane_row)(t, from, filter, sum, 0, R, C);
        UNROLL
        for (int p = 1; p < R; p++, from += row, filter += columns)
            NAME(plane_row)(t, from, filter, sum, p, R, C);
    }
    UNROLL
    for (int p = 0; p < R; p++) {
        *(vec *)(t->sums + 2 * p * LANES) = sum[p][0];
        *(vec *)(t->sums + (2 * p + 1) * LANES) = sum[p][1];
    }
}

#define PLANE(R, C)                                                                                          \
    static void NAME(plane_##R##x##C)(const NAME(plane_tile) * t) {                                          \
        NAME(plane_body)(t, R, C);                                                                           \
    }
#define P(R, C) NAME(plane_##R##x##C)
/* clang-format off */
PLANE(1, 0) PLANE(2, 0) PLANE(4, 0) PLANE(6, 0)
PLANE(2, 1) PLANE(4, 1) PLANE(6, 1)
PLANE(2, 2) PLANE(4, 2) PLANE(6, 2)
PLANE(2, 3) PLANE(4, 5) PLANE(6, 3) PLANE(6, 7)

/* By rows / 2 and columns; columns 0: any number of them. */
static void (*const NAME(plane_tiles)[4][8])(const NAME(plane_tile) *) = {
    {P(1, 0)},
    {P(2, 0), P(2, 1), P(2, 2), P(2, 3)},
    {P(4, 0), P(4, 1), P(4, 2), NULL, NULL, P(4, 5)},
    {P(6, 0), P(6, 1), P(6, 2), P(6, 3), NULL, NULL, NULL, P(6, 7)},
};
/* clang-format on */
#undef P
#undef PLANE

INLINE void NAME(plane_sums)(const NAME(plane_tile) * t, ptrdiff_t rows) {
    void (*const *const by_columns)(const NAME(plane_tile) *) = NAME(plane_tiles)[rows / 2];
    void (*const exact)(const NAME(plane_tile) *) = t->columns < 8 ? by_columns[t->columns] : NULL;
    (exact ? exact : by_columns[0])(t);
}

INLINE NAME(axis) NAME(plane_axis)(const plan *p, int across) {
    const NAME(plane) *d = (const void *)p->own;
    return across ? NAME(axis_across)(&p->g, d->grad, d->ow, 0) : NAME(axis_down)(&p->g, d->grad, d->oh, 0);
}

/* Stage 0: the weights as [k][c][i][j]. The gradient's filters are the weight's channels, and its kernel is
 * flipped. */
static void NAME(plane_filters)(const plan *p, REAL *to) {
    const NAME(plane) *d = (const void *)p->own;
    const NAME(axis) y = NAME(plane_axis)(p, 0), x = NAME(plane_axis)(p, 1);
    for (ptrdiff_t k = 0; k < d->to; k++)
        for (ptrdiff_t c = 0; c < d->from; c++)
            for (ptrdiff_t i = 0; i < y.taps; i++)
                for (ptrdiff_t j = 0; j < x.taps; j++) {
                    const ptrdiff_t tap =
                        (y.kernel0 + i * y.kernel_step) * p->g.kw + x.kernel0 + j * x.kernel_step;
                    const ptrdiff_t pair = d->grad ? k * p->g.k + c : c * p->g.k + k;
                    *to++ = ((const REAL *)p->b)[tap * p->g.c * p->g.k + pair];
                }
}

/* Writes `count` sums, with bias and ReLU, to pixels `step` numbers apart. */
INLINE void NAME(write_pixels)(REAL *sums, REAL bias, int relu, ptrdiff_t count, REAL *to, ptrdiff_t step) {
    for (int v = 0; v < 2; v++) {
        vec *const sum = (vec *)(sums + v * LANES);
        *sum += bias - (vec){0};
        if (relu) *sum = NAME(positive)(*sum);
    }
    if (step == 1 && count == 2 * LANES) {
        NAME(store)(to, *(const vec *)sums);
        NAME(store)(to + LANES, *(const vec *)(sums + LANES));
        return;
    }
    for (ptrdiff_t i = 0; i < count; i++) to[i * step] = sums[i];
}

static void NAME(plane_run)(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) {
    const NAME(plane) *d = (const void *)p->own;
    if (stage == 0) {
        NAME(plane_filters)(p, shared);
        return;
    }
    const NAME(axis) y = NAME(plane_axis)(p, 0), x = NAME(plane_axis)(p, 1);
    const ptrdiff_t image = item / d->row_blocks, first = item % d->row_blocks * d->rows;
    const ptrdiff_t last = min_of(first + d->rows, d->oh);
    REAL *planes = scratch;
    const ptrdiff_t size = d->ih * d->iw * d->from, plane = d->region_rows * d->width;
    const REAL *const in = (const REAL *)p->a + image * size, *const end = (const REAL *)p->a + p->g.n * size;
    for (ptrdiff_t r = 0; r < d->region_rows; r++)
        NAME(row_apart)(in, end, d->ih, d->iw, d->from, first + y.in0 + r, x.in0, 1, d->width, d->from,
                        planes + r * d->width, plane);
    REAL *out = (REAL *)p->out + image * d->oh * d->ow * d->to;
    REAL sums[2 * NAME(PLANE_ROWS) * LANES] __attribute__((aligned(VECTOR_BYTES)));
    NAME(plane_tile)
    t = {.sums = sums, .planes = d->from, .plane = plane, .row = d->width};
    t.taps = y.taps, t.columns = x.taps, t.column = x.tap_step;
    for (ptrdiff_t s = 0; s < d->ow; s += 2 * LANES)
        for (ptrdiff_t r = first; r < last; r += d->tile_rows)
            for (ptrdiff_t k = 0; k < d->to; k++) {
                t.x = planes + (r - first) * d->width + s;
                t.w = (const REAL *)shared + k * d->from * y.taps * x.taps;
                NAME(plane_sums)(&t, d->tile_rows);
                const REAL bias = p->bias ? ((const REAL *)p->bias)[k] : 0;
                const ptrdiff_t count = min_of(2 * LANES, d->ow - s);
                for (ptrdiff_t row = 0; row < min_of(d->tile_rows, last - r); row++)
                    NAME(write_pixels)(sums + 2 * row * LANES, bias, p->relu, count,
                                       out + ((r + row) * d->ow + s) * d->to + k, d->to);
            }
}

static int NAME(plane_can)(const plan *p, int what) {
    const conv *g = &p->g;
    (void)what;
    return g->groups == 1 && g->sh == 1 && g->sw == 1 && g->dh == 1;
}

/* Sets all sizes but those of the planes. */
static void NAME(plane_sizes)(const conv *g, NAME(plane) * d, int grad) {
    *d = (NAME(plane)){.grad = grad};
    d->ih = grad ? g->oh : g->h, d->iw = grad ? g->ow : g->w, d->from = grad ? g->k : g->c;
    d->oh = grad ? g->h : g->oh, d->ow = grad ? g->w : g->ow, d->to = grad ? g->c : g->k;
    d->tile_rows = g->kh >= 6 ? 6 : g->kh >= 4 ? 4 : g->kh >= 2 ? 2 : 1;
}

/* Sets the rows of an item: as many as keep its planes, `row_bytes` a row, in part of an L2 cache. */
static void NAME(plane_rows)(const conv *g, NAME(plane) * d, ptrdiff_t row_bytes) {
    const ptrdiff_t rows = min_of(NAME(PLANE_BYTES) / row_bytes - g->kh, ceil_div(d->oh * g->n, 16));
    d->rows = min_of(round_up(max_of(rows, 1), d->tile_rows), round_up(d->oh, d->tile_rows));
    d->row_blocks = ceil_div(d->oh, d->rows);
    d->region_rows = d->rows + g->kh - 1;
}

static void NAME(plane_plan)(plan *p, int what) {
    const conv *g = &p->g;
    NAME(plane) *d = (void *)p->own;
    const ptrdiff_t size = sizeof(REAL);
    NAME(plane_sizes)(g, d, what);
    d->width = round_up(round_up(d->ow, 2 * LANES) + (g->kw - 1) * g->dw, LANES);
    NAME(plane_rows)(g, d, d->from * d->width * size);
    /* For two vectors and one filter: multiply-adds and the scattered write-out; besides, the copy to planes.
     */
    const double taps = (double)(g->kh * g->kw * d->from);
    const double pairs = (double)(g->n * d->oh * ceil_div(d->ow, 2 * LANES));
    const double copied = (double)(g->n * d->row_blocks * d->region_rows * d->width);
    p->cycles = cost_direct(2 * pairs * (double)d->to * taps) +
                pairs * (double)(d->to * (30 + (d->to == 1 ? 0 : 2 * LANES))) +
                NAME(apart_cycles)(d->from, d->from) * copied;
    p->stages = 2;
    p->prepared = 1;
    p->items[0] = 1;
    p->items[1] = g->n * d->row_blocks;
    p->shared_bytes = (size_t)(d->to * d->from * g->kh * g->kw * size);
    p->scratch_bytes = (size_t)round_up(d->from * d->region_rows * d->width * size, 64);
}
