/* depthwise_weight_grad.h: the weight gradient where every channel has one filter of its own (groups = C = K)
   and there are at least as many channels as a vector has lanes.

       dw[i, j, c] = sum over n, r, s of x[n, r sh + i dh - pt, s sw + j dw - pl, c] dy[n, r, s, c]

   vectorised over channels. Stage 0, an item: one part of the blocks of rows. A block's x and dy stay in the
   L2 cache while the kernel positions pass over them; P positions of a kernel row and two vectors of channels
   are summed in registers. Stage 1 adds the parts up in their order. Sums, per part: [i][j][c]. */

typedef struct NAME(depthwise_gradient) {
    ptrdiff_t rows, row_blocks; /* output rows of a block, and blocks of one image */
    ptrdiff_t parts;            /* items among which the blocks are divided */
    ptrdiff_t padded;           /* channels, rounded up to whole vectors */
} NAME(depthwise_gradient);

typedef struct NAME(channelwise) {
    const REAL *x, *dy;
    REAL *sum;
    ptrdiff_t rows, x_row, dy_row, columns, x_pixel, dy_pixel; /* pixels, and steps in x and dy */
    ptrdiff_t x_tap, sum_tap; /* steps from one kernel position to the next */
} NAME(channelwise);

/* N pixels of a row. The taps of a pixel are those of the pixel before, moved on by one: each input is loaded
   once while the window slides. */
INLINE void NAME(sliding_row)(const REAL *x, const REAL *dy, ptrdiff_t x_pixel, ptrdiff_t dy_pixel,
                              ptrdiff_t columns, vec sum[][2], const int P, const int V) {
    vec window[3][2];
    UNROLL
    for (int p = 0; p < P - 1; p++) {
        UNROLL
        for (int v = 0; v < V; v++) window[p][v] = NAME(load)(x + p * x_pixel + v * LANES);
    }
    x += (P - 1) * x_pixel;
    for (ptrdiff_t s = 0; s < columns; s += P) {
        UNROLL
        for (int u = 0; u < P; u++) {
            UNROLL
            for (int v = 0; v < V; v++) {
                const vec error = NAME(load)(dy + v * LANES);
                window[(u + P - 1) % P][v] = NAME(load)(x + v * LANES);
                UNROLL
                for (int p = 0; p < P; p++) sum[p][v] += error * window[(u + p) % P][v];
            }
            x += x_pixel, dy += dy_pixel;
        }
    }
}

INLINE void NAME(channelwise_body)(const NAME(channelwise) * t, const int P, const int V) {
    const ptrdiff_t x_tap = t->x_tap, x_pixel = t->x_pixel, dy_pixel = t->dy_pixel, columns = t->columns;
    const ptrdiff_t slid = P == 3 && x_tap == x_pixel ? columns / P * P : 0;
    vec sum[6][2];
    UNROLL
    for (int p = 0; p < P; p++) {
        UNROLL
        for (int v = 0; v < V; v++) sum[p][v] = (vec){0}; /* as in outer.h */
    }
    for (ptrdiff_t r = 0; r < t->rows; r++) {
        const REAL *x = t->x + r * t->x_row, *dy = t->dy + r * t->dy_row;
        if (P == 3 && slid) NAME(sliding_row)(x, dy, x_pixel, dy_pixel, slid, sum, P, V);
        x += slid * x_pixel, dy += slid * dy_pixel;
        for (ptrdiff_t s = slid; s < columns; s++, x += x_pixel, dy += dy_pixel) {
            UNROLL
            for (int v = 0; v < V; v++) {
                const vec error = NAME(load)(dy + v * LANES);
                UNROLL
                for (int p = 0; p < P; p++) sum[p][v] += error * NAME(load)(x + p * x_tap + v * LANES);
            }
        }
    }
    UNROLL
    for (int p = 0; p < P; p++) {
        UNROLL
        for (int v = 0; v < V; v++) {
            REAL *const to = t->sum + p * t->sum_tap + v * LANES;
            NAME(store)(to, NAME(load)(to) + sum[p][v]);
        }
    }
}

#define CHANNELWISE(P, V)                                                                                    \
    static void NAME(channelwise_##P##x##V)(const NAME(channelwise) * t) {                                   \
        NAME(channelwise_body)(t, P, V);                                                                     \
    }
#define C(P, V) NAME(channelwise_##P##x##V)
/* clang-format off */
CHANNELWISE(1, 1) CHANNELWISE(2, 1) CHANNELWISE(3, 1) CHANNELWISE(4, 1) CHANNELWISE(5, 1) CHANNELWISE(6, 1)
CHANNELWISE(1, 2) CHANNELWISE(2, 2) CHANNELWISE(3, 2) CHANNELWISE(4, 2) CHANNELWISE(5, 2) CHANNELWISE(6, 2)

static void (*const NAME(channelwises)[2][6])(const NAME(channelwise) *) = {
    {C(1, 1), C(2, 1), C(3, 1), C(4, 1), C(5, 1), C(6, 1)},
    {C(1, 2), C(2, 2), C(3, 2), C(4, 2), C(5, 2), C(6, 2)},
};
/* clang-format on */
#undef C
#undef CHANNELWISE

/* Kernel positions (i, j) ... (i, j + taps - 1) over the outputs of rows r0 ... r1 - 1 and columns s0 ... s1
 * - 1. */
