/* tile.h: the register tile of direct convolution, P pixels x V vectors of filters.

       y[p, k] = b[k] + sum over i, j, l of x[i row + j column + p step + l] w[i, j, l, k]

   for P pixels of one output row (or column) and V * LANES filters, with all sums in registers. Each step of
   l takes V loads of filters, P broadcasts of a pixel's channel and P V multiply-adds. With 32 registers, 14
   x 2 sums keep both multiply-add units busy (latency 4, two units: at least 8 sums), at 16 loads for 28
   multiply-adds, half of what the load units could do. Where the kernel's columns follow one another in
   memory (no dilation, and no groups unless they are copied), i is the kernel's row, and l runs over its
   columns and channels together: so l is long enough in a first layer too.

   P addresses would take more registers than the processor has. Pointers to every third pixel reach them all,
   with one step, which the address modes can double. APART keeps the compiler from computing one pointer from
   another again. */

typedef struct NAME(tile) {
    const REAL *x, *w, *bias; /* bias: NULL, or where the first filter's is */
    REAL *y;
    ptrdiff_t tiles;           /* tiles one after the other, P pixels each */
    ptrdiff_t x_next, y_next;  /* from one tile to the next */
    ptrdiff_t x_step, y_step;  /* from one pixel to the next */
    ptrdiff_t rows, row;       /* i, and its step in x */
    ptrdiff_t columns, column; /* j, and its step in x */
    ptrdiff_t run;             /* l */
    ptrdiff_t second;          /* distance from the first vector's filters to the second's */
    ptrdiff_t lanes;           /* filters of a vector that exist: LANES or fewer */
    ptrdiff_t w_row;           /* filters that are skipped between a row i and the next */
    int relu, stream;          /* stream: y is large and every vector of it is aligned */
    int add;                   /* add to what is in y, in whole vectors, instead of to the bias */
} NAME(tile);

INLINE void NAME(tile_body)(const NAME(tile) * t, const int P, const int V) {
    /* In locals: as far as the compiler knows, a store to y may change *t. */
    const ptrdiff_t step = t->x_step, y_step = t->y_step, second = t->second, lanes = t->lanes;
    const ptrdiff_t rows = t->rows, row = t->row, columns = t->columns, column = t->column, run = t->run;
    const REAL *const filters = t->w, *bias = t->bias, *x0 = t->x;
    const ptrdiff_t w_row = t->w_row, x_next = t->x_next, y_next = t->y_next;
    const int relu = t->relu, stream = t->stream, add = t->add;
    REAL *y = t->y;
    for (ptrdiff_t tile = 0; tile < t->tiles; tile++, x0 += x_next, y += y_next) {
        vec sum[14][2]; /* of a fixed size: an array of P by V would go to memory */
        const REAL *w = filters;
        UNROLL
        for (int v = 0; v < V; v++) {
            vec start = {0};
            if (bias)
                start =
                    V == 2 || lanes == LANES ? NAME(load)(bias + v * second) : NAME(load_some)(bias, lanes);
            UNROLL
            for (int p = 0; p < P; p++) sum[p][v] = add ? *(vec *)(y + p * y_step + v * second) : start;
        }
        for (ptrdiff_t i = 0; i < rows; i++, w += w_row)
            for (ptrdiff_t j = 0; j < columns; j++) {
                const REAL *x[5]; /* every third pixel */
                UNROLL
                for (int q = 0; q < (P + 2) / 3; q++) {
                    x[q] = x0 + i * row + j * column + 3 * q * step;
                    APART(x[q]);
                }
                for (ptrdiff_t l = 0; l < run; l++, w += V * LANES) {
                    vec filter[2];
                    UNROLL
                    for (int v = 0; v < V; v++) filter[v] = *(const vec *)(w + v * LANES);
                    UNROLL
                    for (int p = 0; p < P; p++) {
                        const vec pixel = x[p / 3][p % 3 * step] - (vec){0};
                        UNROLL
                        for (int v = 0; v < V; v++) sum[p][v] += pixel * filter[v];
                    }
                    UNROLL
                    for (int q = 0; q < (P + 2) / 3; q++) x[q]++;
                }
            }
        if (relu) {
            UNROLL
            for (int p = 0; p < P; p++) {
                UNROLL
                for (int v = 0; v < V; v++) sum[p][v] = NAME(positive)(sum[p][v]);
            }
        }
        if (stream) {
            UNROLL
            for (int p = 0; p < P; p++) {
                UNROLL
                for (int v = 0; v < V; v++) NAME(stream)(y + p * y_step + v * second, sum[p][v]);
            }
        } else if (V == 2 || lanes == LANES) {
            UNROLL
            for (int p = 0; p < P; p++) {
                UNROLL
                for (int v = 0; v < V; v++) NAME(store)(y + p * y_step + v * second, sum[p][v]);
            }
        } else {
            UNROLL
            for (int p = 0; p < P; p++) NAME(store_some)(y + p * y_step, sum[p][0], lanes);
        }
    }
}

