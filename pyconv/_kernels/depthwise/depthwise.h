/* depthwise.h: direct convolution where every channel has one filter of its own (groups = C = K), forward and
   input gradient; depthwise_few.h does fewer channels than a vector has lanes. Both passes are, for every
   phase of the stride (axis.h),

       out[oy, ox, c] = act(b[c] + sum over taps i, j of in[iy + i ti, ix + j tj, c] w[i, j, c])

   vectorised over channels. An item is some rows of the result. A tile is P neighbouring pixels of a row and
   V vectors of channels: 8 x 1, or 4 x 2 where a vector is half a cache line, so that whole lines are read
   and written. Nothing is packed or copied: at the borders the sums are over the taps that meet the image.
   For every vector loaded there are few multiply-adds, one unless the kernel is 3 or 5 wide and neighbouring
   pixels share what they see, so memory sets the pace. Rows are therefore done in strips, one row below the
   other: what a strip's kernels see stays in the L1 cache, and is fetched into it once. */

enum { NAME(DEPTHWISE_PIXELS) = 8, NAME(DEPTHWISE_BYTES) = 24 << 10, NAME(DEPTHWISE_ROWS) = 32 };

typedef struct NAME(strip) {
    const REAL *in, *w, *bias; /* in, w: at the first tap; bias: NULL, or one number a channel */
    REAL *out;
    ptrdiff_t tiles;               /* tiles side by side */
    ptrdiff_t in_step, out_step;   /* from one pixel to the next */
    ptrdiff_t rows, in_row, w_row; /* taps down, and their steps in `in` and w */
    ptrdiff_t columns, in_column, w_column;
    ptrdiff_t channels;
    int relu, stream; /* stream: out is large and every vector of it is aligned: store past the caches */
} NAME(strip);

/* P pixels through one kernel row of C columns that are neighbours in the input: each pixel is loaded once.
 */
INLINE void NAME(strip_row)(const REAL *from, ptrdiff_t step, const REAL *filter, ptrdiff_t w_column,
                            vec sum[][2], const int P, const int V, const int C) {
    const REAL *x[5]; /* every third pixel, as in tile.h */
    UNROLL
    for (int q = 0; q < (P + C + 1) / 3; q++) {
        x[q] = from + 3 * q * step;
        APART(x[q]);
    }
    UNROLL
    for (int v = 0; v < V; v++) {
        vec f[5];
        UNROLL
        for (int j = 0; j < C; j++) f[j] = NAME(load)(filter + j * w_column + v * LANES);
        UNROLL
        for (int q = 0; q < P + C - 1; q++) {
            vec pixel = NAME(load)(x[q / 3] + q % 3 * step + v * LANES);
            IN_REGISTER(pixel);
            UNROLL
            for (int j = 0; j < C; j++)
                if (q - j >= 0 && q - j < P) sum[q - j][v] += f[j] * pixel;
        }
    }
}

/* V vectors of channels at a time. C is the number of kernel columns if it is 3 or 5 and neither a stride nor
   a dilation lies between them; else 0. */
INLINE void NAME(strip_body)(const NAME(strip) * t, const int P, const int V, const int C) {
    const ptrdiff_t step = t->in_step, out_step = t->out_step, channels = t->channels;
    const ptrdiff_t in_row = t->in_row, in_column = t->in_column, w_row = t->w_row, w_column = t->w_column;
    const ptrdiff_t rows = t->rows, columns = t->columns;
    const REAL *const in = t->in, *const w = t->w, *const bias = t->bias;
    REAL *const out = t->out;
    const int relu = t->relu, stream = t->stream;
    for (ptrdiff_t tile = 0; tile < t->tiles; tile++)
        for (ptrdiff_t next = 0; next < channels; next += V * LANES) {
            /* The last vectors overlap those before. */
            const ptrdiff_t c = next + V * LANES > channels ? channels - V * LANES : next;
            const REAL *from = in + tile * P * step + c;
            REAL *to = out + tile * P * out_step + c;
            vec sum[NAME(DEPTHWISE_PIXELS)][2];
            UNROLL
            for (int v = 0; v < V; v++) {
                vec start = {0};
                if (bias) start = NAME(load)(bias + c + v * LANES);
                UNROLL
                for (int p = 0; p < P; p++) sum[p][v] = start;
            }
            for (ptrdiff_t i = 0; i < rows; i++) {
                const REAL *filter = w + i * w_row + c, *x[3]; /* every third pixel, as in tile.h */
                if (C) {
                    NAME(strip_row)(from + i * in_row, step, filter, w_column, sum, P, V, C);
                    continue;
                }
                UNROLL
                for (int q = 0; q < (P + 2) / 3; q++) {
                    x[q] = from + i * in_row + 3 * q * step;
                    APART(x[q]);
                }
                for (ptrdiff_t j = 0; j < columns; j++, filter += w_column) {
                    UNROLL
                    for (int v = 0; v < V; v++) {
                        const vec f = NAME(load)(filter + v * LANES);
                        UNROLL
                        for (int p = 0; p < P; p++)
                            sum[p][v] += f * NAME(load)(x[p / 3] + p % 3 * step + v * LANES);
                    }
                    UNROLL
                    for (int q = 0; q < (P + 2) / 3; q++) x[q] += in_column;
                }
            }
            UNROLL
            for (int p = 0; p < P; p++) {
                UNROLL
                for (int v = 0; v < V; v++) {
                    const vec result = relu ? NAME(positive)(sum[p][v]) : sum[p][v];
                    REAL *const at = to + p * out_step + v * LANES;
                    if (stream)
                        NAME(stream)(at, result);
                    else
                        NAME(store)(at, result);
                }
            }
        }
}