static void NAME(depthwise_taps)(const plan *p, REAL *sums, ptrdiff_t image, ptrdiff_t i, ptrdiff_t j,
                                 ptrdiff_t taps, ptrdiff_t r0, ptrdiff_t r1, ptrdiff_t s0, ptrdiff_t s1) {
    const NAME(depthwise_gradient) *d = (const void *)p->own;
    const conv *g = &p->g;
    const ptrdiff_t c = g->c;
    NAME(channelwise) t;
    if (r1 <= r0 || s1 <= s0) return;
    t.rows = r1 - r0, t.columns = s1 - s0;
    t.x_row = g->sh * g->w * c, t.dy_row = g->ow * c;
    t.x_pixel = g->sw * c, t.dy_pixel = c;
    t.x_tap = g->dw * c, t.sum_tap = d->padded;
    const REAL *x =
        (const REAL *)p->a +
        ((image * g->h + r0 * g->sh + i * g->dh - g->pt) * g->w + s0 * g->sw + j * g->dw - g->pl) * c;
    const REAL *dy = (const REAL *)p->b + ((image * g->oh + r0) * g->ow + s0) * c;
    REAL *sum = sums + (i * g->kw + j) * d->padded;
    for (ptrdiff_t from = 0; from < c;) {
        const int vectors = from + 2 * LANES <= c ? 2 : 1;
        const ptrdiff_t tail =
            from + LANES > c && c > LANES ? c - LANES : from; /* the last vector overlaps the one before */
        /* The overlapping vector has sums of its own, behind the others: those it shares with the vector
         * before must not be added twice. */
        t.x = x + tail, t.dy = dy + tail, t.sum = sum + from;
        NAME(channelwises)[vectors - 1][taps - 1](&t);
        from += vectors * LANES;
    }
}

static void NAME(depthwise_part)(const plan *p, ptrdiff_t part, REAL *sums) {
    const NAME(depthwise_gradient) *d = (const void *)p->own;
    const conv *g = &p->g;
    const ptrdiff_t blocks = g->n * d->row_blocks;
    memset(sums, 0, (size_t)(g->kh * g->kw * d->padded) * sizeof(REAL));
    for (ptrdiff_t b = part * blocks / d->parts; b < (part + 1) * blocks / d->parts; b++) {
        const ptrdiff_t image = b / d->row_blocks, first = b % d->row_blocks * d->rows;
        for (ptrdiff_t i = 0; i < g->kh; i++) {
            ptrdiff_t r0, r1 = NAME(outputs_inside)(i, g->sh, g->pt, g->dh, g->h, g->oh, &r0);
            r0 = r0 < first ? first : r0;
            r1 = r1 > first + d->rows ? first + d->rows : r1;
            for (ptrdiff_t j = 0; j < g->kw; j += 6) {
                const ptrdiff_t taps = g->kw - j < 6 ? g->kw - j : 6;
                /* Columns that all these positions see together, then the columns that only some see. */
                ptrdiff_t low, high, s0, s1;
                s1 = NAME(outputs_inside)(j, g->sw, g->pl, g->dw, g->w, g->ow, &low);
                high = NAME(outputs_inside)(j + taps - 1, g->sw, g->pl, g->dw, g->w, g->ow, &s0);
                high = high < s1 ? high : s1;
                low = low > s0 ? low : s0;
                if (high < low) high = low;
                NAME(depthwise_taps)(p, sums, image, i, j, taps, r0, r1, low, high);
                for (ptrdiff_t tap = j; tap < j + taps; tap++) {
                    s1 = NAME(outputs_inside)(tap, g->sw, g->pl, g->dw, g->w, g->ow, &s0);
                    NAME(depthwise_taps)(p, sums, image, i, tap, 1, r0, r1, s0, s1 < low ? s1 : low);
                    NAME(depthwise_taps)(p, sums, image, i, tap, 1, r0, r1, s0 > high ? s0 : high, s1);
                }
            }
        }
    }
}

static void NAME(depthwise_gradient_run)(const plan *p, int stage, ptrdiff_t item, void *shared,
                                         void *scratch) {
    const NAME(depthwise_gradient) *d = (const void *)p->own;
    const ptrdiff_t c = p->g.c, size = p->g.kh * p->g.kw * d->padded, last = c - LANES;
    REAL *sums = shared;
    (void)scratch;
    if (stage == 0) {
        NAME(depthwise_part)(p, item, sums + item * size);
        return;
    }
    REAL *out = (REAL *)p->out + item * c;
    for (ptrdiff_t from = 0; from < c; from += LANES) {
        vec total = NAME(load)(sums + item * d->padded + from);
        for (ptrdiff_t part = 1; part < d->parts; part++)
            total += NAME(load)(sums + part * size + item * d->padded + from);
        NAME(store)(out + (from < last ? from : last), total);
    }
}

static void NAME(depthwise_grad_plan)(plan *p, int what) {
    const conv *g = &p->g;
    (void)what;
    NAME(depthwise_gradient) *d = (void *)p->own;
    const ptrdiff_t row = g->c * (ptrdiff_t)sizeof(REAL) * (g->ow + g->sh * g->w);
    ptrdiff_t rows = (256 << 10) / row;
    rows = rows < 1 ? 1 : rows > g->oh ? g->oh : rows;
    d->row_blocks = (g->oh + rows - 1) / rows;
    d->rows = (g->oh + d->row_blocks - 1) / d->row_blocks;
    d->row_blocks = (g->oh + d->rows - 1) / d->rows;
    d->parts = g->n * d->row_blocks < 32 ? g->n * d->row_blocks : 32;
    d->padded = (g->c + LANES - 1) / LANES * LANES;
    p->stages = 2;
    p->items[0] = d->parts;
    p->items[1] = g->kh * g->kw;
    p->shared_bytes = (size_t)(d->parts * g->kh * g->kw * d->padded) * sizeof(REAL);
    p->scratch_bytes = 0;
    p->cycles = (double)(g->n * g->oh * g->ow * g->c) * (double)(g->kh * g->kw + 4) / LANES;
}
