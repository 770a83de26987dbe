/* winograd_1d_many_conv.h: equation (5), forward and input gradient, for many pairs (i, c): at each point a
   product of matrices.

       M[point][tile][filter] = sum over i, c  V[point][tile + i * across][c] U[point][i, c][filter] (7)

   Stage 0, an item: U of one vector of filters and kernel row, as [panel][point][i][c][filters of the panel].
   Stage 1, an item: a block of result rows of one image and some of the panels. V and M stay in the L2 cache
   unless rows are long or the kernel is tall. Sums are made in parts, for two reasons: a part of U stays in
   the L1 cache while the tiles pass, and (5) magnifies the rounding of a sum about sixfold. */

enum { NAME(MANY_CONV_BYTES) = 384 << 10 }; /* V and M of an item, but at least two rows of products */

/* First vector of a panel (panel_start); numbers of U before the panel, and of the panel at one point. */
INLINE ptrdiff_t NAME(panel_start)(const NAME(rowwise) * d, ptrdiff_t panel) {
    return even_cut(d->vectors, NAME(panels_of)(d->vectors), panel);
}

INLINE ptrdiff_t NAME(panel_offset)(const plan *p, const NAME(rowwise) * d, ptrdiff_t panel) {
    return 8 * (p->g.kh * d->from * NAME(panel_start)(d, panel) * LANES + panel * PAD);
}

INLINE ptrdiff_t NAME(panel_point)(const plan *p, const NAME(rowwise) * d, ptrdiff_t width) {
    return p->g.kh * d->from * width * LANES + PAD;
}

static void NAME(many_filters)(const plan *p, ptrdiff_t v, ptrdiff_t i, REAL *shared) {
    const NAME(rowwise) *d = (const void *)p->own;
    ptrdiff_t panel = 0;
    while (NAME(panel_start)(d, panel + 1) <= v) panel++;
    const ptrdiff_t start = NAME(panel_start)(d, panel), width = NAME(panel_start)(d, panel + 1) - start;
    const ptrdiff_t point = NAME(panel_point)(p, d, width), row = width * LANES;
    REAL *to = shared + NAME(panel_offset)(p, d, panel) + i * d->from * row + (v - start) * LANES;
    for (ptrdiff_t c = 0; c < d->from; c++, to += row) {
        vec points[8];
        NAME(filter_points)(p, v, i, c, points);
        for (int q = 0; q < 8; q++) *(vec *)(to + q * point) = points[q];
    }
}

/* M at one point, for one panel: tiles x width vectors. */
static void NAME(many_products)(const plan *p, ptrdiff_t tiles, ptrdiff_t width, const REAL *v, const REAL *u,
                                REAL *m) {
    const NAME(rowwise) *d = (const void *)p->own;
    const ptrdiff_t kh = p->g.kh, from = d->from, row = width * LANES, cuts = ceil_div(tiles, PRODUCT_ROWS);
    const ptrdiff_t parts = ceil_div(from, SUM_CHANNELS), rows = max_of(SUM_CHANNELS / from, 1);
    NAME(product)
    t = {.scalar_step = 1, .vector_row = row, .to_row = row};
    for (int r = 0; r < PRODUCT_ROWS; r++) t.scalar_row[r] = r * from;
    for (ptrdiff_t i = 0; i < kh; i += rows)
        for (ptrdiff_t part = 0; part < parts; part++, t.add = 1) {
            const ptrdiff_t c = even_cut(from, parts, part);
            t.length = even_cut(from, parts, part + 1) - c;
            t.more_runs = min_of(rows, kh - i) - 1, t.skip = d->across * from - t.length;
            t.vectors = u + (i * from + c) * row;
            for (ptrdiff_t cut = 0; cut < cuts; cut++) {
                const ptrdiff_t first = even_cut(tiles, cuts, cut);
                t.scalars = v + (i * d->across + first) * from + c;
                t.to = m + first * row;
                NAME(products)[width - 1][even_cut(tiles, cuts, cut + 1) - first - 1](&t);
            }
        }
}

/* A' M, with bias and ReLU, to `rows` result rows at y; vector `start` is the first of its filters. */
INLINE void NAME(tile_outputs)(const plan *p, const REAL *m, ptrdiff_t point, ptrdiff_t rows, ptrdiff_t start,
                               ptrdiff_t width, REAL *y, int stream, const int M) {
    const NAME(rowwise) *d = (const void *)p->own;
    const ptrdiff_t pixel = d->to;
    const vec least = (p->relu ? 0 : -(REAL)INFINITY) - (vec){0};
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t s = 0; s < d->ow; s += M) {
            const ptrdiff_t count = min_of(M, d->ow - s);
            for (ptrdiff_t v = 0; v < width; v++, m += LANES) {
                const ptrdiff_t k = NAME(vector_start)(start + v, pixel);
                vec sums[8], part[4], out[6];
                UNROLL
                for (int q = 0; q < 8; q++) sums[q] = *(const vec *)(m + q * point);
                NAME(first_half)(sums, part, M);
                if (p->bias) {
                    const vec bias = NAME(load)((const REAL *)p->bias + k);
                    UNROLL
                    for (int q = 0; q < 4; q++) part[q] += bias;
                }
                NAME(last_half)(part, sums + 4, out, M);
                UNROLL
                for (int j = 0; j < M; j++) {
                    if (j >= count) break;
                    const vec result = NAME(select)(out[j] < least, least, out[j]); /* NaN stays NaN */
                    if (stream)
                        NAME(stream)(y + k + j * pixel, result);
                    else
                        NAME(store)(y + k + j * pixel, result);
                }
            }
            y += count * pixel;
        }
}

