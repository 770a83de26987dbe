/* winograd_1d_weight_grad.h: the weight gradient with fewer multiplications along rows, in one stage or two.

       dw[i, c] = G' sum over rows r and tiles  (B' x[r + i, c]) o (A dy[r])                               (6)

   One item owns a block of channels x filters and the rows of one slice, as in winograd_weight_grad.h, and
   takes a few rows of an image at a time. winograd_1d_few_grad.h does few pairs (i, c). For many pairs,
   inputs and errors are transformed to memory; then the sum is a product of matrices at each point. Tiles are
   numbered through from row to row; those of kernel row i are the same tiles, i rows further on:

       S[point][i, c][filter] += sum over q  V[point][q + i * across][c] W[point][q][filter] */

enum {
    NAME(MANY_BYTES) = 192 << 10, /* V and W of an item, in the L2 cache */
    NAME(MANY_SUMS) = 256 << 10,  /* S of an item, there too */
    NAME(MANY_FILTERS) = 256      /* bytes of a pixel's errors in an item: the widest product */
};

/* A y. */
INLINE void NAME(errors_in_all)(const vec *y, vec *w, const int M) {
    vec even = y[0], odd = y[1];
    UNROLL
    for (int j = 2; j < M; j++) {
        if (j % 2)
            odd += y[j];
        else
            even += y[j];
    }
    w[0] = y[0], w[1] = even + odd, w[2] = even - odd, w[3] = y[M - 1];
    UNROLL
    for (int q = 0; q < 2; q++) {
        const REAL point = q ? (REAL)0.5 : 2;
        even = y[(M - 1) & ~1], odd = y[(M - 2) | 1]; /* Horner's scheme in the point's square */
        UNROLL
        for (int j = M - 3; j >= 0; j--) {
            if (j % 2)
                odd = y[j] + point * point * odd;
            else
                even = y[j] + point * point * even;
        }
        w[4 + 2 * q] = even + point * odd, w[5 + 2 * q] = even - point * odd;
    }
}

/* W, [point][row][tile][filter]. */
INLINE void NAME(tile_errors)(const NAME(rowwise) * d, const NAME(row_block) * b, const REAL *dy, REAL *w,
                              const int M) {
    const ptrdiff_t pixel = d->to;
    dy += (b->image * d->oh + b->row) * d->ow * pixel;
    for (ptrdiff_t r = 0; r < b->rows; r++)
        for (ptrdiff_t s = 0; s < d->ow; s += M) {
            const ptrdiff_t count = min_of(M, d->ow - s);
            for (ptrdiff_t v = 0; v < b->vectors; v++, w += LANES) {
                const REAL *from = dy + NAME(vector_start)(b->vector + v, pixel);
                vec y[6], out[8];
                UNROLL
                for (int j = 0; j < M; j++) y[j] = j < count ? NAME(load)(from + j * pixel) : (vec){0};
                NAME(errors_in_all)(y, out, M);
                UNROLL
                for (int j = 0; j < 8; j++) *(vec *)(w + j * d->w_point) = out[j];
            }
            dy += count * pixel;
        }
}

static void NAME(many_errors)(const NAME(rowwise) * d, const NAME(row_block) * b, const REAL *dy, REAL *w) {
    if (d->m == 4) NAME(tile_errors)(d, b, dy, w, 4);
    if (d->m == 5) NAME(tile_errors)(d, b, dy, w, 5);
    if (d->m == 6) NAME(tile_errors)(d, b, dy, w, 6);
}

/* Adds V' W at one point to S. */
static void NAME(add_product)(const NAME(rowwise) * d, const NAME(row_block) * b, ptrdiff_t kh, const REAL *v,
                              const REAL *w, REAL *s) {
    const ptrdiff_t c = b->channels, pairs = kh * c;
    const ptrdiff_t cuts = ceil_div(pairs, PRODUCT_ROWS), panels = NAME(panels_of)(b->vectors);
    NAME(product)
    p = {.scalar_step = c, .vector_row = b->vectors * LANES, .to_row = b->vectors * LANES, .add = 1};
    const ptrdiff_t tiles = b->rows * d->across, parts = ceil_div(tiles, SUM_TILES);
    for (ptrdiff_t cut = 0; cut < cuts; cut++) {
        const ptrdiff_t first = even_cut(pairs, cuts, cut), rows = even_cut(pairs, cuts, cut + 1) - first;
        for (ptrdiff_t r = 0; r < rows; r++)
            p.scalar_row[r] = (first + r) / c * d->across * c + (first + r) % c;
        for (ptrdiff_t panel = 0; panel < panels; panel++) {
            const ptrdiff_t start = even_cut(b->vectors, panels, panel);
            const ptrdiff_t width = even_cut(b->vectors, panels, panel + 1) - start;
            p.to = s + first * p.to_row + start * LANES;
            for (ptrdiff_t part = 0; part < parts; part++) {
                const ptrdiff_t tile = even_cut(tiles, parts, part);
                p.length = even_cut(tiles, parts, part + 1) - tile;
                p.scalars = v + tile * c;
                p.vectors = w + tile * p.vector_row + start * LANES;
                NAME(products)[width - 1][rows - 1](&p);
            }
        }
    }
}

