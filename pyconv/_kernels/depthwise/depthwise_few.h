/* depthwise_few.h: depthwise convolution of fewer channels than a vector has lanes, all three passes. The
   equations are those of depthwise.h and depthwise_weight_grad.h. LANES / C neighbouring pixels share a
   vector, so one vector of a filter's tap serves all of them: w[i, j, lane % C].

   Input rows are copied first, with their padding. With a stride, each `step`-th pixel goes to a line of its
   own, so that neighbours in the result read neighbours in a line. The last LANES % C lanes of a vector
   belong to the pixels after it: they are computed too, and the next vector overwrites them, or the sum
   leaves them out.

   Forward and input gradient: stage 0 repeats the taps and the bias over the lanes, stage 1 does some rows of
   the result. Weight gradient: stage 0 sums some rows lane by lane, stage 1 adds up lanes and parts. */

enum {
    NAME(FEW_TILE) = 8, /* vectors side by side in a tile */
    NAME(FEW_ROWS) = 32,
    NAME(FEW_CHANNEL_BYTES) = 128 << 10 /* copied rows of an item */
};

typedef struct NAME(few_channels) {
    ptrdiff_t grad, ih, iw, oh, ow, phases_y,
        phases_x;              /* size of the input that is read, and of the result */
    ptrdiff_t lanes;           /* of a vector that count: LANES / C * C */
    ptrdiff_t low, step, line; /* first column; pixels from one to the next; numbers of a line */
    ptrdiff_t region;          /* input rows that an item sees at most */
    ptrdiff_t padded;          /* numbers of a result's row in whole tiles */
    ptrdiff_t rows, row_blocks, parts;
} NAME(few_channels);

INLINE NAME(axis) NAME(few_axis)(const plan *p, int across, ptrdiff_t phase) {
    const NAME(few_channels) *d = (const void *)p->own;
    const conv *g = &p->g;
    if (d->grad)
        return across ? NAME(axis_grad)(g->w, g->kw, g->sw, g->pl, g->dw, phase)
                      : NAME(axis_grad)(g->h, g->kh, g->sh, g->pt, g->dh, phase);
    return across ? NAME(axis_forward)(g->ow, g->kw, g->sw, g->pl, g->dw)
                  : NAME(axis_forward)(g->oh, g->kh, g->sh, g->pt, g->dh);
}

/* Copies one row of an image, with its padding, to `step` lines. */
static void NAME(copy_lines)(const plan *p, const REAL *row, REAL *to) {
    const NAME(few_channels) *d = (const void *)p->own;
    const ptrdiff_t c = p->g.c, size = sizeof(REAL);
    for (ptrdiff_t f = 0; f < d->step; f++, to += d->line) {
        /* Pixels first ... end - 1 of the line lie in the image. */
        const ptrdiff_t at = d->low + f, all = d->line / c;
        const ptrdiff_t first = min_of(at < 0 ? ceil_div(-at, d->step) : 0, all);
        const ptrdiff_t end = max_of(min_of(at < d->iw ? (d->iw - 1 - at) / d->step + 1 : 0, all), first);
        memset(to, 0, (size_t)(first * c * size));
        const REAL *from = row + (at + first * d->step) * c, *const last = row + d->iw * c - LANES;
        if (d->step == 1)
            memcpy(to + first * c, from, (size_t)((end - first) * c * size));
        else
            for (ptrdiff_t s = first; s < end; s++, from += d->step * c) {
                if (from <= last)
                    NAME(store)(to + s * c, NAME(load)(from)); /* too much: the next store overwrites it */
                else
                    for (ptrdiff_t i = 0; i < c; i++) to[s * c + i] = from[i];
            }
        memset(to + end * c, 0, (size_t)((d->line - end * c) * size));
    }
}

/* Where a tap of a kernel row is: in numbers from its line's start and from the row's start; and how to get
   to the next tap. */
typedef struct NAME(few_tap) {
    ptrdiff_t in_line, line, lines; /* lines: from the first line to the end of the last */
    ptrdiff_t next_in_line, next_line, c;
} NAME(few_tap);

static NAME(few_tap) NAME(few_first)(const NAME(few_channels) * d, const NAME(axis) * x, ptrdiff_t c) {
    const ptrdiff_t column = x->in0 - d->low;
    return (NAME(few_tap)){.in_line = column / d->step * c,
                           .line = column % d->step * d->line,
                           .lines = d->step * d->line,
                           .next_in_line = x->tap_step / d->step * c,
                           .next_line = x->tap_step % d->step * d->line,
                           .c = c};
}

