/* winograd_conv.h: forward and input gradient in two stages; included once per TILE.

   Tiles are done in blocks, so that V and M of a block stay in the L2 cache between transform and product.
   There are two orders; the larger of the two arrays decides:

       U shared    stage 0: U of all filters
                   stage 1, an item is a block of tiles: V, then for each panel M and Y
       V shared    stage 0: V of all tiles, in blocks
                   stage 1, an item is a panel of filters: U, then for each block M and Y

   The second is for many channels over few pixels, where U (4 times the weights) would be the largest array
   of all and go to memory and back. Here it stays in the cache of the core that made it. If there are few
   tiles, only some channels of U are made at a time, so that M stays beside it. If U is kept for other runs
   (p->keep), it is made in a stage of its own, before the two, in the same parts: the sums are the same.

   U[panel][part of c][point][c][filters of the panel]
   V[block][point][tile][c]
   M[point][tile][filters of the panel]

   There are PAD numbers between points. A transform touches all points at once; without PAD they would often
   be a power of two apart, and so all in one set of the cache.
*/

typedef struct TILED(panel) {
    ptrdiff_t group, start, width; /* its first vector of output channels, and how many */
    ptrdiff_t offset, u_point;     /* in U: where the panel begins, and the distance between points */
} TILED(panel);

INLINE TILED(panel) TILED(panel_of)(const winograd_conv *w, ptrdiff_t group, ptrdiff_t panel) {
    const ptrdiff_t start = even_cut(w->vectors, w->panels, panel);
    const ptrdiff_t width = even_cut(w->vectors, w->panels, panel + 1) - start;
    const ptrdiff_t vectors = group * w->vectors + start, panels = group * w->panels + panel;
    const ptrdiff_t before = w->u_channels * vectors * LANES + panels * PAD;
    return (TILED(panel)){group, start, width, w->u_parts * POINTS * POINTS * before,
                          w->u_channels * width * LANES + PAD};
}

/* V of `count` tiles from tile `first` on. While one tile is transformed, the next one's pixels are
   prefetched: tiles read short runs of several rows, which no hardware prefetcher foresees. */
static void TILED(make_inputs)(const plan *p, ptrdiff_t group, ptrdiff_t first, ptrdiff_t count, REAL *v,
                               const REAL *zeros) {
    const winograd_conv *w = (const winograd_conv *)p->own;
    const REAL *x = p->a;
    const winograd_images images = {x + group * w->c, x + w->t.n * w->t.h * w->t.w * w->t.channels};
    TILED(patch) patch, next = {0};
    TILED(locate_inputs)(&next, &w->t, images, first, zeros);
    for (ptrdiff_t i = 0; i < count; i++) {
        patch = next;
        if (i + 1 < count) {
            TILED(locate_inputs)(&next, &w->t, images, first + i + 1, zeros);
            TILED(prefetch)(&next, POINTS, w->v_row);
        }
        for (ptrdiff_t c = 0; c < w->v_row; c += LANES)
            TILED(transform_inputs)(&patch, c, v + i * w->v_row + c, w->v_point);
    }
}

/* U of a panel, for input channels c0 ... end - 1; the first of them goes to u. */
static void TILED(make_filters)(const plan *p, TILED(panel) panel, ptrdiff_t c0, ptrdiff_t end, REAL *u) {
    const winograd_conv *w = (const winograd_conv *)p->own;
    const ptrdiff_t row = panel.width * LANES;
    for (ptrdiff_t c = c0; c < end; c += LANES)
        for (ptrdiff_t j = 0; j < panel.width; j++) {
            vec taps[LANES][9];
            NAME(gather_taps)(p, w, panel.group, c, (panel.start + j) * LANES, taps);
            for (ptrdiff_t i = 0; i < LANES && c + i < end; i++)
                TILED(transform_filters)(taps[i], u + (c - c0 + i) * row + j * LANES, panel.u_point);
        }
}

typedef struct TILED(target) {
    REAL *pixel;            /* the first pixel of a tile of the result */
    ptrdiff_t down, across; /* pixels of the tile inside the image */
} TILED(target);

INLINE TILED(target) TILED(target_of)(const plan *p, ptrdiff_t tile, ptrdiff_t channel) {
    const winograd_tiling *t = &((const winograd_conv *)p->own)->t;
    const winograd_place at = place_of(t, tile);
    const ptrdiff_t y = at.row * TILE, x = at.column * TILE;
    return (TILED(target)){(REAL *)p->out + ((at.image * t->oh + y) * t->ow + x) * t->out_channels + channel,
                           min_of(TILE, t->oh - y), min_of(TILE, t->ow - x)};
}

