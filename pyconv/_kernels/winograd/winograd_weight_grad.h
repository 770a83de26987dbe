/* winograd_weight_grad.h: equation (4), in one stage or two; included once per TILE.

   One item owns a block of channels x filters and the tiles of one slice. Tiles are transformed a few at a
   time, so that V and W stay in the cache, and their products are added to S, which stays in the cache too.
   At the end S becomes the gradient of the nine taps. Items with the same tiles transform them again: that
   costs less than keeping V and W of all tiles in memory. How many slices there are depends on the shape
   only, and the second stage adds them in order.

   V[point][tile][c];  W[point][tile][filter];  S[point][c][filter]
*/

/* Channels (or filters) `first` ... `end` - 1 of a group's `size`, one of `cuts` pieces that begin at whole
 * vectors. */
typedef struct TILED(range) {
    ptrdiff_t first, end, row; /* row: their number, rounded up to vectors */
} TILED(range);

INLINE TILED(range) TILED(range_of)(ptrdiff_t size, ptrdiff_t cuts, ptrdiff_t cut) {
    const ptrdiff_t vectors = ceil_div(size, LANES);
    const ptrdiff_t first = even_cut(vectors, cuts, cut) * LANES,
                    end = even_cut(vectors, cuts, cut + 1) * LANES;
    return (TILED(range)){first, min_of(size, end), end - first};
}

/* Where an item's arrays lie in its thread's scratch. */
typedef struct TILED(grad_space) {
    REAL *zeros, *v, *w, *s;
    ptrdiff_t v_point, w_point, s_point;
} TILED(grad_space);

/* V and W of `count` tiles from `first` on, with the next tile's pixels on their way. */
static void TILED(make_grads)(const plan *p, ptrdiff_t group, TILED(range) c, TILED(range) k, ptrdiff_t first,
                              ptrdiff_t count, const TILED(grad_space) * at) {
    const winograd_weight_grad *w = (const winograd_weight_grad *)p->own;
    const winograd_tiling *t = &w->t;
    const REAL *x = p->a, *dy = p->b;
    const winograd_images images = {x + group * w->c + c.first, x + t->n * t->h * t->w * t->channels};
    const winograd_images grads = {dy + group * w->k + k.first, dy + t->n * t->oh * t->ow * t->out_channels};
    TILED(patch) patch, next = {0}, grad, next_grad = {0};
    TILED(locate_inputs)(&next, t, images, first, at->zeros);
    TILED(locate_grads)(&next_grad, t, grads, first, at->zeros);
    for (ptrdiff_t i = 0; i < count; i++) {
        patch = next;
        grad = next_grad;
        if (first + i + 1 < t->tiles) {
            TILED(locate_inputs)(&next, t, images, first + i + 1, at->zeros);
            TILED(prefetch)(&next, POINTS, c.row);
            TILED(locate_grads)(&next_grad, t, grads, first + i + 1, at->zeros);
            TILED(prefetch)(&next_grad, TILE, k.row);
        }
        for (ptrdiff_t j = 0; j < c.row; j += LANES)
            TILED(transform_inputs)(&patch, j, at->v + i * c.row + j, at->v_point);
        for (ptrdiff_t j = 0; j < k.row; j += LANES)
            TILED(transform_grads)(&grad, j, at->w + i * k.row + j, at->w_point);
    }
}

