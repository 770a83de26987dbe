/* grouped.h: direct convolution of groups of few channels and few filters, several groups in the lanes.

       y[p, k] = b[k] + sum over i, j, t of x[i row + j column + p step + at(k) + t] w[i, j, t, k]

   where at(k) is the first channel of the group of filter k. A vector of input holds the channels of M
   groups; for each channel t of a group it is permuted, so that every lane has its own group's channel.
   direct.h has one group in the lanes, and most of them idle. Here there is one permutation for each
   multiply-add, and no lane is idle where M groups fill a vector of filters.

   Stage 0 packs the filters as [phase down][phase across][block of M groups][i][j][t][LANES]. Stage 1, an
   item: a block of result rows of one image, all groups; the last block of groups begins earlier and overlaps
   the one before. The input rows with their padding are copied to scratch, unless nothing is padded and no
   vector ends after the array. */

enum { NAME(GROUPED_PIXELS) = 8 };

typedef struct NAME(grouped_tile) {
    const REAL *x, *w, *bias; /* bias: NULL, or where the first filter's is */
    REAL *y;
    const INTEGER *at; /* LANES places of the groups' first channels */
    ptrdiff_t tiles, x_step, y_step;
    ptrdiff_t rows, row, columns, column, channels; /* i, j and their steps in x; t */
    ptrdiff_t lanes;
    int relu;
} NAME(grouped_tile);

INLINE void NAME(grouped_body)(const NAME(grouped_tile) * t, const int P) {
    const ptrdiff_t step = t->x_step, y_step = t->y_step, lanes = t->lanes, channels = t->channels;
    const ptrdiff_t rows = t->rows, row = t->row, columns = t->columns, column = t->column;
    const ivec places = *(const ivec *)t->at;
    const REAL *const filters = t->w, *x0 = t->x;
    REAL *y = t->y;
    const vec start = t->bias ? NAME(load_some)(t->bias, lanes) : (vec){0};
    for (ptrdiff_t tile = 0; tile < t->tiles; tile++, x0 += P * step, y += P * y_step) {
        vec sum[NAME(GROUPED_PIXELS)];
        const REAL *w = filters;
        UNROLL
        for (int p = 0; p < P; p++) sum[p] = start;
        for (ptrdiff_t i = 0; i < rows; i++)
            for (ptrdiff_t j = 0; j < columns; j++) {
                const REAL *x[3]; /* every third pixel, as in tile.h */
                ivec at = places;
                UNROLL
                for (int q = 0; q < (P + 2) / 3; q++) {
                    x[q] = x0 + i * row + j * column + 3 * q * step;
                    APART(x[q]);
                }
                for (ptrdiff_t c = 0; c < channels; c++, w += LANES, at += 1) {
                    const vec filter = *(const vec *)w;
                    UNROLL
                    for (int p = 0; p < P; p++)
                        sum[p] += NAME(permute)(NAME(load)(x[p / 3] + p % 3 * step), at) * filter;
                }
            }
        UNROLL
        for (int p = 0; p < P; p++)
            NAME(store_some)(y + p * y_step, t->relu ? NAME(positive)(sum[p]) : sum[p], lanes);
    }
}

#define GROUPED(P)                                                                                           \
    static void NAME(grouped_##P)(const NAME(grouped_tile) * t) {                                            \
        NAME(grouped_body)(t, P);                                                                            \
    }
/* clang-format off */
GROUPED(1) GROUPED(2) GROUPED(3) GROUPED(4) GROUPED(5) GROUPED(6) GROUPED(7) GROUPED(8)
#undef GROUPED

#define G(P) NAME(grouped_##P)
static void (*const NAME(grouped_tiles)[NAME(GROUPED_PIXELS)])(const NAME(grouped_tile) *) = {
    G(1), G(2), G(3), G(4), G(5), G(6), G(7), G(8),
};
/* clang-format on */
#undef G

/* `count` pixels of a row, in tiles of two sizes that differ by one. */
static void NAME(grouped_row)(NAME(grouped_tile) * t, ptrdiff_t count) {
    const ptrdiff_t tiles = ceil_div(count, NAME(GROUPED_PIXELS)), pixels = count / tiles;
    t->tiles = count % tiles;
    if (t->tiles) NAME(grouped_tiles)[pixels](t);
    t->x += t->tiles * (pixels + 1) * t->x_step;
    t->y += t->tiles * (pixels + 1) * t->y_step;
    t->tiles = tiles - t->tiles;
    NAME(grouped_tiles)[pixels - 1](t);
}

/* The first of the M groups of a block. */
INLINE ptrdiff_t NAME(first_group)(const NAME(direct) * d, ptrdiff_t block) {
    return min_of(block * d->together, d->groups - d->together);
}

/* Stage 0: the filters of one block, for all phases. */
static void NAME(grouped_filters)(const plan *p, ptrdiff_t block, REAL *packed) {
    const NAME(direct) *d = (const void *)p->own;
    const ptrdiff_t k = p->g.k, c_group = p->g.c / p->g.groups, k_group = k / p->g.groups;
    const ptrdiff_t next = d->grad ? k : 1, inner = d->grad ? 1 : k;
    for (ptrdiff_t a = 0; a < d->phases_y; a++) {
        const NAME(axis) y = NAME(direct_y)(p, a);
        for (ptrdiff_t b = 0; b < d->phases_x; b++) {
            const NAME(axis) x = NAME(direct_x)(p, b);
            const ptrdiff_t size = y.taps * x.taps * d->from * LANES;
            REAL *to = packed + block * size;
            memset(to, 0, (size_t)size * sizeof(REAL));
            for (ptrdiff_t i = 0; i < y.taps; i++)
                for (ptrdiff_t j = 0; j < x.taps; j++, to += d->from * LANES) {
                    const ptrdiff_t at =
                        (y.kernel0 + i * y.kernel_step) * p->g.kw + x.kernel0 + j * x.kernel_step;
                    const REAL *const w = (const REAL *)p->b + at * c_group * k;
                    for (ptrdiff_t m = 0; m < d->together; m++)
                        for (ptrdiff_t t = 0; t < d->from; t++)
                            for (ptrdiff_t r = 0; r < d->to; r++)
                                to[t * LANES + m * d->to + r] =
                                    w[(NAME(first_group)(d, block) + m) * k_group + r * next + t * inner];
                }
            packed += d->blocks * size;
        }
    }
}