/* Transforms M to pixels, for a block of tiles and a panel of filters, with bias and ReLU. The next tile's
   pixels are prefetched: a store that misses the caches waits for its line as a load does, and stores wait
   for one another. */
static void TILED(write_outputs)(const plan *p, TILED(panel) panel, ptrdiff_t first, ptrdiff_t count,
                                 const REAL *m) {
    const winograd_conv *w = (const winograd_conv *)p->own;
    const ptrdiff_t pixel = w->t.out_channels, line = w->t.ow * pixel;
    const ptrdiff_t channel = panel.group * w->k + panel.start * LANES;
    const ptrdiff_t channels = min_of(panel.width * LANES, w->k - panel.start * LANES);
    TILED(target) to, next = TILED(target_of)(p, first, channel);
    for (ptrdiff_t i = 0; i < count; i++) {
        to = next;
        if (i + 1 < count) {
            next = TILED(target_of)(p, first + i + 1, channel);
            for (ptrdiff_t r = 0; r < next.down; r++)
                for (ptrdiff_t s = 0; s < next.across; s++)
                    for (ptrdiff_t k = 0; k < channels; k += LANES)
                        __builtin_prefetch(next.pixel + r * line + s * pixel + k, 1);
        }
        for (ptrdiff_t k = 0; k < channels; k += LANES) {
            const ptrdiff_t lanes = min_of(LANES, channels - k);
            vec y[TILE][TILE], bias = {0};
            if (p->bias) bias = NAME(load_lanes)((const REAL *)p->bias + channel + k, lanes);
            TILED(transform_outputs)(m + i * panel.width * LANES + k, count * panel.width * LANES + PAD, y);
            for (ptrdiff_t r = 0; r < to.down; r++)
                for (ptrdiff_t s = 0; s < to.across; s++) {
                    const vec result = y[r][s] + bias;
                    NAME(store_lanes)(to.pixel + r * line + s * pixel + k,
                                      p->relu ? NAME(positive)(result) : result, lanes);
                }
        }
    }
}

/* M of one block of `count` tiles and one panel of filters: the share of `channels` input channels, whose V
   and U are given. With `add` it is added to what M holds. */
static void TILED(multiply)(const plan *p, TILED(panel) panel, ptrdiff_t count, ptrdiff_t channels,
                            const REAL *v, const REAL *u, int add, REAL *m) {
    const winograd_conv *w = (const winograd_conv *)p->own;
    for (ptrdiff_t point = 0; point < POINTS * POINTS; point++)
        NAME(multiply_point)(count, channels, panel.width, v + point * w->v_point, w->v_row,
                             u + point * panel.u_point, add, m + point * (count * panel.width * LANES + PAD));
}

/* Guards tiles first ... first + count - 1 of all images, for some vectors of output channels: sums their
   pixels and looks at what is written, or one of the two. */
static void TILED(guard)(const plan *p, ptrdiff_t group, ptrdiff_t first, ptrdiff_t count, ptrdiff_t vector,
                         ptrdiff_t vectors, int sum, int look, const REAL *shared, REAL *scratch) {
    const winograd_tiling *t = &((const winograd_conv *)p->own)->t;
    const ptrdiff_t each = t->down * t->across, end = first + count;
    for (ptrdiff_t tile = first, next, row = 0; tile < end; tile = next) {
        const ptrdiff_t image = tile / each, start = image * each, begun = row;
        next = min_of(start + each, end);
        if (sum) row = NAME(guard_pixels)(p, group, image, tile - start, next - start, begun, scratch);
        if (look)
            row = NAME(guard_tiles)(p, group, image, tile - start, next - start, vector, vectors, begun,
                                    shared, scratch);
        if (sum && look) row = 0; /* the sums are not needed again */
    }
}

