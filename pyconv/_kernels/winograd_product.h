/* winograd_product.h: the products of matrices in the middle, PRODUCT_ROWS x PRODUCT_VECTORS vectors of
   results at a time.

   The results stay in registers while the sum runs; per step the kernel loads PRODUCT_VECTORS vectors and
   broadcasts PRODUCT_ROWS scalars, so that multiply-adds (rows x vectors) outnumber loads (rows + vectors)
   two to one or better:

       32 registers      6 x 4 = 24 results + 4 + 1
       16 registers      6 x 2 = 12 results + 2 + 1

   Fewer rows or vectors at an edge are compiled too, so that nothing is computed for padding; long edges are
   cut evenly (16 rows as 6 + 5 + 5 and not 6 + 6 + 4: few results at once do not hide the latency of a
   multiply-add).
*/
#undef PRODUCT_ROWS
#undef PRODUCT_VECTORS
#define PRODUCT_ROWS    6
#define PRODUCT_VECTORS (REGISTERS / 8)

INLINE vec NAME(load_lanes)(const REAL *from, ptrdiff_t lanes) {
    return lanes >= LANES ? NAME(load)(from) : NAME(load_some)(from, lanes);
}

INLINE void NAME(store_lanes)(REAL *to, vec v, ptrdiff_t lanes) {
    if (lanes >= LANES)
        NAME(store)(to, v);
    else
        NAME(store_some)(to, v, lanes);
}

/* to[r][:] (+)= sum over i < length of  scalars[r * scalar_row + i * scalar_step] * vectors[i * vector_row]
 */
INLINE void NAME(product_tile)(const int rows, const int width, const int add, ptrdiff_t length,
                               const REAL *scalars, ptrdiff_t scalar_row, ptrdiff_t scalar_step,
                               const REAL *vectors, ptrdiff_t vector_row, REAL *to, ptrdiff_t to_row) {
    vec sum[PRODUCT_ROWS][PRODUCT_VECTORS];
    UNROLL
    for (int r = 0; r < rows; r++) {
        UNROLL
        for (int v = 0; v < width; v++)
            sum[r][v] = add ? *(const vec *)(to + r * to_row + v * LANES) : (vec){0};
    }
    for (ptrdiff_t i = 0; i < length; i++) {
        vec factor[PRODUCT_VECTORS];
        UNROLL
        for (int v = 0; v < width; v++) factor[v] = *(const vec *)(vectors + v * LANES);
        UNROLL
        for (int r = 0; r < rows; r++) {
            UNROLL
            for (int v = 0; v < width; v++) sum[r][v] += scalars[r * scalar_row] * factor[v];
        }
        scalars += scalar_step;
        vectors += vector_row;
    }
    UNROLL
    for (int r = 0; r < rows; r++) {
        UNROLL
        for (int v = 0; v < width; v++) *(vec *)(to + r * to_row + v * LANES) = sum[r][v];
    }
}

typedef void (*NAME(product_fn))(ptrdiff_t length, const REAL *scalars, ptrdiff_t scalar_row,
                                 const REAL *vectors, ptrdiff_t vector_row, REAL *to, ptrdiff_t to_row);

/* Equation (3): scalars V[tile][c] (c is the sum), vectors U[c][filters], results M[tile][filters].
   Equation (4): scalars V[tile][c] (tile is the sum), vectors W[tile][filters], results added to
   S[c][filters]. */
#define PRODUCTS(rows, width)                                                                                \
    static void NAME(multiply_##rows##x##width)(ptrdiff_t length, const REAL *scalars, ptrdiff_t row,        \
                                                const REAL *vectors, ptrdiff_t vector_row, REAL *to,         \
                                                ptrdiff_t to_row) {                                          \
        NAME(product_tile)(rows, width, 0, length, scalars, row, 1, vectors, vector_row, to, to_row);        \
    }                                                                                                        \
    static void NAME(accumulate_##rows##x##width)(ptrdiff_t length, const REAL *scalars, ptrdiff_t row,      \
                                                  const REAL *vectors, ptrdiff_t vector_row, REAL *to,       \
                                                  ptrdiff_t to_row) {                                        \
        NAME(product_tile)(rows, width, 1, length, scalars, 1, row, vectors, vector_row, to, to_row);        \
    }
#define PRODUCTS_OF_WIDTH(width)                                                                             \
    PRODUCTS(1, width)                                                                                       \
    PRODUCTS(2, width) PRODUCTS(3, width) PRODUCTS(4, width) PRODUCTS(5, width) PRODUCTS(6, width)
