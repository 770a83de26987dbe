/* winograd_1d_planes.h: equation (5), forward and input gradient, for few filters and few channels. The lanes
   are neighbouring tiles of a row (as plane.h has neighbouring pixels): with filters in the lanes, one 7x7
   filter over one gray image would leave 15 of 16 idle.

   Tiles are 4 outputs wide. The pixels of a row go to four planes, columns 4 t + p to plane p. So a vector of
   each plane holds the same pixel of LANES tiles, and the transforms are those of winograd_1d_many.h and
   winograd_1d_few_conv.h. A kernel is cut into pieces that begin at every fourth column: the eight points of
   a piece are then those of the first piece, some tiles further on, and no tile is transformed twice. At each
   point,

       M[row][tile] = sum over c, i, pieces b   V[c][row + i][tile + b] U[c][i][b]

   This is direct convolution with a kernel as wide as there are pieces, and plane.h's register tiles do it. A
   7x7 filter takes 28 multiply-adds an output instead of 49.

   Stage 0 makes U, as [k][point][c][i][b]. Stage 1, an item: a block of rows of one image; V is [point][c]
   [row][tile]. */

enum { NAME(TILE_COLUMNS) = 4, NAME(TILE_TAPS) = 5 };

typedef struct NAME(tile_planes) {
    NAME(plane) plane; /* the width counts tiles */
    ptrdiff_t pieces;
    ptrdiff_t point; /* numbers of V at one point */
    ptrdiff_t line;  /* numbers of a padded row of one channel */
} NAME(tile_planes);

#undef EVEN_LANES
#undef ODD_LANES
#undef NEXT_LANES
#if LANES == 16
#define EVEN_LANES 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define ODD_LANES  1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#define NEXT_LANES 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16
#elif LANES == 8
#define EVEN_LANES 0, 2, 4, 6, 8, 10, 12, 14
#define ODD_LANES  1, 3, 5, 7, 9, 11, 13, 15
#define NEXT_LANES 1, 2, 3, 4, 5, 6, 7, 8
#elif LANES == 4
#define EVEN_LANES 0, 2, 4, 6
#define ODD_LANES  1, 3, 5, 7
#define NEXT_LANES 1, 2, 3, 4
#else
#define EVEN_LANES 0, 2
#define ODD_LANES  1, 3
#define NEXT_LANES 1, 2
#endif

/* Separates 4 LANES pixels of a row: v[p] gets pixels p, p + 4, p + 8 ... */
INLINE void NAME(four_apart)(const REAL *from, vec *v) {
    vec even[2], odd[2];
    UNROLL
    for (int half = 0; half < 2; half++) {
        const vec a = NAME(load)(from + 2 * half * LANES), b = NAME(load)(from + (2 * half + 1) * LANES);
        even[half] = SHUFFLE(a, b, EVEN_LANES);
        odd[half] = SHUFFLE(a, b, ODD_LANES);
    }
    v[0] = SHUFFLE(even[0], even[1], EVEN_LANES);
    v[1] = SHUFFLE(odd[0], odd[1], EVEN_LANES);
    v[2] = SHUFFLE(even[0], even[1], ODD_LANES);
    v[3] = SHUFFLE(odd[0], odd[1], ODD_LANES);
}

/* V of one row of one channel, from that row with its padding. */
static void NAME(tile_planes_inputs)(const REAL *line, ptrdiff_t tiles, ptrdiff_t point, REAL *to) {
    vec in[8], next[4], out[8];
    NAME(four_apart)(line, in);
    for (ptrdiff_t t = 0; t < tiles; t += LANES, to += LANES) {
        line += 4 * LANES;
        NAME(four_apart)(line, next);
        UNROLL
        for (int p = 0; p < 4; p++) in[4 + p] = SHUFFLE(in[p], next[p], NEXT_LANES);
        NAME(inputs_in_lanes)(in, out);
        UNROLL
        for (int q = 0; q < 8; q++) NAME(store)(to + q * point, out[q]);
        UNROLL
        for (int p = 0; p < 4; p++) in[p] = next[p];
    }
}