static void TILED(run_filters_shared)(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) {
    const winograd_conv *w = (const winograd_conv *)p->own;
    REAL *zeros = scratch, *v = zeros + w->v_row, *m = v + POINTS * POINTS * w->v_point;
    if (stage == 0 && item >= w->items) {
        NAME(guard_filters)(p, item, shared);
        return;
    }
    if (stage == 0) {
        const ptrdiff_t c = item % w->chunks * w->chunk, all = item / w->chunks;
        const TILED(panel) panel = TILED(panel_of)(w, all / w->panels, all % w->panels);
        TILED(make_filters)(p, panel, c, min_of(c + w->chunk, w->c),
                            (REAL *)shared + panel.offset + c * panel.width * LANES);
        return;
    }
    const ptrdiff_t group = item / w->blocks, block = item % w->blocks, first = block * w->block;
    const ptrdiff_t count = min_of(w->block, w->t.tiles - first);
    memset(zeros, 0, w->v_row * sizeof(REAL));
    if (p->guarded) TILED(guard)(p, group, first, count, 0, 0, 1, 0, shared, scratch);
    TILED(make_inputs)(p, group, first, count, v, zeros);
    for (ptrdiff_t i = 0; i < w->panels; i++) {
        const TILED(panel) panel = TILED(panel_of)(w, group, i);
        TILED(multiply)(p, panel, count, w->c, v, (REAL *)shared + panel.offset, 0, m);
        TILED(write_outputs)(p, panel, first, count, m);
    }
    if (p->guarded) TILED(guard)(p, group, first, count, 0, w->vectors, 0, 1, shared, scratch);
}

static void TILED(run_inputs_shared)(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) {
    const winograd_conv *w = (const winograd_conv *)p->own;
    const ptrdiff_t points = POINTS * POINTS, v_block = points * w->v_point;
    REAL *const inputs = (REAL *)shared + w->u_kept;
    if (stage == 0 && item >= w->items) {
        NAME(guard_filters)(p, item, shared);
        return;
    }
    if (p->keep && stage == 0) {
        const ptrdiff_t part = item % w->u_parts, all = item / w->u_parts, c = part * w->u_channels;
        const TILED(panel) panel = TILED(panel_of)(w, all / w->panels, all % w->panels);
        TILED(make_filters)(p, panel, c, min_of(c + w->u_channels, w->c),
                            (REAL *)shared + panel.offset + part * points * panel.u_point);
        return;
    }
    if (stage < p->stages - 1) {
        const ptrdiff_t group = item / w->blocks, first = item % w->blocks * w->block;
        REAL *zeros = scratch;
        memset(zeros, 0, w->v_row * sizeof(REAL));
        TILED(make_inputs)(p, group, first, min_of(w->block, w->t.tiles - first), inputs + item * v_block,
                           zeros);
        return;
    }
    const TILED(panel) panel = TILED(panel_of)(w, item / w->panels, item % w->panels);
    const REAL *v = inputs + panel.group * w->blocks * v_block;
    REAL *u = p->keep ? (REAL *)shared + panel.offset : scratch, *const m = (REAL *)scratch + w->u_made;
    for (ptrdiff_t c = 0; c < w->c; c += w->u_channels) { /* one pass, unless there are few tiles */
        const ptrdiff_t end = min_of(c + w->u_channels, w->c);
        if (!p->keep) TILED(make_filters)(p, panel, c, end, u);
        for (ptrdiff_t block = 0; block < w->blocks; block++) {
            const ptrdiff_t first = block * w->block, count = min_of(w->block, w->t.tiles - first);
            TILED(multiply)(p, panel, count, end - c, v + block * v_block + c, u, c > 0, m);
            if (end == w->c) TILED(write_outputs)(p, panel, first, count, m);
        }
        if (p->keep) u += points * panel.u_point;
    }
    if (p->guarded)
        TILED(guard)(p, panel.group, 0, w->t.tiles, panel.start, panel.width, 1, 1, shared, scratch);
}

/* Sets the sizes, and whether U is shared. */
static void TILED(conv_sizes)(const plan *p, int turned, winograd_conv *w) {
    const conv *g = &p->g;
    const ptrdiff_t points = POINTS * POINTS;
    *w = (winograd_conv){.turned = turned};
    if (!turned) {
        w->t = tiling_of(g->n, g->h, g->w, g->c, g->pt, g->pl, g->oh, g->ow, g->k, TILE);
        w->c = g->c / g->groups, w->k = g->k / g->groups;
    } else {
        w->t = tiling_of(g->n, g->oh, g->ow, g->k, 2 - g->pt, 2 - g->pl, g->h, g->w, g->c, TILE);
        w->c = g->k / g->groups, w->k = g->c / g->groups;
    }
    w->vectors = ceil_div(w->k, LANES);
    w->panels = NAME(panels_of)(w->vectors);
    w->v_row = round_up(w->c, LANES);
    w->chunk = min_of(w->c, FILTERS_CHUNK);
    w->u_all = points * (w->c * w->vectors * LANES + w->panels * PAD) * g->groups;
    const ptrdiff_t v_all = points * w->v_row * w->t.tiles * g->groups;
    w->filters_shared = p->reused || w->u_all <= v_all || w->panels * g->groups == 1 ||
                        w->u_all * (ptrdiff_t)sizeof(REAL) <= FILTERS_SHARED_BYTES;
}