#define STRIP(P, V, C)                                                                                       \
    static void NAME(strip_##P##x##V##x##C)(const NAME(strip) * t) {                                         \
        NAME(strip_body)(t, P, V, C);                                                                        \
    }
STRIP(8, 1, 0)
STRIP(4, 1, 0)
STRIP(1, 1, 0)
STRIP(8, 1, 3)
STRIP(4, 1, 3)
STRIP(8, 1, 5)
STRIP(4, 1, 5)
#if VECTOR_BYTES == 32
STRIP(4, 2, 0)
STRIP(1, 2, 0)
STRIP(4, 2, 3)
STRIP(4, 2, 5)
#endif
#undef STRIP

/* Vectors of a strip: two that make a cache line, if there are two. */
INLINE ptrdiff_t NAME(strip_vectors)(ptrdiff_t channels) {
    return VECTOR_BYTES == 32 && channels >= 2 * LANES ? 2 : 1;
}

typedef struct NAME(depthwise) {
    ptrdiff_t grad, ih, iw, oh, ow, phases_y, phases_x;
    ptrdiff_t rows, row_blocks; /* result rows of an item; items of an image */
} NAME(depthwise);

/* Columns s ... end - 1 of a row; all of them have the taps j0 ... j1 - 1. */
static void NAME(depthwise_columns)(NAME(strip) * t, const NAME(axis) * x, ptrdiff_t s, ptrdiff_t end,
                                    ptrdiff_t j0, ptrdiff_t j1, const REAL *in, const REAL *w, REAL *out,
                                    ptrdiff_t c) {
    const int shifts[] = {3, 2, 0};
    const ptrdiff_t vectors = NAME(strip_vectors)(c);
    t->columns = j1 > j0 ? j1 - j0 : 0;
    const int exact = t->in_column != t->in_step ? 0 : t->columns == 3 ? 1 : t->columns == 5 ? 2 : 0;
#define S(P, V, C) NAME(strip_##P##x##V##x##C)
    /* By vectors, columns (any, 3, 5) and pixels (8, 4, 1). */
    static void (*const strips[2][3][3])(const NAME(strip) *) = {
        {{S(8, 1, 0), S(4, 1, 0), S(1, 1, 0)},
         {S(8, 1, 3), S(4, 1, 3), S(1, 1, 0)},
         {S(8, 1, 5), S(4, 1, 5), S(1, 1, 0)}},
#if VECTOR_BYTES == 32
        {{NULL, S(4, 2, 0), S(1, 2, 0)}, {NULL, S(4, 2, 3), S(1, 2, 0)}, {NULL, S(4, 2, 5), S(1, 2, 0)}},
#endif
    };
#undef S
    if (t->columns) t->w = w + (x->kernel0 + j0 * x->kernel_step) * c;
    for (int size = (int)vectors - 1; size < 3; size++) {
        t->tiles = (end - s) >> shifts[size];
        t->in = t->columns ? in + (x->in0 + s * x->in_step + j0 * x->tap_step) * c : in;
        t->out = out + (x->out0 + s * x->out_step) * c;
        if (t->tiles > 0) strips[vectors - 1][exact][size](t);
        s += t->tiles << shifts[size];
    }
}

/* Finds the positions first ... end - 1 of a row that see the input through all taps. */
INLINE ptrdiff_t NAME(all_inside)(const NAME(axis) * a, ptrdiff_t size, ptrdiff_t *first) {
    const ptrdiff_t low = a->in0 < 0 ? (-a->in0 + a->in_step - 1) / a->in_step : 0;
    const ptrdiff_t room = size - 1 - a->in0 - (a->taps - 1) * a->tap_step;
    const ptrdiff_t high = room < 0 ? 0 : room / a->in_step + 1, end = high < a->count ? high : a->count;
    *first = low < end ? low : end;
    return end;
}