static void TILED(sum_slice)(const plan *p, ptrdiff_t item, REAL *partial, REAL *scratch) {
    const winograd_weight_grad *w = (const winograd_weight_grad *)p->own;
    const ptrdiff_t points = POINTS * POINTS;
    const ptrdiff_t slice = item % w->slices, cut = item / w->slices, group = cut / w->k_cuts / w->c_cuts;
    const TILED(range) c = TILED(range_of)(w->c, w->c_cuts, cut / w->k_cuts % w->c_cuts);
    const TILED(range) k = TILED(range_of)(w->k, w->k_cuts, cut % w->k_cuts);

    TILED(grad_space) at = {.zeros = scratch, .v = scratch + max_of(c.row, k.row)};
    at.v_point = w->block * c.row + PAD;
    at.w_point = w->block * k.row + PAD;
    at.s_point = (c.end - c.first) * k.row + PAD;
    at.w = at.v + points * at.v_point;
    at.s = at.w + points * at.w_point;
    memset(at.zeros, 0, max_of(c.row, k.row) * sizeof(REAL));
    memset(at.s, 0, points * at.s_point * sizeof(REAL));

    const ptrdiff_t end = even_cut(w->t.tiles, w->slices, slice + 1);
    for (ptrdiff_t first = even_cut(w->t.tiles, w->slices, slice); first < end; first += w->block) {
        const ptrdiff_t count = min_of(w->block, end - first);
        TILED(make_grads)(p, group, c, k, first, count, &at);
        for (ptrdiff_t point = 0; point < points; point++)
            NAME(accumulate_point)(count, c.end - c.first, k.row / LANES, at.v + point * at.v_point, c.row,
                                   at.w + point * at.w_point, k.row, at.s + point * at.s_point);
    }

    const ptrdiff_t filters = p->g.k, per_tap = w->c * filters;
    REAL *to = partial + group * w->k + k.first;
    for (ptrdiff_t i = 0; i < c.end - c.first; i++)
        for (ptrdiff_t j = 0; j < k.end - k.first; j += LANES) {
            vec taps[9];
            TILED(transform_sums)(at.s + i * k.row + j, at.s_point, taps);
            for (int tap = 0; tap < 9; tap++)
                NAME(store_lanes)(to + tap * per_tap + (c.first + i) * filters + j, taps[tap],
                                  k.end - k.first - j);
        }
}

static void TILED(run_weight_grad)(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) {
    const winograd_weight_grad *w = (const winograd_weight_grad *)p->own;
    const ptrdiff_t all = 9 * w->c * p->g.k;
    if (stage == 0)
        TILED(sum_slice)(p, item, w->slices == 1 ? p->out : (REAL *)shared + item % w->slices * all, scratch);
    else
        NAME(add_slices)(shared, w->slices, all, even_cut(all, p->items[1], item),
                         even_cut(all, p->items[1], item + 1), p->out);
}

static void TILED(grad_plan)(plan *p, int what) {
    const conv *g = &p->g;
    winograd_weight_grad *w = (winograd_weight_grad *)p->own;
    const ptrdiff_t points = POINTS * POINTS, size = sizeof(REAL);
    _Static_assert(sizeof(winograd_weight_grad) <= sizeof p->own, "the plan holds the algorithm's numbers");
    (void)what;
    *w = (winograd_weight_grad){0};
    w->t = tiling_of(g->n, g->h, g->w, g->c, g->pt, g->pl, g->oh, g->ow, g->k, TILE);
    w->c = g->c / g->groups, w->k = g->k / g->groups;
    const ptrdiff_t c_vectors = ceil_div(w->c, LANES), k_vectors = ceil_div(w->k, LANES);
    w->c_cuts = ceil_div(c_vectors * LANES * size, GRAD_CHANNEL_BYTES);
    w->k_cuts = ceil_div(k_vectors * LANES * size, GRAD_FILTER_BYTES);
    w->block = min_of(GRAD_TILES, w->t.tiles);
    const ptrdiff_t cuts = g->groups * w->c_cuts * w->k_cuts;
    w->slices = min_of(ceil_div(MIN_BLOCKS, cuts), ceil_div(w->t.tiles, w->block));

    const ptrdiff_t c_most = ceil_div(c_vectors, w->c_cuts) * LANES,
                    k_most = ceil_div(k_vectors, w->k_cuts) * LANES;
    const ptrdiff_t all = 9 * w->c * g->k,
                    per_point = w->block * (c_most + k_most) + c_most * k_most + 3 * PAD;
    p->stages = w->slices > 1 ? 2 : 1;
    p->items[0] = cuts * w->slices;
    p->items[1] = ceil_div(all, SUM_ELEMENTS);
    p->shared_bytes = w->slices > 1 ? size * w->slices * all : 0;
    p->scratch_bytes = size * (max_of(c_most, k_most) + points * per_point);
    p->cycles = g->groups * cost_winograd_weight_grad(TILE, w->t.tiles, w->slices, w->c, c_vectors, k_vectors,
                                                      w->c_cuts, w->k_cuts);
}
