/* spread.h: direct convolution that spreads instead of gathering: each input pixel's products with a whole
   kernel row are added to the results that they belong to (called col2im where the products are one matrix).
   The lanes are the kernel row's columns and results.

       sums[s, j, k] = sum over i, c of in[y + i, s, c] w[i, j, c, k]
       out[y, s S + j D - L, k] = act(b[k] + sum over s, j of sums[s, j, k])

   The input gradient has this form, with S the stride, D the dilation and L the padding across; so has the
   forward pass of stride 1, with the kernel's columns flipped. direct.h goes the other way: for each result
   it gathers what it needs. That leaves lanes idle where there are few results k, of a group or of a first
   layer's images, and it multiplies zeros around an input that is narrower than the kernel. Here a kernel
   row's j and k together fill the lanes, and no product is of a zero beside the input.

   The products are those of tile.h, some columns and two vectors of (j, k) at a time, into a buffer. Then
   they are added to a line of results (with a dilation D, to D lines of every D-th column), in which a
   pixel's products follow one another. Neighbours overlap, and a load that overlaps two stores waits for
   both. So columns are taken far enough apart that they do not overlap.

   Stage 0 packs the filters as [group][phase of the stride down][block of two vectors][i][c][2 LANES].
   Stage 1, an item: some result rows of one image and group. */

enum {
    NAME(SPREAD_COLUMNS) = 56,    /* columns of the buffer: a few tiles */
    NAME(SPREAD_BYTES) = 48 << 10 /* the lines of an item */
};

typedef struct NAME(spread) {
    ptrdiff_t grad;                   /* the input gradient, not the forward pass */
    ptrdiff_t ih, iw, from;           /* input size, and its channels of one group */
    ptrdiff_t oh, ow, to;             /* result size, and its channels of one group */
    ptrdiff_t stride, dilation, left; /* S, D and L */
    ptrdiff_t phases;                 /* of the stride down */
    ptrdiff_t run, vectors;           /* columns times results of a kernel row; the same in vectors */
    ptrdiff_t span, part, line;       /* columns of all lines, numbers of one line, numbers of all */
    ptrdiff_t apart;                  /* columns at this distance do not overlap */
    ptrdiff_t rows, row_blocks;
    ptrdiff_t filters; /* packed numbers of one group */
} NAME(spread);

/* Stage 0: the filters of one group. */
static void NAME(spread_filters)(const plan *p, ptrdiff_t group, REAL *to) {
    const NAME(spread) *d = (const void *)p->own;
    const ptrdiff_t k = p->g.k, kw = p->g.kw, kernel_row = kw * (p->g.c / p->g.groups) * k;
    const REAL *const w = (const REAL *)p->b + group * (k / p->g.groups);
    for (ptrdiff_t phase = 0; phase < d->phases; phase++) {
        const NAME(axis) y = NAME(axis_down)(&p->g, d->grad, d->oh, phase);
        for (ptrdiff_t v = 0; v < d->vectors; v += 2) {
            const ptrdiff_t width = min_of(d->vectors - v, 2) * LANES;
            const ptrdiff_t first = v * LANES, lanes = min_of(width, d->run - first);
            for (ptrdiff_t i = 0; i < y.taps; i++, to += d->from * width) {
                const REAL *const row = w + (y.kernel0 + i * y.kernel_step) * kernel_row;
                if (lanes < width) memset(to, 0, (size_t)(d->from * width) * sizeof(REAL));
                if (d->grad) { /* the kernel's columns and channels are one run of rows */
                    NAME(transpose_matrix)(row + first * k, k, lanes, d->from, to, width);
                    continue;
                }
                for (ptrdiff_t l = 0, count; l < lanes; l += count) {
                    const ptrdiff_t j = (first + l) / d->to, r = (first + l) % d->to;
                    const REAL *const column = row + (kw - 1 - j) * d->from * k + r;
                    count = min_of(d->to - r, lanes - l);
                    for (ptrdiff_t c = 0; c < d->from; c++)
                        memcpy(to + c * width + l, column + c * k, (size_t)count * sizeof(REAL));
                }
            }
        }
    }
}

/* Where the products of input column s begin in a line. */
INLINE ptrdiff_t NAME(spread_place)(const NAME(spread) * d, ptrdiff_t s) {
    return d->dilation == 1 ? s * d->stride * d->to
                            : s * d->stride % d->dilation * d->part + s * d->stride / d->dilation * d->to;
}

