/* direct.h: direct convolution, forward and input gradient, in register tiles (tile.h).

   Both are correlations of an input (N, ih, iw, from) with packed filters (axis.h), for every phase of the
   stride

       out[oy, ox, k] = act(b[k] + sum over i, j, c of in[iy + i ti, ix + j tj, c] w[i, j, c, k])

   with (iy, ix) the place of result (oy, ox) in the input and ti, tj the distance of its taps.

   Stage 0 packs the filters (direct_filters.h). With few filters and many channels the tile is that of dot.h.
   Stage 1, an item: a block of result rows of one image and group, and some of the blocks of filters. If the
   kernel is one row high, all images count as one. Input rows are copied to scratch where their ends are
   padded (kernel rows above or below the image are left out), where not all columns are seen, and in groups
   for dot.h. Copied or not, the rows stay in the L2 cache while one block of filters after the other passes
   over them. Tiles go along a row; one call does several short rows. Where a row has too few results to hide
   the latency of a multiply-add, tiles go down the columns. Where much of what tiles see is padding,
   direct_inside.h takes over. */

enum { NAME(NARROW) = 6 }; /* fewer sums in a tile do not hide the latency of a multiply-add */

/* dot.h's part of direct_rows. */
static void NAME(direct_dots)(const plan *p, const NAME(tile) * like, ptrdiff_t filters, ptrdiff_t count) {
    const NAME(direct) *d = (const void *)p->own;
    NAME(dot) t;
    t.x = like->x, t.w = like->w, t.bias = like->bias, t.y = like->y;
    t.x_step = like->x_step, t.y_step = like->y_step;
    t.rows = like->rows, t.row = like->row, t.columns = like->columns, t.column = like->column,
    t.run = like->run;
    t.relu = p->relu, t.in_order = d->in_order;
    NAME(dot_row)(&t, filters, count);
}

/* The rows first ... last - 1 of one phase and one block of filters. `in` points to input position (low_y +
   first step_y, low_x); rows are `row` numbers apart and pixels `pixel`. */
static void NAME(direct_rows)(const plan *p, const NAME(axis) * y, const NAME(axis) * x, ptrdiff_t first,
                              ptrdiff_t last, const REAL *in, ptrdiff_t row, ptrdiff_t pixel,
                              const REAL *filters, ptrdiff_t group, ptrdiff_t block, REAL *out) {
    const NAME(direct) *d = (const void *)p->own;
    const ptrdiff_t width = NAME(block_width)(d, block), vectors = d->dot ? 1 : width / LANES;
    const ptrdiff_t channels = d->groups * d->to;
    const ptrdiff_t k = d->dot ? NAME(block_first)(d, block) : NAME(vector_start)(2 * block, d->to);
    const ptrdiff_t k2 = NAME(vector_start)(2 * block + 1, d->to);
    const ptrdiff_t count = d->flat ? (last - first) * x->count : x->count;
    const int merged = NAME(is_merged)(d, x);
    NAME(tile) t = {0};
    t.bias = p->bias ? (const REAL *)p->bias + group * d->to + k : NULL;
    t.row = y->tap_step * row;
    t.columns = merged ? 1 : x->taps;
    t.column = x->tap_step * pixel;
    t.run = merged ? x->taps * d->from : d->from;
    t.second = k2 - k;
    t.lanes = d->to < LANES ? d->to : LANES;
    t.relu = p->relu;
    t.stream = d->large && NAME(begins_a_line)(p->out);
    in += (y->in0 - d->low_y) * row + (x->in0 - d->low_x) * pixel;
    const ptrdiff_t tap_row = NAME(phase_row)(d, x) * width;
    const ptrdiff_t x_row = d->step_y * row, y_row = y->out_step * d->ow * channels;
    const ptrdiff_t x_step = x->in_step * pixel, y_step = x->out_step * channels;
    const NAME(cut) cut = NAME(cut_row)(vectors, count);
    const int narrow = !d->flat && x->count * vectors < NAME(NARROW), empty = !y->taps || !x->taps;
    const int together = !d->flat && !d->dot && cut.tiles <= 2;
    for (ptrdiff_t r = first, rows; r < (d->flat ? first + 1 : last); r += rows) {
        /* Kernel rows in the padding above or below the image would only add zeros: they are left out. */
        ptrdiff_t i0;
        const ptrdiff_t i1 = NAME(taps_inside)(y, r, d->ih, &i0);
        t.rows = x->taps && i1 > i0 ? i1 - i0 : 0;
        if (!t.rows) i0 = 0;
        t.w = filters + i0 * tap_row;
        const REAL *const from = in + (r - first) * x_row + i0 * t.row;
        REAL *const to = out + ((y->out0 + r * y->out_step) * d->ow + x->out0) * channels + group * d->to + k;
        t.x = from, t.y = to;
        t.x_step = x_step, t.y_step = y_step;
        rows = 1;
        if (empty)
            rows = last - r;
        else if (t.rows == y->taps && (narrow || together))
            rows = NAME(rows_inside)(y, r, last, d->ih);
        if (narrow && rows > x->count) { /* tiles go down, through the rows that see the whole kernel */
            const NAME(cut) column = NAME(cut_row)(vectors, rows);
            t.x_step = x_row, t.y_step = y_row;
            for (ptrdiff_t s = 0; s < x->count; s++) {
                t.x = from + s * x_step, t.y = to + s * y_step;
                if (d->dot)
                    NAME(direct_dots)(p, &t, width, rows);
                else
                    NAME(tile_row)(&t, vectors, column);
            }
        } else if (together && rows > 1) {
            t.x_next = x_row, t.y_next = y_row;
            NAME(tile_rows)(&t, vectors, cut, rows);
        } else {
            rows = 1;
            if (d->dot)
                NAME(direct_dots)(p, &t, width, count);
            else
                NAME(tile_row)(&t, vectors, cut);
        }
    }
}

