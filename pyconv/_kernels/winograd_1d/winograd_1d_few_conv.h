/* winograd_1d_few_conv.h: equation (5), forward and input gradient, for few pairs (i, c).

   Stage 0, an item: the filters of one vector, as [block of 2 vectors][half][i][c][point][vector][LANES].
   Stage 1, an item: a block of result rows of one image. Its tiles are numbered through from row to row,
   which [row][tile][channel][point] allows: the taps of tile q in kernel row i are those of tile q + i
   across. A register block is 3 tiles x 2 vectors x 4 points, 20 loads for 24 multiply-adds. The first half
   of the points is transformed to the outputs and waits in memory for the second half, as four vectors of a
   tile: first output, even, odd, last output. */

#define ROWWISE_VECTORS (REGISTERS == 32 ? 2 : 1)

typedef struct NAME(row_tiles) {
    const REAL *x, *w, *bias; /* bias: NULL, or the first filter's */
    REAL *y;
    ptrdiff_t tiles, tile; /* tiles, and the step from one to the next in x */
    ptrdiff_t rows, row;   /* kernel rows, and their step in x */
    ptrdiff_t channels;
    ptrdiff_t column, columns; /* result column of the first tile; columns */
    ptrdiff_t pixel, second;   /* distances in y: from pixel to pixel, from vector to vector */
    ptrdiff_t m;               /* outputs of a tile */
    int relu, stream;
} NAME(row_tiles);

/* No instruction: at this point the compiler has these four sums in registers and every earlier store in
   memory, and moves nothing across. Otherwise it would begin the transforms of all tiles together and run out
   of registers. */
#undef SETTLE
#if defined(__x86_64__)
#define SETTLE(s) __asm__ volatile("" : "+v"((s)[0]), "+v"((s)[1]), "+v"((s)[2]), "+v"((s)[3])::"memory")
#elif defined(__aarch64__)
#define SETTLE(s) __asm__ volatile("" : "+w"((s)[0]), "+w"((s)[1]), "+w"((s)[2]), "+w"((s)[3])::"memory")
#else
#define SETTLE(s)
#endif

/* The sums of one half of the points; `start` is where point 1 begins. */
INLINE void NAME(row_half)(const NAME(row_tiles) * t, const REAL *x0, const REAL *w, const vec *start,
                           vec sum[][2][4], const int T, const int V) {
    const ptrdiff_t channels = t->channels;
    UNROLL
    for (int i = 0; i < T; i++) {
        UNROLL
        for (int v = 0; v < V; v++) {
            sum[i][v][0] = sum[i][v][2] = sum[i][v][3] = (vec){0};
            sum[i][v][1] = start[v];
        }
    }
    for (ptrdiff_t r = 0; r < t->rows; r++) {
        const REAL *x[NAME(ROWWISE_TILES)];
        UNROLL
        for (int i = 0; i < T; i++) {
            x[i] = x0 + r * t->row + i * t->tile;
            APART(x[i]);
        }
        for (ptrdiff_t c = 0; c < channels; c++, w += 4 * V * LANES) {
            UNROLL
            for (int p = 0; p < 4; p++) {
                vec filter[2];
                UNROLL
                for (int v = 0; v < V; v++) {
                    filter[v] = *(const vec *)(w + (p * V + v) * LANES);
                    IN_REGISTER(filter[v]);
                }
                UNROLL
                for (int i = 0; i < T; i++) {
                    vec input = x[i][p] - (vec){0};
                    IN_REGISTER(input); /* a load costs as much as a multiply-add: do not repeat it */
                    UNROLL
                    for (int v = 0; v < V; v++) sum[i][v][p] += input * filter[v];
                }
            }
            UNROLL
            for (int i = 0; i < T; i++) x[i] += 8;
        }
    }
}

/* A' of the first four points: first output, even, odd, last output of a tile of M. */
INLINE void NAME(first_half)(const vec *s, vec *part, const ptrdiff_t M) {
    const vec even = s[1] + s[2], odd = s[1] - s[2];
    part[0] = s[0] + even;
    part[1] = even;
    part[2] = odd;
    part[3] = (M % 2 ? even : odd) + s[3];
}

/* Adds A' of the other four points: the outputs. */
INLINE void NAME(last_half)(const vec *part, const vec *s, vec *out, const int M) {
    const vec even_2 = s[0] + s[1], odd_2 = s[0] - s[1];
    const vec even_half = s[2] + s[3], odd_half = s[2] - s[3];
    REAL two = 1, half_power = 1;
    UNROLL
    for (int j = 0; j < M; j++, two *= 2, half_power /= 2) {
        out[j] = part[j == 0 ? 0 : j == M - 1 ? 3 : 1 + j % 2];
        out[j] += two * (j % 2 ? odd_2 : even_2);
        out[j] += half_power * (j % 2 ? odd_half : even_half);
    }
}