/* Adds the products of columns s ... s + count - 1 to the line. Each has `width` lanes, of which `lanes` are
   filters. The other lanes are zero unless the input is not finite; they would then spread too far. */
static void NAME(spread_columns)(const NAME(spread) * d, const REAL *sums, ptrdiff_t width, ptrdiff_t lanes,
                                 ptrdiff_t s, ptrdiff_t count, REAL *line) {
    ivec keep = {0}; /* lanes of the last vector that are filters */
    for (int l = 0; l < LANES; l++) keep[l] = width - LANES + l < lanes ? -1 : 0;
    for (ptrdiff_t turn = 0; turn < min_of(d->apart, count); turn++)
        for (ptrdiff_t i = turn; i < count; i += d->apart) {
            REAL *const to = line + NAME(spread_place)(d, s + i), *const last = to + width - LANES;
            const REAL *const from = sums + i * width;
            const vec end = *(const vec *)(from + width - LANES);
            const vec sum = NAME(load)(last) + (vec)((ivec)end & keep);
            if (width > LANES) NAME(store)(to, NAME(load)(to) + *(const vec *)from);
            NAME(store)(last, sum);
        }
}

/* Writes a line to a row of results. */
static void NAME(spread_out)(const plan *p, const REAL *line, ptrdiff_t group, REAL *out) {
    const NAME(spread) *d = (const void *)p->own;
    const ptrdiff_t pixel = p->g.groups * d->to, from = max_of(-d->left, 0);
    const ptrdiff_t until = max_of(min_of(d->ow, d->span - d->left), from);
    const REAL *const bias = p->bias ? (const REAL *)p->bias + group * d->to : NULL;
    out += group * d->to;
    if (!bias && !p->relu && d->dilation == 1 && pixel == d->to && from == 0 && until == d->ow) {
        memcpy(out, line + d->left * d->to, (size_t)(d->ow * d->to) * sizeof(REAL));
        return;
    }
    for (ptrdiff_t x = 0; x < d->ow; x++, out += pixel) {
        const ptrdiff_t u = x >= from && x < until ? x + d->left : -1;
        const REAL *const results = u < 0 ? NULL : line + u % d->dilation * d->part + u / d->dilation * d->to;
        for (ptrdiff_t k = 0; k < d->to; k += LANES) {
            const ptrdiff_t count = d->to - k;
            vec sum = {0};
            if (results) sum = NAME(load)(results + k);
            if (bias) sum += NAME(load_some)(bias + k, count);
            if (p->relu) sum = NAME(positive)(sum);
            NAME(store_some)(out + k, sum, count);
        }
    }
}

static void NAME(spread_run)(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) {
    const NAME(spread) *d = (const void *)p->own;
    if (stage == 0) {
        NAME(spread_filters)(p, item, (REAL *)shared + item * d->filters);
        return;
    }
    const ptrdiff_t group = item % p->g.groups, rest = item / p->g.groups;
    const ptrdiff_t image = rest / d->row_blocks, first = rest % d->row_blocks * d->rows;
    const ptrdiff_t last = min_of(first + d->rows, d->oh), pixel = p->g.groups * d->from, row = d->iw * pixel;
    const REAL *const in = (const REAL *)p->a + image * d->ih * row + group * d->from;
    const REAL *filters = (const REAL *)shared + group * d->filters;
    REAL *const sums = scratch, *const lines = sums + NAME(SPREAD_COLUMNS) * 2 * LANES;
    const ptrdiff_t chunks = ceil_div(d->iw, NAME(SPREAD_COLUMNS));
    memset(lines, 0, (size_t)((last - first) * d->line) * sizeof(REAL));
    for (ptrdiff_t phase = 0; phase < d->phases; phase++) {
        const NAME(axis) y = NAME(axis_down)(&p->g, d->grad, d->oh, phase);
        for (ptrdiff_t v = 0; v < d->vectors; v += 2) {
            const ptrdiff_t vectors = min_of(d->vectors - v, 2), width = vectors * LANES;
            NAME(tile) t = {.y = sums, .x_step = pixel, .y_step = width, .row = y.tap_step * row};
            t.columns = 1, t.run = d->from, t.second = LANES, t.lanes = LANES;
            for (ptrdiff_t r = first < y.out0 ? 0 : ceil_div(first - y.out0, y.out_step);
                 r < y.count && y.out0 + r * y.out_step < last; r++) {
                ptrdiff_t i0;
                const ptrdiff_t i1 = NAME(taps_inside)(&y, r, d->ih, &i0);
                if (i1 <= i0) continue;
                t.rows = i1 - i0;
                t.w = filters + i0 * d->from * width;
                REAL *const line = lines + (y.out0 + r * y.out_step - first) * d->line + v * LANES;
                const REAL *const x = in + (y.in0 + r * y.in_step + i0 * y.tap_step) * row;
                for (ptrdiff_t chunk = 0; chunk < chunks; chunk++) {
                    const ptrdiff_t s = even_cut(d->iw, chunks, chunk);
                    const ptrdiff_t count = even_cut(d->iw, chunks, chunk + 1) - s;
                    t.x = x + s * pixel, t.y = sums;
                    NAME(tile_row)(&t, vectors, NAME(cut_row)(vectors, count));
                    NAME(spread_columns)(d, sums, width, min_of(width, d->run - v * LANES), s, count, line);
                }
            }
            filters += y.taps * d->from * width;
        }
    }
    for (ptrdiff_t r = first; r < last; r++)
        NAME(spread_out)(p, lines + (r - first) * d->line, group,
                         (REAL *)p->out + (image * d->oh + r) * d->ow * p->g.groups * d->to);
}