static void NAME(direct_run)(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) {
    const NAME(direct) *d = (const void *)p->own;
    if (stage == 0) {
        NAME(pack_filters)(p, item, shared);
        return;
    }
    const ptrdiff_t split = item % d->splits, part = item / d->splits;
    const ptrdiff_t group = part % d->groups, rest = part / d->groups;
    const ptrdiff_t first = rest % d->row_blocks * d->rows, image = rest / d->row_blocks;
    const ptrdiff_t channels = d->groups * d->from;
    const REAL *in = (const REAL *)p->a + image * d->ih * d->iw * channels;
    REAL *out = (REAL *)p->out + image * d->oh * d->ow * d->groups * d->to;
    const ptrdiff_t region = d->copied ? round_up(NAME(region_pixels)(d) * d->from, LANES) : 0;
    ptrdiff_t row, pixel;
    if (d->copied) {
        const ptrdiff_t columns = NAME(region_columns)(d);
        NAME(copy_columns)(scratch, in, d->ih, d->iw, channels, d->low_y + first * d->step_y,
                           NAME(region_rows)(d), d->low_x, d->every, columns, group * d->from, d->from);
        in = scratch;
        pixel = d->from;
        row = columns * pixel;
    } else {
        pixel = channels;
        row = d->iw * channels;
        const ptrdiff_t y = d->low_y + first * d->step_y, inside = max_of(y, 0);
        /* A tile reads a few numbers of each of several pixels, and a group's items read parts of the same
           rows. From memory, both are slow: so the rows are read beforehand, in their order in memory. */
        if (d->fetched && group == 0 && split == 0)
            NAME(touch)(in + inside * row, (min_of(y + NAME(region_rows)(d), d->ih) - inside) * row);
        in += y * row + d->low_x * pixel + group * d->from;
    }
    for (ptrdiff_t block = split * d->blocks / d->splits; block < (split + 1) * d->blocks / d->splits;
         block++) {
        const REAL *filters =
            (const REAL *)shared + (group * d->width + NAME(block_first)(d, block)) * d->size;
        for (ptrdiff_t a = 0; a < d->phases_y; a++) {
            const NAME(axis) y = NAME(direct_y)(p, a);
            const ptrdiff_t last = first + d->rows < y.count ? first + d->rows : y.count;
            for (ptrdiff_t b = 0; b < d->phases_x; b++) {
                const NAME(axis) x = NAME(direct_x)(p, b);
                if (d->inside)
                    NAME(inside_rows)(p, &y, &x, first, last, in, row, pixel, filters, group, block, out,
                                      (REAL *)scratch + region);
                else
                    NAME(direct_rows)(p, &y, &x, first, last, in, row, pixel, filters, group, block, out);
                filters += NAME(phase_size)(d, &y, &x) * NAME(block_width)(d, block);
            }
        }
    }
    if (d->large) NAME(fence)();
}

/* Returns the packed numbers of one filter; *adds becomes the vector multiply-adds for all results of one
   image and group. dot.h takes about 13 more to add up the lanes of a sum, and with one filter it waits for
   loads that cross cache lines. */