/* Either way does every geometry: this is the choice between them. */
static int TILED(shares_filters)(const plan *p, int what) {
    winograd_conv w;
    if (!NAME(winograd_can)(p, what)) return 0;
    TILED(conv_sizes)(p, what, &w);
    return (int)w.filters_shared;
}

static int TILED(shares_inputs)(const plan *p, int what) {
    return NAME(winograd_can)(p, what) && !TILED(shares_filters)(p, what);
}

static void TILED(conv_plan)(plan *p, int what) {
    const conv *g = &p->g;
    winograd_conv *w = (winograd_conv *)p->own;
    const ptrdiff_t points = POINTS * POINTS;
    _Static_assert(sizeof(winograd_conv) <= sizeof p->own, "the plan holds the algorithm's numbers");
    TILED(conv_sizes)(p, what, w);
    const ptrdiff_t bytes =
        points * sizeof(REAL) *
        (w->filters_shared ? w->v_row + PRODUCT_VECTORS * LANES : PRODUCT_VECTORS * LANES / 4);
    w->block = winograd_block(bytes, w->t.tiles, PRODUCT_ROWS, w->filters_shared ? MIN_BLOCKS : 1);
    w->blocks = ceil_div(w->t.tiles, w->block);
    w->v_point = w->block * w->v_row + PAD;
    const int few = !w->filters_shared && w->blocks == 1 && w->t.tiles <= FEW_TILES;
    w->chunks = ceil_div(w->c, w->chunk);
    w->u_channels = few ? min_of(w->c, FILTERS_AT_ONCE) : w->c;
    w->u_parts = ceil_div(w->c, w->u_channels);
    const int kept = p->keep && !w->filters_shared;
    if (kept)
        w->u_kept = w->u_parts * points * (w->u_channels * w->vectors * LANES + w->panels * PAD) * g->groups;
    if (!kept) w->u_made = points * (w->u_channels * PRODUCT_VECTORS * LANES + PAD);

    const ptrdiff_t v_one = points * w->v_point;
    const ptrdiff_t m_one = points * (w->block * PRODUCT_VECTORS * LANES + PAD);
    p->stages = 2;
    p->prepared = (int)w->filters_shared;
    if (w->filters_shared) {
        p->items[0] = g->groups * w->panels * w->chunks;
        p->items[1] = g->groups * w->blocks;
        p->shared_bytes = sizeof(REAL) * w->u_all;
        p->scratch_bytes = sizeof(REAL) * (w->v_row + v_one + m_one);
    } else {
        p->stages += kept, p->prepared = kept;
        p->items[0] = g->groups * w->panels * w->u_parts; /* of the stage that is there if U is kept */
        p->items[kept] = g->groups * w->blocks;
        p->items[kept + 1] = g->groups * w->panels;
        p->shared_bytes = sizeof(REAL) * (w->u_kept + v_one * w->blocks * g->groups);
        p->scratch_bytes = sizeof(REAL) * max_of(w->v_row, w->u_made + m_one);
    }
    p->cycles =
        g->groups * cost_winograd(TILE, (int)w->turned, w->t.tiles, w->c, w->v_row / LANES, w->vectors);
    w->items = p->items[0];
    const winograd_tiling *t = &w->t;
    /* Each image with tiles in an item may begin and end within a row of tiles. */
    const ptrdiff_t images = w->filters_shared ? w->block / (t->down * t->across) + 2 : 1;
    const ptrdiff_t tile_rows = min_of(w->block / t->across + 2 * images, images * t->down);
    const ptrdiff_t band =
        w->filters_shared ? tile_rows * TILE + images * (POINTS - TILE) : t->down * TILE + 2;
    NAME(guard_plan)(p, (NAME(guard)){.turned = w->turned,
                                      .ih = t->h,
                                      .iw = t->w,
                                      .from = t->channels,
                                      .c = w->c,
                                      .top = t->top,
                                      .left = t->left,
                                      .oh = t->oh,
                                      .ow = t->ow,
                                      .to = t->out_channels,
                                      .k = w->k,
                                      .mh = TILE,
                                      .mw = TILE,
                                      .eh = POINTS,
                                      .ew = POINTS,
                                      .band = band});
}