/* Cycles of the products for one step of i, c over a row of the input, in tiles of two sizes that differ by
   one. */
INLINE double NAME(spread_step)(ptrdiff_t columns, ptrdiff_t vectors) {
    double cycles = 0;
    for (ptrdiff_t v = 0; v < vectors; v += 2) {
        const ptrdiff_t wide = min_of(vectors - v, 2), tiles = ceil_div(columns, NAME(tile_pixels)(wide));
        cycles += (double)tiles * cost_of_tile((double)columns / (double)tiles, (double)wide, 1);
    }
    return cycles;
}

static int NAME(spread_can)(const plan *p, int what) {
    return (what || p->g.sw == 1) && !NAME(is_depthwise)(&p->g);
}

static void NAME(spread_plan)(plan *p, int grad) {
    const conv *g = &p->g;
    NAME(spread) *d = (void *)p->own;
    _Static_assert(sizeof(NAME(spread)) <= sizeof p->own, "the plan holds the algorithm's numbers");
    const ptrdiff_t c = g->c / g->groups, k = g->k / g->groups, size = sizeof(REAL);
    *d = (NAME(spread)){.grad = grad, .stride = g->sw, .dilation = g->dw, .phases = 1};
    d->ih = grad ? g->oh : g->h, d->iw = grad ? g->ow : g->w, d->from = grad ? k : c;
    d->oh = grad ? g->h : g->oh, d->ow = grad ? g->w : g->ow, d->to = grad ? c : k;
    d->left = grad ? g->pl : (g->kw - 1) * g->dw - g->pl;
    if (grad) d->phases = min_of(g->sh, g->h);
    d->run = g->kw * d->to;
    d->vectors = ceil_div(d->run, LANES);
    d->span = (d->iw - 1) * d->stride + (g->kw - 1) * d->dilation + 1;
    d->part = ceil_div(d->span, d->dilation) * d->to + 2 * LANES;
    d->line = min_of(d->dilation, d->span) * d->part;
    d->apart = d->stride % d->dilation == 0
                   ? ceil_div(min_of(d->vectors, 2) * LANES, d->stride / d->dilation * d->to)
                   : 1; /* neighbours lie in different lines */
    d->filters = g->kh * d->from * d->vectors * LANES;
    d->rows = min_of(NAME(SPREAD_BYTES) / (d->line * size), g->n * g->groups * d->oh / 32);
    d->rows = min_of(max_of(d->rows, 1), d->oh);
    d->row_blocks = even_blocks(d->oh, &d->rows);

    const double items = (double)(g->n * g->groups), lines = items * (double)d->oh;
    p->cycles = items * (double)(NAME(row_pairs)(g) * d->from) * NAME(spread_step)(d->iw, d->vectors) +
                lines * (double)(d->iw * d->vectors) * 4 +
                lines * (double)(d->ow * ceil_div(d->to, LANES) * 3 + d->line / LANES);
    p->stages = 2;
    p->prepared = 1;
    p->items[0] = g->groups;
    p->items[1] = g->n * g->groups * d->row_blocks;
    p->shared_bytes = (size_t)(g->groups * d->filters * size);
    p->scratch_bytes = (size_t)round_up((NAME(SPREAD_COLUMNS) * 2 * LANES + d->rows * d->line) * size, 64);
}