static ptrdiff_t NAME(direct_size)(const plan *p, double *adds) {
    const NAME(direct) *d = (const void *)p->own;
    const double loads = d->to == 1 && d->from % LANES ? 1.8 : 1;
    ptrdiff_t size = 0, rows = 0;
    *adds = 0;
    for (ptrdiff_t a = 0; a < d->phases_y; a++) {
        const NAME(axis) y = NAME(direct_y)(p, a);
        rows += y.count * y.taps;
        for (ptrdiff_t b = 0; b < d->phases_x; b++) {
            const NAME(axis) x = NAME(direct_x)(p, b);
            const ptrdiff_t phase = NAME(phase_size)(d, &y, &x);
            size += phase;
            *adds +=
                (double)(y.count * x.count) * (d->dot ? (double)d->to * ((double)(phase / LANES) * loads + 13)
                                                      : (double)(phase * d->vectors));
        }
    }
    const double images = (double)p->g.n / (double)d->n; /* images that count as one */
    if (rows) *adds *= images * (double)NAME(row_pairs)(&p->g) / (double)rows;
    return size;
}

/* Whether the kernel sees one row at a time, without padding above and below: then all images are one high
 * image. */
INLINE int NAME(row_by_row)(const conv *g) {
    return g->kh == 1 && g->sh == 1 && g->pt == 0 && g->pb == 0;
}

static void NAME(stack_images)(const conv *g, NAME(direct) * d) {
    if (!NAME(row_by_row)(g)) return;
    d->ih *= d->n, d->oh *= d->n;
    d->n = 1;
}

/* Whether some kernel column of some result lies outside the input; pads_rows: some kernel row. */
INLINE int NAME(pads_columns)(const NAME(direct) * d) {
    return d->low_x < 0 || d->low_x + NAME(region_columns)(d) > d->iw;
}

INLINE int NAME(pads_rows)(const NAME(direct) * d) {
    return d->low_y < 0 || (d->results - 1) * d->step_y + d->high_y >= d->ih;
}

/* Sets the rows of an item: as many as keep its input of `channels` channels in half of a small L2 cache, or
   fewer where that leaves few items. `parts` items share each of the rows. */
static void NAME(direct_blocks)(NAME(direct) * d, ptrdiff_t channels, ptrdiff_t parts) {
    const ptrdiff_t line = NAME(region_columns)(d) * channels * (ptrdiff_t)sizeof(REAL);
    const ptrdiff_t fit = ((128 << 10) / line - (d->high_y - d->low_y)) / d->step_y;
    const ptrdiff_t enough = parts * d->results / 32, least = ceil_div(56, d->columns);
    d->rows = min_of(max_of(min_of(fit, enough), least), d->results);
    d->row_blocks = even_blocks(d->results, &d->rows);
}

/* Sets the first and last input positions that result 0 sees, and the most results of a phase. */
static void NAME(direct_extents)(plan *p) {
    NAME(direct) *d = (void *)p->own;
    int found = 0;
    d->results = 0;
    d->low_y = d->high_y = d->low_x = d->high_x = 0;
    d->columns = 1;
    for (ptrdiff_t a = 0; a < d->phases_y; a++) {
        const NAME(axis) y = NAME(direct_y)(p, a);
        d->results = max_of(y.count, d->results);
        if (!y.taps) continue;
        const ptrdiff_t high = y.in0 + (y.taps - 1) * y.tap_step;
        d->low_y = !found || y.in0 < d->low_y ? y.in0 : d->low_y;
        d->high_y = !found || high > d->high_y ? high : d->high_y;
        found = 1;
    }
    found = 0;
    for (ptrdiff_t b = 0; b < d->phases_x; b++) {
        const NAME(axis) x = NAME(direct_x)(p, b);
        d->columns = x.count > d->columns ? x.count : d->columns;
        if (!x.taps) continue;
        const ptrdiff_t high = x.in0 + (x.taps - 1) * x.tap_step;
        d->low_x = !found || x.in0 < d->low_x ? x.in0 : d->low_x;
        d->high_x = !found || high > d->high_x ? high : d->high_x;
        found = 1;
    }
}

/* The sizes of the pass: what the kernels of this file and of grouped.h share. */
static void NAME(direct_sizes)(plan *p, int grad) {
    const conv *g = &p->g;
    NAME(direct) *d = (void *)p->own;
    _Static_assert(sizeof(NAME(direct)) <= sizeof p->own, "the plan holds the algorithm's numbers");
    *d = (NAME(direct)){.grad = grad, .n = g->n, .groups = g->groups};
    d->ih = grad ? g->oh : g->h, d->iw = grad ? g->ow : g->w, d->from = (grad ? g->k : g->c) / g->groups;
    d->oh = grad ? g->h : g->oh, d->ow = grad ? g->w : g->ow, d->to = (grad ? g->c : g->k) / g->groups;
    d->phases_y = grad ? min_of(g->sh, g->h) : 1, d->phases_x = grad ? min_of(g->sw, g->w) : 1;
    d->every = !grad && g->kw > 1 ? NAME(common_divisor)(g->sw, g->dw) : 1;
    d->step_y = grad ? 1 : g->sh, d->step_x = grad ? 1 : g->sw / d->every;
    NAME(stack_images)(g, d);
    d->large = NAME(is_streamed)(d->n * d->oh * d->ow * d->groups, d->to, 2, d->groups * d->phases_x == 1);
    d->vectors = ceil_div(d->to, LANES);
    NAME(direct_extents)(p);
}