/* Returns the tap's distance from the row's start, and moves on to the next tap. */
INLINE ptrdiff_t NAME(few_next)(NAME(few_tap) * tap) {
    const ptrdiff_t at = tap->line + tap->in_line;
    tap->line += tap->next_line, tap->in_line += tap->next_in_line;
    if (tap->line >= tap->lines) tap->line -= tap->lines, tap->in_line += tap->c;
    return at;
}

/* One row of the result, of one phase across: the whole tiles go to `to`, the rest to `rest`. Returns how
   many numbers went to `to`. `in` is the row of the first tap, `w` its filter row. */
static ptrdiff_t NAME(few_result)(const plan *p, const NAME(axis) * x, const REAL *in, ptrdiff_t rows,
                                  ptrdiff_t in_row, const REAL *w, ptrdiff_t w_row, const REAL *bias,
                                  REAL *to, REAL *rest) {
    const NAME(few_channels) *d = (const void *)p->own;
    const ptrdiff_t lanes = d->lanes, count = x->count * p->g.c, tile = NAME(FEW_TILE) * lanes;
    const ptrdiff_t taps = x->taps, w_column = x->kernel_step * LANES;
    const ptrdiff_t direct = to && count > LANES ? (count - LANES) / tile * tile : 0;
    const NAME(few_tap) first = NAME(few_first)(d, x, p->g.c);
    const int relu = p->relu;
    for (ptrdiff_t q = 0; q < count; q += tile) {
        vec sum[NAME(FEW_TILE)];
        UNROLL
        for (int v = 0; v < NAME(FEW_TILE); v++) sum[v] = *(const vec *)bias;
        for (ptrdiff_t i = 0; i < rows; i++) {
            NAME(few_tap) tap = first;
            const REAL *filter = w + i * w_row, *const row = in + i * in_row + q;
            for (ptrdiff_t j = 0; j < taps; j++, filter += w_column) {
                const vec f = *(const vec *)filter;
                const REAL *const from = row + NAME(few_next)(&tap);
                UNROLL
                for (int v = 0; v < NAME(FEW_TILE); v++) sum[v] += f * NAME(load)(from + v * lanes);
            }
        }
        REAL *const y = q < direct ? to + q : rest + q - direct;
        UNROLL
        for (int v = 0; v < NAME(FEW_TILE); v++)
            NAME(store)(y + v * lanes, relu ? NAME(positive)(sum[v]) : sum[v]);
    }
    return direct;
}

static void NAME(few_run)(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) {
    const NAME(few_channels) *d = (const void *)p->own;
    const conv *g = &p->g;
    const ptrdiff_t c = g->c, all = g->kh * g->kw, row_numbers = d->step * d->line;
    REAL *const taps = shared, *const bias = taps + all * LANES;
    if (stage == 0) {
        for (ptrdiff_t i = 0; i < all * LANES; i++)
            taps[i] = ((const REAL *)p->b)[i / LANES * c + i % LANES % c];
        for (ptrdiff_t l = 0; l < LANES; l++) bias[l] = p->bias ? ((const REAL *)p->bias)[l % c] : 0;
        return;
    }
    REAL *const result = scratch, *const region = result + d->padded;
    const ptrdiff_t image = item / d->row_blocks, first = item % d->row_blocks * d->rows;
    const ptrdiff_t last = min_of(first + d->rows, d->oh);
    /* The input rows that these result rows see. */
    ptrdiff_t low = d->ih, high = -1;
    for (ptrdiff_t row = first; row < last; row++) {
        const NAME(axis) y = NAME(few_axis)(p, 0, row % d->phases_y);
        ptrdiff_t i0, i1 = NAME(taps_inside)(&y, row / d->phases_y, d->ih, &i0);
        if (i1 <= i0) continue;
        const ptrdiff_t at = y.in0 + row / d->phases_y * y.in_step;
        low = min_of(low, at + i0 * y.tap_step), high = max_of(high, at + (i1 - 1) * y.tap_step);
    }
    for (ptrdiff_t row = low; row <= high; row++)
        NAME(copy_lines)(p, (const REAL *)p->a + (image * d->ih + row) * d->iw * c,
                         region + (row - low) * row_numbers);
    for (ptrdiff_t row = first; row < last; row++) {
        const NAME(axis) y = NAME(few_axis)(p, 0, row % d->phases_y);
        const ptrdiff_t at = y.in0 + row / d->phases_y * y.in_step;
        ptrdiff_t i0, i1 = NAME(taps_inside)(&y, row / d->phases_y, d->ih, &i0);
        REAL *const out = (REAL *)p->out + (image * d->oh + row) * d->ow * c;
        const int seen = i1 > i0;
        const REAL *const in = seen ? region + (at + i0 * y.tap_step - low) * row_numbers : region;
        const REAL *const w = seen ? taps + (y.kernel0 + i0 * y.kernel_step) * g->kw * LANES : taps;
        for (ptrdiff_t b = 0; b < d->phases_x; b++) {
            const NAME(axis) x = NAME(few_axis)(p, 1, b);
            const ptrdiff_t done = NAME(few_result)(p, &x, in, seen ? i1 - i0 : 0, y.tap_step * row_numbers,
                                                    w + x.kernel0 * LANES, y.kernel_step * g->kw * LANES,
                                                    bias, x.out_step == 1 ? out : NULL, result);
            if (x.out_step == 1)
                memcpy(out + done, result, (size_t)(x.count * c - done) * sizeof(REAL));
            else
                for (ptrdiff_t s = 0; s < x.count; s++)
                    for (ptrdiff_t i = 0; i < c; i++)
                        out[(x.out0 + s * x.out_step) * c + i] = result[s * c + i];
        }
    }
}