/* Stage 0: U, computed number by number. */
static void NAME(tile_planes_filters)(const plan *p, REAL *to) {
    const NAME(tile_planes) *d = (const void *)p->own;
    const ptrdiff_t from = d->plane.from, pairs = p->g.kh * d->pieces;
    REAL *const filters = to + d->plane.to * 8 * from * pairs; /* [k][c][i][j] */
    NAME(plane_filters)(p, filters);
    static const REAL at[8] = {0, 1, -1, 0, 2, -2, (REAL)0.5, (REAL)-0.5};
    for (ptrdiff_t k = 0; k < d->plane.to; k++)
        for (ptrdiff_t q = 0; q < 8; q++)
            for (ptrdiff_t row = 0; row < from * p->g.kh; row++)
                for (ptrdiff_t piece = 0; piece < d->pieces; piece++) {
                    const REAL *const w =
                        filters + (k * from * p->g.kh + row) * p->g.kw + piece * NAME(TILE_COLUMNS);
                    const ptrdiff_t rest = p->g.kw - piece * NAME(TILE_COLUMNS);
                    const ptrdiff_t taps = piece == d->pieces - 1 ? rest : (ptrdiff_t)NAME(TILE_COLUMNS);
                    REAL sum = q == 3 && taps == NAME(TILE_TAPS) ? w[taps - 1] : 0;
                    if (q != 3) {
                        for (ptrdiff_t j = taps - 1; j >= 0; j--) sum = sum * at[q] + w[j];
                        sum *= NAME(rowwise_norms)[q == 0 ? 0 : q < 3 ? 1 : q / 2];
                    }
                    *to++ = sum;
                }
}

/* A' of one row of a register tile, for one filter, to `count` pixels of a row. */
static void NAME(tile_planes_outputs)(const REAL *m, ptrdiff_t point, REAL bias, int relu, ptrdiff_t count,
                                      REAL *y, ptrdiff_t step) {
    const vec least = (relu ? 0 : -(REAL)INFINITY) - (vec){0};
    vec sums[8], part[4], out[6];
    UNROLL
    for (int q = 0; q < 8; q++) sums[q] = *(const vec *)(m + q * point);
    NAME(first_half)(sums, part, NAME(TILE_COLUMNS));
    UNROLL
    for (int q = 0; q < 4; q++) part[q] += bias;
    NAME(last_half)(part, sums + 4, out, NAME(TILE_COLUMNS));
    UNROLL
    for (int j = 0; j < 4; j++) out[j] = NAME(select)(out[j] < least, least, out[j]); /* NaN stays NaN */
    NAME(transpose)(out, 4);
    if (step == 1 && count >= 4 * LANES) {
        UNROLL
        for (int j = 0; j < 4; j++) NAME(store)(y + j * LANES, out[j]);
        return;
    }
    REAL pixels[4 * LANES] __attribute__((aligned(VECTOR_BYTES)));
    UNROLL
    for (int j = 0; j < 4; j++) *(vec *)(pixels + j * LANES) = out[j];
    for (ptrdiff_t i = 0; i < min_of(count, 4 * LANES); i++) y[i * step] = pixels[i];
}

static void NAME(tile_planes_run)(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) {
    const NAME(tile_planes) *d = (const void *)p->own;
    const NAME(plane) *const plane = &d->plane;
    if (stage == 0) {
        if (item == 0)
            NAME(tile_planes_filters)(p, shared);
        else
            NAME(guard_filters)(p, item, shared);
        return;
    }
    const NAME(axis) y = NAME(plane_axis)(p, 0), x = NAME(plane_axis)(p, 1);
    const ptrdiff_t image = item / plane->row_blocks, first = item % plane->row_blocks * plane->rows;
    const ptrdiff_t last = min_of(first + plane->rows, plane->oh);
    const ptrdiff_t R = plane->tile_rows, point = 2 * R * LANES; /* numbers of M at one point */
    REAL *const v = scratch, *const m = v + 8 * d->point, *const line = m + 8 * point;
    const ptrdiff_t size = plane->ih * plane->iw * plane->from;
    const REAL *const in = (const REAL *)p->a + image * size, *const end = (const REAL *)p->a + p->g.n * size;
    REAL *const out = (REAL *)p->out + image * plane->oh * plane->ow * plane->to;
    NAME(plane_tile)
    t = {.planes = plane->from, .plane = plane->region_rows * plane->width, .row = plane->width};
    t.taps = y.taps, t.columns = d->pieces, t.column = 1;
    const ptrdiff_t filter = plane->from * y.taps * d->pieces; /* numbers of U at one point */
    for (ptrdiff_t row = 0; row < plane->region_rows; row++) {
        NAME(row_apart)(in, end, plane->ih, plane->iw, plane->from, first + y.in0 + row, x.in0, 1, d->line,
                        plane->from, line, d->line);
        for (ptrdiff_t c = 0; c < plane->from; c++)
            NAME(tile_planes_inputs)(line + c * d->line, plane->width, d->point,
                                     v + (c * plane->region_rows + row) * plane->width);
    }
    for (ptrdiff_t s = 0; s < plane->ow; s += 2 * 4 * LANES)
        for (ptrdiff_t r = first; r < last; r += R)
            for (ptrdiff_t k = 0; k < plane->to; k++) {
                for (ptrdiff_t q = 0; q < 8; q++) {
                    t.x = v + q * d->point + (r - first) * plane->width + s / 4;
                    t.w = (const REAL *)shared + (k * 8 + q) * filter;
                    t.sums = m + q * point;
                    NAME(plane_sums)(&t, R);
                }
                const REAL bias = p->bias ? ((const REAL *)p->bias)[k] : 0;
                for (ptrdiff_t row = 0; row < min_of(R, last - r); row++)
                    for (ptrdiff_t at = 0; at < 2 && s + 4 * at * LANES < plane->ow; at++) {
                        const ptrdiff_t pixel = (r + row) * plane->ow + s + 4 * at * LANES;
                        NAME(tile_planes_outputs)(m + (2 * row + at) * LANES, point, bias, p->relu,
                                                  plane->ow - s - 4 * at * LANES, out + pixel * plane->to + k,
                                                  plane->to);
                    }
            }
    if (p->guarded) {
        const ptrdiff_t across = ceil_div(plane->ow, NAME(TILE_COLUMNS)),
                        vectors = ceil_div(plane->to, LANES);
        NAME(guard_pixels)(p, 0, image, first * across, last * across, 0, scratch);
        NAME(guard_tiles)(p, 0, image, first * across, last * across, 0, vectors, 0, shared, scratch);
    }
}