#define TABLE_OF_WIDTH(kind, width)                                                                          \
    {NAME(kind##_1x##width), NAME(kind##_2x##width), NAME(kind##_3x##width),                                 \
     NAME(kind##_4x##width), NAME(kind##_5x##width), NAME(kind##_6x##width)}

PRODUCTS_OF_WIDTH(1)
PRODUCTS_OF_WIDTH(2)
#if PRODUCT_VECTORS == 4
PRODUCTS_OF_WIDTH(3)
PRODUCTS_OF_WIDTH(4)
#endif

/* By width - 1 and rows - 1. */
static const NAME(product_fn) NAME(multiply_products)[PRODUCT_VECTORS][PRODUCT_ROWS] = {
    TABLE_OF_WIDTH(multiply, 1),
    TABLE_OF_WIDTH(multiply, 2),
#if PRODUCT_VECTORS == 4
    TABLE_OF_WIDTH(multiply, 3),
    TABLE_OF_WIDTH(multiply, 4),
#endif
};
static const NAME(product_fn) NAME(accumulate_products)[PRODUCT_VECTORS][PRODUCT_ROWS] = {
    TABLE_OF_WIDTH(accumulate, 1),
    TABLE_OF_WIDTH(accumulate, 2),
#if PRODUCT_VECTORS == 4
    TABLE_OF_WIDTH(accumulate, 3),
    TABLE_OF_WIDTH(accumulate, 4),
#endif
};

#undef PRODUCTS
#undef PRODUCTS_OF_WIDTH
#undef TABLE_OF_WIDTH

/* A panel is a group of up to PRODUCT_VECTORS vectors of filters; `vectors` of them are cut evenly into
 * panels. */
INLINE ptrdiff_t NAME(panels_of)(ptrdiff_t vectors) {
    return ceil_div(vectors, PRODUCT_VECTORS);
}

/* M[tiles][width] = V[tiles][channels] U[channels][width], `width` in vectors of a panel. */
static void NAME(multiply_point)(ptrdiff_t tiles, ptrdiff_t channels, ptrdiff_t width, const REAL *v,
                                 ptrdiff_t v_row, const REAL *u, REAL *m) {
    const ptrdiff_t cuts = ceil_div(tiles, PRODUCT_ROWS), row = width * LANES;
    const NAME(product_fn) *by_rows = NAME(multiply_products)[width - 1];
    for (ptrdiff_t cut = 0; cut < cuts; cut++) {
        const ptrdiff_t first = even_cut(tiles, cuts, cut), rows = even_cut(tiles, cuts, cut + 1) - first;
        by_rows[rows - 1](channels, v + first * v_row, v_row, u, row, m + first * row, row);
    }
}

/* S[channels][vectors] += V[tiles][channels]' W[tiles][vectors]. */
static void NAME(accumulate_point)(ptrdiff_t tiles, ptrdiff_t channels, ptrdiff_t vectors, const REAL *v,
                                   ptrdiff_t v_row, const REAL *w, ptrdiff_t w_row, REAL *s) {
    const ptrdiff_t cuts = ceil_div(channels, PRODUCT_ROWS), panels = NAME(panels_of)(vectors);
    for (ptrdiff_t panel = 0; panel < panels; panel++) {
        const ptrdiff_t start = even_cut(vectors, panels, panel),
                        width = even_cut(vectors, panels, panel + 1) - start;
        const NAME(product_fn) *by_rows = NAME(accumulate_products)[width - 1];
        for (ptrdiff_t cut = 0; cut < cuts; cut++) {
            const ptrdiff_t first = even_cut(channels, cuts, cut),
                            rows = even_cut(channels, cuts, cut + 1) - first;
            by_rows[rows - 1](tiles, v + first, v_row, w + start * LANES, w_row,
                              s + first * vectors * LANES + start * LANES, vectors * LANES);
        }
    }
}

/* out = the sum over slices, in their order, of elements start .. end - 1 of `all`. */
static void NAME(add_slices)(const REAL *partial, ptrdiff_t slices, ptrdiff_t all, ptrdiff_t start,
                             ptrdiff_t end, REAL *out) {
    for (ptrdiff_t i = start; i < end; i++) out[i] = partial[i];
    for (ptrdiff_t slice = 1; slice < slices; slice++)
        for (ptrdiff_t i = start; i < end; i++) out[i] += partial[slice * all + i];
}