/* The sums of N taps of one kernel row over one row of errors. */
INLINE void NAME(few_sums)(const REAL *const *x, const REAL *dy, ptrdiff_t count, ptrdiff_t lanes, REAL *sums,
                           const int N) {
    vec sum[6];
    const REAL *from[6];
    UNROLL
    for (int n = 0; n < N; n++) sum[n] = (vec){0}, from[n] = x[n]; /* as in outer.h */
    for (ptrdiff_t q = 0; q < count; q += lanes) {
        const vec error = NAME(load)(dy + q);
        UNROLL
        for (int n = 0; n < N; n++) sum[n] += error * NAME(load)(from[n] + q);
    }
    UNROLL
    for (int n = 0; n < N; n++) *(vec *)(sums + n * LANES) += sum[n];
}

static void NAME(few_part)(const plan *p, ptrdiff_t part, REAL *sums, REAL *scratch) {
    const NAME(few_channels) *d = (const void *)p->own;
    const conv *g = &p->g;
    const ptrdiff_t c = g->c, row_numbers = d->step * d->line, blocks = g->n * d->row_blocks;
    const NAME(axis) y = NAME(few_axis)(p, 0, 0), x = NAME(few_axis)(p, 1, 0);
    REAL *const errors = scratch, *const region = errors + d->padded;
    memset(sums, 0, (size_t)(g->kh * g->kw * LANES) * sizeof(REAL));
    memset(errors, 0, (size_t)d->padded * sizeof(REAL));
    for (ptrdiff_t block = even_cut(blocks, d->parts, part); block < even_cut(blocks, d->parts, part + 1);
         block++) {
        const ptrdiff_t image = block / d->row_blocks, first = block % d->row_blocks * d->rows;
        const ptrdiff_t last = min_of(first + d->rows, g->oh);
        const ptrdiff_t low = max_of(y.in0 + first * y.in_step, 0);
        const ptrdiff_t end = min_of(y.in0 + (last - 1) * y.in_step + (y.taps - 1) * y.tap_step + 1, g->h);
        for (ptrdiff_t row = low; row < end; row++)
            NAME(copy_lines)(p, (const REAL *)p->a + (image * g->h + row) * g->w * c,
                             region + (row - low) * row_numbers);
        for (ptrdiff_t row = first; row < last; row++) {
            ptrdiff_t i0, i1 = NAME(taps_inside)(&y, row, g->h, &i0);
            memcpy(errors, (const REAL *)p->b + (image * g->oh + row) * g->ow * c,
                   (size_t)(g->ow * c) * sizeof(REAL));
            for (ptrdiff_t i = i0; i < i1; i++) {
                const REAL *const in =
                    region + (y.in0 + row * y.in_step + i * y.tap_step - low) * row_numbers;
                NAME(few_tap) tap = NAME(few_first)(d, &x, c);
                REAL *to = sums + i * g->kw * LANES;
                for (ptrdiff_t j = 0, count; j < g->kw; j += count, to += count * LANES) {
                    const REAL *from[6];
                    count = min_of(g->kw - j, 6);
                    for (ptrdiff_t n = 0; n < count; n++) from[n] = in + NAME(few_next)(&tap);
                    if (count == 1) NAME(few_sums)(from, errors, g->ow * c, d->lanes, to, 1);
                    if (count == 2) NAME(few_sums)(from, errors, g->ow * c, d->lanes, to, 2);
                    if (count == 3) NAME(few_sums)(from, errors, g->ow * c, d->lanes, to, 3);
                    if (count == 4) NAME(few_sums)(from, errors, g->ow * c, d->lanes, to, 4);
                    if (count == 5) NAME(few_sums)(from, errors, g->ow * c, d->lanes, to, 5);
                    if (count == 6) NAME(few_sums)(from, errors, g->ow * c, d->lanes, to, 6);
                }
            }
        }
    }
}