static void NAME(grouped_run)(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) {
    const NAME(direct) *d = (const void *)p->own;
    if (stage == 0) {
        NAME(grouped_filters)(p, item, shared);
        return;
    }
    const ptrdiff_t first = item % d->row_blocks * d->rows, image = item / d->row_blocks;
    const ptrdiff_t pixel = d->groups * d->from, low_y = d->low_y + first * d->step_y;
    const ptrdiff_t columns = NAME(region_columns)(d), rows = NAME(region_rows)(d);
    const REAL *in = (const REAL *)p->a + image * d->ih * d->iw * pixel;
    REAL *const out = (REAL *)p->out + image * d->oh * d->ow * d->groups * d->to;
    /* A vector may end after its pixel, and so after the array if little follows. */
    const ptrdiff_t after = ((d->n - image) * d->ih - low_y - rows) * d->iw * pixel;
    const int copied = d->copied || after < LANES;
    if (copied) {
        NAME(copy_columns)(scratch, in, d->ih, d->iw, pixel, low_y, rows, d->low_x, d->every, columns, 0,
                           pixel);
        memset((REAL *)scratch + rows * columns * pixel, 0, VECTOR_BYTES);
    }
    const ptrdiff_t row = (copied ? columns : d->iw) * pixel;
    in = copied ? scratch : in + low_y * row + d->low_x * pixel;
    INTEGER at[LANES] __attribute__((aligned(VECTOR_BYTES)));
    for (ptrdiff_t l = 0; l < LANES; l++) at[l] = (INTEGER)(min_of(l / d->to, d->together - 1) * d->from);
    NAME(grouped_tile)
    t = {.at = at, .channels = d->from, .lanes = d->together * d->to, .relu = p->relu};
    const REAL *filters = shared;
    for (ptrdiff_t a = 0; a < d->phases_y; a++) {
        const NAME(axis) y = NAME(direct_y)(p, a);
        for (ptrdiff_t b = 0; b < d->phases_x; b++) {
            const NAME(axis) x = NAME(direct_x)(p, b);
            const ptrdiff_t tap_row = x.taps * d->from * LANES;
            t.x_step = x.in_step * pixel, t.y_step = x.out_step * d->groups * d->to;
            t.row = y.tap_step * row, t.columns = x.taps, t.column = x.tap_step * pixel;
            for (ptrdiff_t block = 0; block < d->blocks; block++, filters += y.taps * tap_row) {
                const ptrdiff_t group = NAME(first_group)(d, block);
                t.bias = p->bias ? (const REAL *)p->bias + group * d->to : NULL;
                for (ptrdiff_t r = first; x.count && r < min_of(first + d->rows, y.count); r++) {
                    ptrdiff_t i0;
                    const ptrdiff_t i1 = NAME(taps_inside)(&y, r, d->ih, &i0);
                    t.rows = x.taps && i1 > i0 ? i1 - i0 : 0;
                    if (!t.rows) i0 = 0;
                    t.w = filters + i0 * tap_row;
                    t.x = in + (y.in0 - d->low_y + (r - first) * d->step_y) * row + i0 * t.row +
                          (x.in0 - d->low_x) * pixel + group * d->from;
                    t.y = out + ((y.out0 + r * y.out_step) * d->ow + x.out0) * d->groups * d->to +
                          group * d->to;
                    NAME(grouped_row)(&t, x.count);
                }
            }
        }
    }
}

/* Where two groups or more fill a vector. SSE does not permute by an index, which is slow then. */
static int NAME(grouped_can)(const plan *p, int what) {
    const ptrdiff_t groups = p->g.groups, widest = max_of(p->g.c, p->g.k) / groups;
    (void)what;
    return VECTOR_BYTES >= 32 && groups > 1 && LANES / widest >= 2 && !NAME(is_depthwise)(&p->g);
}

static void NAME(grouped_plan)(plan *p, int what) {
    NAME(direct) *d = (void *)p->own;
    const ptrdiff_t size = sizeof(REAL);
    double adds;
    NAME(direct_sizes)(p, what);
    const ptrdiff_t pixel = d->groups * d->from;
    d->together = min_of(min_of(LANES / d->to, LANES / d->from), d->groups);
    d->vectors = 1;
    d->size = NAME(direct_size)(p, &adds);
    d->blocks = ceil_div(d->groups, d->together);
    d->copied = d->every > 1 || NAME(pads_columns)(d);
    NAME(direct_blocks)(d, pixel, d->n);
    const double blocks = (double)(d->n * d->blocks);
    p->cycles = blocks * (adds * 1.25 + (double)(d->oh * d->ow) * 3);
    p->stages = 2;
    p->prepared = 1;
    p->items[0] = d->blocks;
    p->items[1] = d->n * d->row_blocks;
    p->shared_bytes = (size_t)(d->blocks * d->size * LANES * size);
    p->scratch_bytes = (size_t)round_up((NAME(region_pixels)(d) * pixel + LANES) * size, 64);
}