/* The most pixels that a tile of V vectors holds. */
INLINE ptrdiff_t NAME(tile_pixels)(ptrdiff_t vectors) {
    return REGISTERS == 32 ? 14 : vectors == 1 ? 12 : 6;
}

/* One function for each size, so that every loop over P and V is unrolled and `sum` lives in registers. */
#define TILE(P, V)                                                                                           \
    static void NAME(tile_##P##x##V)(const NAME(tile) * t) {                                                 \
        NAME(tile_body)(t, P, V);                                                                            \
    }
/* clang-format off */
TILE(1, 1) TILE(2, 1) TILE(3, 1) TILE(4, 1) TILE(5, 1) TILE(6, 1)
TILE(7, 1) TILE(8, 1) TILE(9, 1) TILE(10, 1) TILE(11, 1) TILE(12, 1)
TILE(1, 2) TILE(2, 2) TILE(3, 2) TILE(4, 2) TILE(5, 2) TILE(6, 2)
#if REGISTERS == 32
TILE(13, 1) TILE(14, 1)
TILE(7, 2) TILE(8, 2) TILE(9, 2) TILE(10, 2) TILE(11, 2) TILE(12, 2) TILE(13, 2) TILE(14, 2)
#endif
#undef TILE

#define T(P, V) NAME(tile_##P##x##V)
static void (*const NAME(tiles)[2][14])(const NAME(tile) *) = {
    {T(1, 1), T(2, 1), T(3, 1), T(4, 1), T(5, 1), T(6, 1), T(7, 1), T(8, 1), T(9, 1), T(10, 1), T(11, 1), T(12, 1),
#if REGISTERS == 32
     T(13, 1), T(14, 1)},
    {T(1, 2), T(2, 2), T(3, 2), T(4, 2), T(5, 2), T(6, 2), T(7, 2), T(8, 2), T(9, 2), T(10, 2), T(11, 2), T(12, 2),
     T(13, 2), T(14, 2)},
#else
    },
    {T(1, 2), T(2, 2), T(3, 2), T(4, 2), T(5, 2), T(6, 2)},
#endif
};
/* clang-format on */
#undef T

/* A row of pixels in tiles of two sizes: the first `wide` of them have one pixel more than the others. */
typedef struct NAME(cut) {
    ptrdiff_t tiles, pixels, wide;
} NAME(cut);

INLINE NAME(cut) NAME(cut_row)(ptrdiff_t vectors, ptrdiff_t count) {
    const ptrdiff_t most = NAME(tile_pixels)(vectors), tiles = (count + most - 1) / most;
    return (NAME(cut)){tiles, tiles ? count / tiles : 0, tiles ? count % tiles : 0};
}

/* Does the pixels of one row. */
INLINE void NAME(tile_row)(NAME(tile) * t, ptrdiff_t vectors, NAME(cut) row) {
    for (int wide = 1; wide >= 0; wide--) {
        const ptrdiff_t pixels = row.pixels + wide;
        t->tiles = wide ? row.wide : row.tiles - row.wide;
        if (!t->tiles) continue;
        t->x_next = pixels * t->x_step;
        t->y_next = pixels * t->y_step;
        NAME(tiles)[vectors - 1][pixels - 1](t);
        t->x += t->tiles * t->x_next;
        t->y += t->tiles * t->y_next;
    }
}

/* Does several rows, x_next and y_next apart. If rows are short, a call for each would take as long as its
   sums: then one tile of each row is done after the other. */
INLINE void NAME(tile_rows)(NAME(tile) * t, ptrdiff_t vectors, NAME(cut) row, ptrdiff_t rows) {
    t->tiles = rows;
    for (ptrdiff_t i = 0; i < row.tiles; i++) {
        const ptrdiff_t pixels = row.pixels + (i < row.wide);
        NAME(tiles)[vectors - 1][pixels - 1](t);
        t->x += pixels * t->x_step;
        t->y += pixels * t->y_step;
    }
}