/* G' of the sums of one pair and vector: the first `count` of its taps, `tap` numbers apart. */
INLINE void NAME(rowwise_taps)(const REAL *s, ptrdiff_t point, ptrdiff_t taps, ptrdiff_t count, REAL *to,
                               ptrdiff_t tap) {
    const REAL *const norms = NAME(rowwise_norms);
    vec in[8];
    UNROLL
    for (int q = 0; q < 8; q++) in[q] = *(const vec *)(s + q * point);
    const vec even_1 = (in[1] + in[2]) * norms[1], odd_1 = (in[1] - in[2]) * norms[1];
    const vec even_2 = (in[4] + in[5]) * norms[2], odd_2 = (in[4] - in[5]) * norms[2];
    const vec even_half = (in[6] + in[7]) * norms[3], odd_half = (in[6] - in[7]) * norms[3];
    REAL two = 1, half_power = 1;
    for (ptrdiff_t j = 0; j < count; j++, two *= 2, half_power /= 2) {
        vec sum = j % 2 ? odd_1 + two * odd_2 + half_power * odd_half
                        : even_1 + two * even_2 + half_power * even_half;
        if (j == 0) sum += in[0] * norms[0];
        if (j == taps - 1) sum += in[3];
        NAME(store)(to + j * tap, sum);
    }
}

/* Does the rows of one slice; `to` is the gradient, or the slice's share of it. */
static void NAME(rowwise_slice)(const plan *p, ptrdiff_t item, REAL *to, REAL *scratch) {
    const NAME(rowwise) *d = (const void *)p->own;
    const conv *g = &p->g;
    const ptrdiff_t slice = item % d->slices, cut = item / d->slices;
    const ptrdiff_t c_cut = cut / d->k_cuts, k_cut = cut % d->k_cuts;
    NAME(row_block)
    b = {.c = even_cut(d->from, d->c_cuts, c_cut), .vector = even_cut(d->vectors, d->k_cuts, k_cut)};
    b.channels = even_cut(d->from, d->c_cuts, c_cut + 1) - b.c;
    b.vectors = even_cut(d->vectors, d->k_cuts, k_cut + 1) - b.vector;

    REAL *const s = scratch, *const v = s + 8 * d->s_point, *const w = v + 8 * d->v_point;
    REAL *const line = w + 8 * d->w_point;
    memset(s, 0, (size_t)(8 * d->s_point) * sizeof(REAL));
    const ptrdiff_t blocks = g->n * d->row_blocks, begin = even_cut(blocks, d->slices, slice);
    for (ptrdiff_t block = begin; block < even_cut(blocks, d->slices, slice + 1); block++) {
        b.image = block / d->row_blocks, b.row = block % d->row_blocks * d->rows;
        b.rows = min_of(d->rows, d->oh - b.row);
        if (d->few) {
            NAME(add_few)(p, b.image, b.row, b.rows, b.row == 0 || block == begin, block < blocks - 1, v, s);
            continue;
        }
        NAME(many_inputs)(d, &b, p->a, g->kh, v, line);
        NAME(many_errors)(d, &b, p->b, w);
        for (ptrdiff_t point = 0; point < 8; point++)
            NAME(add_product)(d, &b, g->kh, v + point * d->v_point, w + point * d->w_point,
                              s + point * d->s_point);
    }
    for (ptrdiff_t pair = 0; pair < g->kh * b.channels; pair++) {
        const ptrdiff_t i = pair / b.channels, c = b.c + pair % b.channels;
        const ptrdiff_t piece = c / d->channels, start = NAME(piece_start)(d, piece);
        REAL *const taps = to + ((i * g->kw + start) * d->channels + c % d->channels) * d->to;
        for (ptrdiff_t q = 0; q < b.vectors; q++)
            NAME(rowwise_taps)(s + (pair * b.vectors + q) * LANES, d->s_point, d->taps,
                               NAME(piece_start)(d, piece + 1) - start,
                               taps + NAME(vector_start)(b.vector + q, d->to), d->channels * d->to);
    }
}

static void NAME(rowwise_weight_grad_run)(const plan *p, int stage, ptrdiff_t item, void *shared,
                                          void *scratch) {
    const NAME(rowwise) *d = (const void *)p->own;
    const ptrdiff_t all = p->g.kh * p->g.kw * d->channels * d->to;
    if (stage == 0)
        NAME(rowwise_slice)(p, item, d->slices == 1 ? p->out : (REAL *)shared + item % d->slices * all,
                            scratch);
    else
        NAME(add_slices)(shared, d->slices, all, even_cut(all, p->items[1], item),
                         even_cut(all, p->items[1], item + 1), p->out);
}