static int NAME(direct_can)(const plan *p, int what) {
    (void)what;
    return !NAME(is_depthwise)(&p->g);
}

/* dot.h cannot do runs shorter than a vector. */
static int NAME(dot_can)(const plan *p, int what) {
    const conv *g = &p->g;
    const ptrdiff_t from = (what ? g->k : g->c) / g->groups;
    const ptrdiff_t every = !what && g->kw > 1 ? NAME(common_divisor)(g->sw, g->dw) : 1;
    for (ptrdiff_t b = 0; b < (what ? min_of(g->sw, g->w) : 1); b++) {
        const NAME(axis) x = NAME(axis_across)(g, what, what ? g->w : g->ow, b);
        if (x.taps && (x.tap_step == every ? x.taps : 1) * from < LANES) return 0;
    }
    return !NAME(is_depthwise)(g);
}

static int NAME(inside_can)(const plan *p, int what) {
    const conv *g = &p->g;
    return (what || g->kw == 1 || NAME(common_divisor)(g->sw, g->dw) == 1) && !NAME(is_depthwise)(g);
}

/* The plan of a kernel that the tile's loops run: with the tile of dot.h, or by direct_inside.h. */
static void NAME(direct_plan)(plan *p, int grad, int dot, int inside) {
    NAME(direct) *d = (void *)p->own;
    const ptrdiff_t size = sizeof(REAL);
    double adds;
    NAME(direct_sizes)(p, grad);
    d->dot = dot, d->inside = inside;
    /* dot.h makes runs of whole vectors: one vector for each column would cost more than one for several. */
    d->alone = d->groups > 1 && d->every == 1 && !NAME(pads_columns)(d) &&
               !(d->dot && d->from < 4 * LANES && d->from % LANES);
    d->size = NAME(direct_size)(p, &adds);
    if (d->dot) adds *= 1.2;
    d->blocks = d->dot ? (d->to + 3) / 4 : (d->vectors + 1) / 2;
    d->width = d->dot ? d->to : d->vectors * LANES;
    d->copied =
        (d->groups > 1 && p->g.kw > 1 && !d->alone) || d->every > 1 || (!d->inside && NAME(pads_columns)(d));
    const int most = d->grad || p->g.kh == 1 || NAME(common_divisor)(p->g.sh, p->g.dh) <= 2;
    d->fetched = !d->copied && most && d->step_y <= d->high_y - d->low_y + 1 &&
                 d->n * d->ih * d->iw * d->groups * d->from * size > FETCHED;
    d->in_order = d->fetched && d->dot && d->to <= 2 && d->from >= 4 * LANES && p->g.kh * p->g.kw == 1;
    if (d->in_order) d->fetched = 0;
    d->flat = p->g.kw == 1 && p->g.sh == 1 && p->g.sw == 1 && NAME(region_columns)(d) == d->iw &&
              !d->copied && !NAME(pads_rows)(d);
    NAME(direct_blocks)(d, d->copied ? d->from : d->groups * d->from, d->n * d->groups);
    const ptrdiff_t items = d->n * d->row_blocks * d->groups;
    d->splits = items >= 16 ? 1 : (16 + items - 1) / items;
    d->splits = d->splits > d->blocks ? d->blocks : d->splits;

    p->stages = 2;
    p->prepared = 1;
    p->items[0] = d->groups * d->blocks;
    p->items[1] = items * d->splits;
    p->shared_bytes = (size_t)(d->groups * d->width * d->size * size);
    p->scratch_bytes = d->copied ? (size_t)round_up(NAME(region_pixels)(d) * d->from * size, 64) : 0;
    if (d->inside) p->scratch_bytes += (size_t)(d->columns * 2 * VECTOR_BYTES);
    p->cycles = cost_direct((double)(d->n * d->groups) * adds);
    const double across = d->inside ? NAME(columns_cycles)(p, 0) : 0;
    if (across > 0) p->cycles *= NAME(columns_cycles)(p, 1) / across;
}

static void NAME(tile_plan)(plan *p, int what) {
    NAME(direct_plan)(p, what, 0, 0);
}

static void NAME(dot_plan)(plan *p, int what) {
    NAME(direct_plan)(p, what, 1, 0);
}

static void NAME(inside_plan)(plan *p, int what) {
    NAME(direct_plan)(p, what, 0, 1);
}