/* The outputs of T tiles x V vectors, from the sums of the last four points and what the first four left. */
INLINE void NAME(row_outputs)(const NAME(row_tiles) * t, const REAL *part, vec sum[][2][4], REAL **y,
                              ptrdiff_t *column, const int T, const int V, const int M) {
    const ptrdiff_t pixel = t->pixel, second = t->second, columns = t->columns;
    const int stream = t->stream;
    const vec least = (t->relu ? 0 : -(REAL)INFINITY) - (vec){0};
    UNROLL
    for (int i = 0; i < T; i++) {
        const ptrdiff_t count = min_of(M, columns - *column);
        UNROLL
        for (int v = 0; v < V; v++) {
            vec *const s = sum[i][v], out[6];
            const vec *const from = (const vec *)(part + (i * V + v) * 4 * LANES);
            SETTLE(s);
            NAME(last_half)(from, s, out, M);
            UNROLL
            for (int j = 0; j < M; j++) /* NaN stays NaN */
                out[j] = NAME(select)(out[j] < least, least, out[j]);
            REAL *const to = *y + v * second;
            if (count < M) {
                UNROLL
                for (int j = 0; j < M - 1; j++)
                    if (j < count) NAME(store)(to + j * pixel, out[j]);
            } else if (stream) {
                UNROLL
                for (int j = 0; j < M; j++) NAME(stream)(to + j * pixel, out[j]);
            } else {
                UNROLL
                for (int j = 0; j < M; j++) NAME(store)(to + j * pixel, out[j]);
            }
        }
        *y += count * pixel;
        *column = *column + count < columns ? *column + count : 0;
    }
}

/* T tiles x V vectors at a time. Sums of products are the same for all m, so only the transforms are compiled
   for each (docs/decisions/0051-what-is-worth-compiling.md). */
INLINE void NAME(rowwise_body)(const NAME(row_tiles) * t, const int T, const int V) {
    const ptrdiff_t second = t->second, m = t->m;
    const ptrdiff_t half = t->rows * t->channels * 4 * V * LANES;
    REAL part[NAME(ROWWISE_TILES) * 2 * 4 * LANES] __attribute__((aligned(VECTOR_BYTES)));
    REAL *y = t->y;
    ptrdiff_t column = t->column;
    for (ptrdiff_t q = 0; q < t->tiles; q += T) {
        const REAL *x = t->x + q * t->tile;
        vec sum[NAME(ROWWISE_TILES)][2][4];
        vec start[2] = {{0}, {0}};
        UNROLL
        for (int v = 0; v < V; v++) {
            /* At point 1 a polynomial is the sum of its coefficients: what is added there reaches all
               outputs. So the bias is added there. */
            if (t->bias) start[v] = NAME(load)(t->bias + v * second);
        }
        NAME(row_half)(t, x, t->w, start, sum, T, V);
        UNROLL
        for (int i = 0; i < T; i++) {
            UNROLL
            for (int v = 0; v < V; v++) {
                vec *const s = sum[i][v];
                SETTLE(s);
                NAME(first_half)(s, (vec *)(part + (i * V + v) * 4 * LANES), m);
            }
        }
        start[0] = start[1] = (vec){0};
        NAME(row_half)(t, x + 4, t->w + half, start, sum, T, V);
#define OUTPUTS(M)                                                                                           \
    case M:                                                                                                  \
        NAME(row_outputs)(t, part, sum, &y, &column, T, V, M);                                               \
        break;
        switch (m) {
            OUTPUTS(4)
            OUTPUTS(5)
            OUTPUTS(6)
        }
#undef OUTPUTS
    }
}

#define ROWS(T, V)                                                                                           \
    static void NAME(rowwise_##T##x##V)(const NAME(row_tiles) * t) {                                         \
        NAME(rowwise_body)(t, T, V);                                                                         \
    }
ROWS(1, 1)
ROWS(3, 1)
#if REGISTERS == 32
ROWS(1, 2)
ROWS(3, 2)
#endif
#undef ROWS

/* By vectors, and one tile or three. */
static void (*const NAME(rowwise_blocks)[2][2])(const NAME(row_tiles) *) = {
    {NAME(rowwise_1x1), NAME(rowwise_3x1)},
#if REGISTERS == 32
    {NAME(rowwise_1x2), NAME(rowwise_3x2)},
#endif
};

/* How many vectors the block has that vector v belongs to. */
INLINE ptrdiff_t NAME(rowwise_width)(const NAME(rowwise) * d, ptrdiff_t v) {
    return min_of(ROWWISE_VECTORS, d->vectors - v / ROWWISE_VECTORS * ROWWISE_VECTORS);
}