static void NAME(few_grad_run)(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) {
    const NAME(few_channels) *d = (const void *)p->own;
    const ptrdiff_t c = p->g.c, size = p->g.kh * p->g.kw * LANES;
    REAL *const sums = shared;
    if (stage == 0) {
        NAME(few_part)(p, item, sums + item * size, scratch);
        return;
    }
    REAL *const out = (REAL *)p->out + item * c;
    for (ptrdiff_t i = 0; i < c; i++) {
        out[i] = 0;
        for (ptrdiff_t part = 0; part < d->parts; part++)
            for (ptrdiff_t l = i; l < d->lanes; l += c) out[i] += sums[part * size + item * LANES + l];
        if (out[i] != out[i]) out[i] = NAME(literal_element)(p, item / p->g.kw, item % p->g.kw, i, i);
    }
}

/* Sizes that the passes share. `reach` is one more than the last column that any result sees. */
static void NAME(few_channel_sizes)(plan *p, int grad) {
    const conv *g = &p->g;
    NAME(few_channels) *d = (void *)p->own;
    *d = (NAME(few_channels)){.grad = grad, .lanes = LANES / g->c * g->c};
    d->ih = grad ? g->oh : g->h, d->iw = grad ? g->ow : g->w;
    d->oh = grad ? g->h : g->oh, d->ow = grad ? g->w : g->ow;
    d->phases_y = grad ? g->sh : 1, d->phases_x = grad ? min_of(g->sw, g->w) : 1;
    d->step = grad ? 1 : g->sw;
    ptrdiff_t reach = 0, widest = 0;
    for (ptrdiff_t b = 0; b < d->phases_x; b++) {
        const NAME(axis) x = NAME(few_axis)(p, 1, b);
        widest = max_of(widest, x.count);
        if (!x.taps) continue;
        d->low = min_of(d->low, x.in0);
        reach = max_of(reach, x.in0 + (x.count - 1) * x.in_step + (x.taps - 1) * x.tap_step + 1);
    }
    const ptrdiff_t tile = NAME(FEW_TILE) * d->lanes;
    d->padded = round_up(widest * g->c, tile) + LANES;
    d->line = round_up((ceil_div(reach - d->low, d->step) + 1) * g->c + tile + LANES, g->c);
    const ptrdiff_t fit = NAME(FEW_CHANNEL_BYTES) / (d->step * d->line * (ptrdiff_t)sizeof(REAL));
    const ptrdiff_t halo = (g->kh - 1) * g->dh, stride = grad ? 1 : g->sh, fair = g->n * d->oh / 16;
    d->rows = max_of(min_of(min_of((fit - halo) / stride, fair), NAME(FEW_ROWS)), 1);
    d->rows = min_of(d->rows, d->oh);
    d->row_blocks = ceil_div(d->oh, d->rows);
    d->region = min_of((d->rows - 1) * stride + halo + 2, d->ih);
    const ptrdiff_t numbers = d->padded + d->region * d->step * d->line + LANES;
    p->stages = 2;
    p->prepared = 1;
    p->scratch_bytes = (size_t)round_up(numbers * (ptrdiff_t)sizeof(REAL), 64);
    p->cycles = (double)(g->n * g->oh) * (double)(g->ow * g->c) / (double)d->lanes *
                (double)(g->kh * g->kw + 4) * 1.5;
}

static int NAME(few_channels_can)(const plan *p, int what) {
    (void)what;
    return NAME(is_depthwise)(&p->g) && p->g.c < LANES;
}

static void NAME(few_channels_plan)(plan *p, int grad) {
    NAME(few_channels) *d = (void *)p->own;
    _Static_assert(sizeof *d <= sizeof p->own, "the plan holds the algorithm's numbers");
    NAME(few_channel_sizes)(p, grad);
    p->items[0] = 1;
    p->items[1] = p->g.n * d->row_blocks;
    p->shared_bytes = (size_t)((p->g.kh * p->g.kw + 1) * LANES) * sizeof(REAL);
}

static void NAME(few_channels_grad_plan)(plan *p, int what) {
    NAME(few_channels) *d = (void *)p->own;
    (void)what;
    NAME(few_channel_sizes)(p, 0);
    d->parts = min_of(p->g.n * d->row_blocks, 32);
    p->items[0] = d->parts;
    p->items[1] = p->g.kh * p->g.kw;
    p->shared_bytes = (size_t)(d->parts * p->g.kh * p->g.kw * LANES) * sizeof(REAL);
}