static void NAME(many_outputs)(const plan *p, const REAL *m, ptrdiff_t point, ptrdiff_t rows, ptrdiff_t start,
                               ptrdiff_t width, REAL *y) {
    const NAME(rowwise) *d = (const void *)p->own;
    const int stream = d->large && NAME(begins_a_line)(p->out);
    if (d->m == 4) NAME(tile_outputs)(p, m, point, rows, start, width, y, stream, 4);
    if (d->m == 5) NAME(tile_outputs)(p, m, point, rows, start, width, y, stream, 5);
    if (d->m == 6) NAME(tile_outputs)(p, m, point, rows, start, width, y, stream, 6);
    if (stream) NAME(fence)();
}

static void NAME(many_conv_run)(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) {
    const NAME(rowwise) *d = (const void *)p->own;
    const ptrdiff_t kh = p->g.kh;
    if (stage == 0) {
        if (item < d->items)
            NAME(many_filters)(p, item / kh, item % kh, shared);
        else
            NAME(guard_filters)(p, item, shared);
        return;
    }
    const ptrdiff_t panels = NAME(panels_of)(d->vectors), split = item % d->splits;
    const ptrdiff_t image = item / d->splits / d->row_blocks;
    NAME(row_block) b = {.image = image, .channels = d->from};
    b.row = item / d->splits % d->row_blocks * d->rows, b.rows = min_of(d->rows, d->oh - b.row);
    REAL *const v = scratch, *const m = v + 8 * d->v_point, *const line = m + 8 * d->w_point;
    const ptrdiff_t above = b.row * d->across, below = (b.row + b.rows) * d->across;
    if (p->guarded) NAME(guard_pixels)(p, 0, image, above, below, 0, scratch);
    NAME(many_inputs)(d, &b, p->a, kh, v, line);
    REAL *const y = (REAL *)p->out + (image * d->oh + b.row) * d->ow * d->to;
    const ptrdiff_t end = even_cut(panels, d->splits, split + 1);
    for (ptrdiff_t panel = even_cut(panels, d->splits, split); panel < end; panel++) {
        const ptrdiff_t start = NAME(panel_start)(d, panel), width = NAME(panel_start)(d, panel + 1) - start;
        const REAL *const u = (const REAL *)shared + NAME(panel_offset)(p, d, panel);
        for (ptrdiff_t point = 0; point < 8; point++)
            NAME(many_products)(p, b.rows * d->across, width, v + point * d->v_point,
                                u + point * NAME(panel_point)(p, d, width), m + point * d->w_point);
        NAME(many_outputs)(p, m, d->w_point, b.rows, start, width, y);
    }
    if (p->guarded) {
        const ptrdiff_t first = NAME(panel_start)(d, even_cut(panels, d->splits, split));
        NAME(guard_tiles)(p, 0, image, above, below, first, NAME(panel_start)(d, end) - first, 0, shared,
                          scratch);
    }
}

static void NAME(many_conv_plan)(plan *p, int what) {
    const conv *g = &p->g;
    NAME(rowwise) *d = (void *)p->own;
    _Static_assert(sizeof(NAME(rowwise)) <= sizeof p->own, "the plan holds the algorithm's numbers");
    NAME(rowwise_sizes)(g, d, what);
    d->large = NAME(is_streamed)(g->n * d->oh * d->ow, d->to, PRODUCT_VECTORS, 1);
    const ptrdiff_t size = sizeof(REAL), panels = NAME(panels_of)(d->vectors);
    const ptrdiff_t v_row = d->across * d->from, m_row = d->across * PRODUCT_VECTORS * LANES;
    const ptrdiff_t fit = (NAME(MANY_CONV_BYTES) / (8 * size) - (g->kh - 1) * v_row) / (v_row + m_row);
    const ptrdiff_t fair = ceil_div(g->n * d->oh, MIN_BLOCKS), least = ceil_div(2 * PRODUCT_ROWS, d->across);
    NAME(cut_rows)(d, g->kh, max_of(min_of(fit, fair), least));
    d->splits = min_of(ceil_div(MIN_BLOCKS, g->n * d->row_blocks), panels);
    d->v_point = round_up((d->rows + g->kh - 1) * v_row + LANES, LANES) + PAD;
    d->w_point = d->rows * m_row + PAD;
    const ptrdiff_t filters = d->vectors * g->kh * d->from;
    p->stages = 2;
    p->prepared = 1;
    p->items[0] = d->vectors * g->kh;
    p->items[1] = g->n * d->row_blocks * d->splits;
    p->shared_bytes = (size_t)(8 * (filters * LANES + panels * PAD) * size);
    p->scratch_bytes = (size_t)(round_up(8 * (d->v_point + d->w_point) + d->line + LANES, LANES) * size);
    const double rows = (double)(g->n * (d->oh + d->row_blocks * (g->kh - 1)));
    const double tiles = (double)(g->n * d->oh * d->across);
    p->cycles = cost_winograd_1d_many(
        tiles * (double)filters,
        rows * (double)(d->splits * d->across * d->pieces * ceil_div(d->channels, LANES)),
        tiles * (double)d->vectors, (double)d->m, (double)filters);
    NAME(rowwise_guard)(p);
}