/* Sets the sizes for few pairs (few_sizes), or for many; returns the estimate of the work. */
static double NAME(few_sizes)(NAME(rowwise) * d, const conv *g) {
    const ptrdiff_t pairs = g->kh * d->from, lines = max_of(FEW_VECTORS * VECTOR_BYTES, 64);
    d->few = d->c_cuts = d->k_cuts = 1;
    NAME(few_rows)(g, d);
    NAME(cut_rows)(d, g->kh, min_of(d->rows, NAME(FEW_BYTES) / (d->ow * lines)));
    d->s_point = pairs * d->vectors * LANES;
    d->v_point = ceil_div(d->inputs, 8);
    const double rows = (double)(g->n * (d->oh + g->kh - 1));
    const double tiles = (double)(g->n * d->oh * d->across * d->vectors);
    return cost_winograd_1d_few_grad(tiles * (double)pairs, rows * (double)(d->across * d->from),
                                     tiles * (double)ceil_div(pairs, FEW_PAIRS), (double)d->m, REGISTERS);
}

static double NAME(many_sizes)(NAME(rowwise) * d, const conv *g) {
    d->k_cuts = ceil_div(d->vectors * VECTOR_BYTES, NAME(MANY_FILTERS));
    const ptrdiff_t vectors = ceil_div(d->vectors, d->k_cuts);
    d->c_cuts = min_of(ceil_div(8 * g->kh * d->from * vectors * VECTOR_BYTES, NAME(MANY_SUMS)), d->from);
    const ptrdiff_t channels = ceil_div(d->from, d->c_cuts), size = sizeof(REAL);
    const ptrdiff_t v_row = d->across * channels, w_row = d->across * vectors * LANES;
    NAME(cut_rows)(d, g->kh, (NAME(MANY_BYTES) / (8 * size) - (g->kh - 1) * v_row) / (v_row + w_row));
    d->s_point = g->kh * channels * vectors * LANES + PAD;
    d->v_point = round_up((d->rows + g->kh - 1) * v_row + LANES, LANES) + PAD;
    d->w_point = d->rows * w_row + PAD;
    const double pairs = (double)(g->kh * d->from);
    const double rows = (double)(g->n * (d->oh + d->row_blocks * (g->kh - 1)));
    const double tiles = (double)(g->n * d->oh * d->across * d->vectors);
    return cost_winograd_1d_many_grad(
        tiles * pairs,
        rows * (double)(d->across * (d->pieces * ceil_div(d->channels, LANES) + d->c_cuts - 1) * d->k_cuts),
        tiles * (double)d->c_cuts, (double)d->m, (double)(g->n * d->row_blocks * d->vectors) * pairs);
}

/* Whether the tiles of few pairs cost less than those of many: the choice between the two. */
INLINE int NAME(few_grad_pays)(const conv *g) {
    NAME(rowwise) few, many;
    NAME(rowwise_sizes)(g, &few, 0);
    many = few;
    const double cycles = NAME(few_sizes)(&few, g);
    return NAME(many_sizes)(&many, g) >= cycles;
}

static int NAME(few_grad_can)(const plan *p, int what) {
    return NAME(rowwise_can)(p, what) && NAME(few_grad_pays)(&p->g);
}

static int NAME(many_grad_can)(const plan *p, int what) {
    return NAME(rowwise_can)(p, what) && !NAME(few_grad_pays)(&p->g);
}

/* The plan's memory and cycles, once the sizes are known and `cycles` of the tiles. */
static void NAME(rowwise_grad_plan)(plan *p, double cycles) {
    const conv *g = &p->g;
    NAME(rowwise) *d = (void *)p->own;
    const ptrdiff_t all = g->kh * g->kw * d->channels * d->to, cuts = d->c_cuts * d->k_cuts;
    const ptrdiff_t size = sizeof(REAL);
    d->slices = min_of(ceil_div(MIN_BLOCKS, cuts), g->n * d->row_blocks);
    p->stages = d->slices > 1 ? 2 : 1;
    p->items[0] = cuts * d->slices;
    p->items[1] = ceil_div(all, SUM_ELEMENTS);
    p->shared_bytes = (size_t)(d->slices > 1 ? d->slices * all * size : 0);
    const ptrdiff_t scratch = 8 * (d->s_point + d->v_point + d->w_point) + d->line + LANES;
    p->scratch_bytes = (size_t)(round_up(scratch, LANES) * size);
    p->cycles =
        cycles + cost_winograd_1d_taps((double)(d->slices * g->kh * d->from * d->vectors), (double)d->taps);
}

static void NAME(few_grad_plan)(plan *p, int what) {
    NAME(rowwise) *d = (void *)p->own;
    (void)what;
    NAME(rowwise_sizes)(&p->g, d, 0);
    NAME(rowwise_grad_plan)(p, NAME(few_sizes)(d, &p->g));
}

static void NAME(many_grad_plan)(plan *p, int what) {
    NAME(rowwise) *d = (void *)p->own;
    (void)what;
    NAME(rowwise_sizes)(&p->g, d, 0);
    NAME(rowwise_grad_plan)(p, NAME(many_sizes)(d, &p->g));
}