/* Columns s ... end - 1 of one row, in one phase; all_inside gives low ... high - 1. */
static void NAME(depthwise_strip)(const plan *p, ptrdiff_t image, ptrdiff_t row, const NAME(axis) * x,
                                  ptrdiff_t s, ptrdiff_t end, ptrdiff_t low, ptrdiff_t high) {
    const NAME(depthwise) *d = (const void *)p->own;
    const conv *g = &p->g;
    const ptrdiff_t c = g->c, r = row / d->phases_y;
    const NAME(axis) y = NAME(axis_down)(g, d->grad, d->oh, row % d->phases_y);
    NAME(strip) t;
    ptrdiff_t i0;
    const ptrdiff_t i1 = NAME(taps_inside)(&y, r, d->ih, &i0);
    t.rows = i1 > i0 ? i1 - i0 : 0;
    t.in_row = y.tap_step * d->iw * c;
    t.w_row = y.kernel_step * g->kw * c;
    t.channels = c;
    t.bias = p->bias;
    t.relu = p->relu;
    t.in_step = x->in_step * c;
    t.out_step = x->out_step * c;
    t.in_column = x->tap_step * c;
    t.w_column = x->kernel_step * c;
    const REAL *in = p->a, *w = p->b;
    REAL *out = (REAL *)p->out + (image * d->oh + row) * d->ow * c;
    t.stream = NAME(is_streamed)(g->n * d->oh * d->ow, c, 64 / VECTOR_BYTES, x->out_step == 1) &&
               NAME(begins_a_line)(p->out);
    if (t.rows) {
        in += (image * d->ih + y.in0 + r * y.in_step + i0 * y.tap_step) * d->iw * c;
        w += (y.kernel0 + i0 * y.kernel_step) * g->kw * c;
    }
    while (s < end) {
        ptrdiff_t j0 = 0, j1 = x->taps, until = end < high ? end : high;
        if (s < low || s >= high) j1 = NAME(taps_inside)(x, s, d->iw, &j0), until = s + 1;
        NAME(depthwise_columns)(&t, x, s, until, j0, j1, in, w, out, c);
        s = until;
    }
}

static void NAME(depthwise_run)(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) {
    const NAME(depthwise) *d = (const void *)p->own;
    const conv *g = &p->g;
    const ptrdiff_t image = item / d->row_blocks, first = item % d->row_blocks * d->rows;
    const ptrdiff_t last = first + d->rows < d->oh ? first + d->rows : d->oh;
    (void)stage, (void)shared, (void)scratch;
    for (ptrdiff_t b = 0; b < d->phases_x; b++) {
        const NAME(axis) x = NAME(axis_across)(g, d->grad, d->ow, b);
        ptrdiff_t low, wide = NAME(DEPTHWISE_BYTES) / (g->kh * x.in_step * g->c * (ptrdiff_t)sizeof(REAL));
        const ptrdiff_t high = NAME(all_inside)(&x, d->iw, &low);
        wide = wide < NAME(DEPTHWISE_PIXELS) ? NAME(DEPTHWISE_PIXELS) : wide - wide % NAME(DEPTHWISE_PIXELS);
        if (d->rows < g->kh) wide = x.count; /* too few rows to share what they see: no strips */
        for (ptrdiff_t s = 0, end; s < x.count; s = end) {
            end = (s < low ? low : s) + wide; /* whole tiles from `low` on */
            end = end < x.count ? end : x.count;
            for (ptrdiff_t row = first; row < last; row++)
                NAME(depthwise_strip)(p, image, row, &x, s, end, low, high);
        }
    }
    NAME(fence)();
}

INLINE int NAME(is_depthwise)(const conv *g) {
    return g->groups > 1 && g->groups == g->c && g->k == g->c;
}

static int NAME(depthwise_can)(const plan *p, int what) {
    (void)what;
    return NAME(is_depthwise)(&p->g) && p->g.c >= LANES;
}

static void NAME(depthwise_plan)(plan *p, int grad) {
    const conv *g = &p->g;
    NAME(depthwise) *d = (void *)p->own;
    *d = grad ? (NAME(depthwise)){1, g->oh, g->ow, g->h, g->w, g->sh, min_of(g->sw, g->w), 0, 0}
              : (NAME(depthwise)){0, g->h, g->w, g->oh, g->ow, 1, 1, 0, 0};
    const ptrdiff_t fair = g->n * d->oh / 16, most = NAME(DEPTHWISE_ROWS);
    d->rows = fair < 1 ? 1 : fair < most ? fair : most;
    d->rows = d->rows < d->oh ? d->rows : d->oh;
    d->row_blocks = (d->oh + d->rows - 1) / d->rows;
    p->stages = 1;
    p->items[0] = g->n * d->row_blocks;
    p->shared_bytes = p->scratch_bytes = 0;
    p->cycles = (double)(g->n * g->oh * g->ow * g->c) * (double)(g->kh * g->kw + 4) / LANES;
}