/* U of one vector of filters. */
static void NAME(few_filters)(const plan *p, ptrdiff_t v, REAL *to) {
    const NAME(rowwise) *d = (const void *)p->own;
    const ptrdiff_t width = NAME(rowwise_width)(d, v), half = p->g.kh * d->from * 4 * width * LANES;
    to += (v - v % ROWWISE_VECTORS) * p->g.kh * d->from * 8 * LANES + v % ROWWISE_VECTORS * LANES;
    for (ptrdiff_t i = 0; i < p->g.kh; i++)
        for (ptrdiff_t c = 0; c < d->from; c++, to += 4 * width * LANES) {
            vec points[8];
            NAME(filter_points)(p, v, i, c, points);
            for (int q = 0; q < 4; q++) {
                *(vec *)(to + q * width * LANES) = points[q];
                *(vec *)(to + half + q * width * LANES) = points[4 + q];
            }
        }
}

static void NAME(few_conv_run)(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) {
    const NAME(rowwise) *d = (const void *)p->own;
    if (stage == 0) {
        if (item < d->items)
            NAME(few_filters)(p, item, shared);
        else
            NAME(guard_filters)(p, item, shared);
        return;
    }
    const ptrdiff_t image = item / d->row_blocks, first = item % d->row_blocks * d->rows;
    const ptrdiff_t rows = min_of(d->rows, d->oh - first), most = NAME(ROWWISE_TILES);
    if (p->guarded)
        NAME(guard_pixels)(p, 0, image, first * d->across, (first + rows) * d->across, 0, scratch);
    NAME(rowwise_inputs)(d, (const REAL *)p->a + image * d->ih * d->iw * d->channels, first - d->top,
                         rows + p->g.kh - 1, scratch, (REAL *)scratch + d->inputs - d->line);
    REAL *out = (REAL *)p->out + (image * d->oh + first) * d->ow * d->to;
    NAME(row_tiles) t = {.rows = p->g.kh, .row = d->tile_row, .channels = d->from};
    t.tile = d->from * 8, t.columns = d->ow, t.pixel = d->to, t.m = d->m;
    t.relu = p->relu, t.stream = d->large && NAME(begins_a_line)(p->out);
    const ptrdiff_t tiles = rows * d->across, single = tiles % most, before = tiles - single;
    for (ptrdiff_t v = 0; v < d->vectors; v += ROWWISE_VECTORS) {
        const ptrdiff_t k = NAME(vector_start)(v, d->to), width = NAME(rowwise_width)(d, v);
        t.second = NAME(vector_start)(v + 1, d->to) - k;
        t.w = (const REAL *)shared + v * p->g.kh * d->from * 8 * LANES;
        t.bias = p->bias ? (const REAL *)p->bias + k : NULL;
        t.x = scratch, t.y = out + k, t.tiles = before, t.column = 0;
        NAME(rowwise_blocks)[width - 1][1](&t);
        t.x += before * t.tile, t.tiles = single, t.column = before % d->across * d->m;
        t.y += (before / d->across * d->ow + t.column) * d->to;
        NAME(rowwise_blocks)[width - 1][0](&t);
    }
    if (d->large) NAME(fence)();
    if (p->guarded)
        NAME(guard_tiles)(p, 0, image, first * d->across, (first + rows) * d->across, 0, d->vectors, 0,
                          shared, scratch);
}

/* A longer sum in registers would round too much. */
static int NAME(few_conv_can)(const plan *p, int what) {
    const conv *g = &p->g;
    const ptrdiff_t channels = what ? g->k : g->c;
    return NAME(rowwise_can)(p, what) &&
           g->kh * NAME(pieces_of)(g->kw, what ? g->w : g->ow) * channels <= SUM_CHANNELS;
}

static void NAME(few_conv_plan)(plan *p, int what) {
    const conv *g = &p->g;
    NAME(rowwise) *d = (void *)p->own;
    NAME(rowwise_sizes)(g, d, what);
    NAME(few_rows)(g, d);
    d->large = NAME(is_streamed)(g->n * d->oh * d->ow, d->to, ROWWISE_VECTORS, 1);
    const ptrdiff_t filters = d->vectors * g->kh * d->from, size = sizeof(REAL);
    p->stages = 2;
    p->prepared = 1;
    p->items[0] = d->vectors;
    p->items[1] = g->n * d->row_blocks;
    p->shared_bytes = (size_t)(filters * 8 * LANES * size);
    p->scratch_bytes = (size_t)(d->inputs * size + 63) / 64 * 64;
    const double rows = (double)(g->n * (d->oh + d->row_blocks * (g->kh - 1)));
    p->cycles = cost_winograd_1d_few(
        (double)(g->n * d->oh * d->across * filters), rows * (double)(d->across * d->from),
        (double)(g->n * d->oh * d->across * d->vectors), (double)d->m, (double)filters, REGISTERS);
    NAME(rowwise_guard)(p);
}