/* A longer sum in registers would round too much. */
static int NAME(tile_planes_can)(const plan *p, int what) {
    const conv *g = &p->g;
    const ptrdiff_t channels = what ? g->k : g->c;
    return NAME(plane_can)(p, what) && NAME(guard_can)(p, what, NAME(GUARD_FEW_NUMBERS)) && g->kw >= 3 &&
           g->dw == 1 && g->kh * ceil_div(g->kw - 1, NAME(TILE_COLUMNS)) * channels <= SUM_CHANNELS;
}

static void NAME(tile_planes_plan)(plan *p, int what) {
    const conv *g = &p->g;
    NAME(tile_planes) *d = (void *)p->own;
    NAME(plane) *const plane = &d->plane;
    const ptrdiff_t size = sizeof(REAL);
    _Static_assert(sizeof *d <= sizeof p->own, "the plan holds the algorithm's numbers");
    NAME(plane_sizes)(g, plane, what);
    d->pieces = ceil_div(g->kw - 1, NAME(TILE_COLUMNS));
    const ptrdiff_t tiles = round_up(ceil_div(plane->ow, NAME(TILE_COLUMNS)), 2 * LANES);
    plane->width = round_up(tiles + d->pieces - 1, LANES);
    NAME(plane_rows)(g, plane, 8 * plane->from * plane->width * size);
    d->point = plane->from * plane->region_rows * plane->width + PAD;
    d->line = 4 * (plane->width + LANES);
    const double rows = (double)(g->n * plane->row_blocks * plane->region_rows);
    const double outputs = (double)(g->n * plane->oh * (tiles / LANES) * plane->to);
    const double inputs = rows * (double)(plane->width / LANES * plane->from);
    p->cycles =
        cost_winograd_1d_planes(outputs * (double)(g->kh * d->pieces * plane->from), inputs, outputs) +
        (plane->to == 1 ? 0 : 4 * LANES * outputs) +
        4 * LANES * NAME(apart_cycles)(plane->from, plane->from) * rows * (double)(plane->width / LANES);
    const ptrdiff_t numbers = g->kh * plane->from * plane->to;
    p->stages = 2;
    p->prepared = 1;
    p->items[0] = 1;
    p->items[1] = g->n * plane->row_blocks;
    p->shared_bytes = (size_t)(numbers * (8 * d->pieces + g->kw) * size);
    p->scratch_bytes =
        (size_t)round_up((8 * (d->point + 2 * plane->tile_rows * LANES) + plane->from * d->line) * size, 64);
    const NAME(axis) y = NAME(plane_axis)(p, 0), x = NAME(plane_axis)(p, 1);
    NAME(guard_plan)(p, (NAME(guard)){.turned = plane->grad,
                                      .ih = plane->ih,
                                      .iw = plane->iw,
                                      .from = plane->from,
                                      .c = plane->from,
                                      .top = -y.in0,
                                      .left = -x.in0,
                                      .oh = plane->oh,
                                      .ow = plane->ow,
                                      .to = plane->to,
                                      .k = plane->to,
                                      .mh = 1,
                                      .mw = NAME(TILE_COLUMNS),
                                      .eh = g->kh,
                                      .ew = NAME(TILE_COLUMNS) * (d->pieces + 1),
                                      .band = plane->rows + g->kh - 1});
}
