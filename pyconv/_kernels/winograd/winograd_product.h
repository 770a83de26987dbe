/* winograd_product.h: the products of matrices between the transforms, PRODUCT_ROWS x PRODUCT_VECTORS vectors
   of results at a time.

   The results stay in registers while the sum runs. In each step the kernel loads PRODUCT_VECTORS vectors and
   broadcasts PRODUCT_ROWS scalars, so that there are two multiply-adds (rows x vectors) or more for each load
   (rows + vectors):

       32 registers      6 x 4 = 24 results + 4 + 1
       16 registers      6 x 2 = 12 results + 2 + 1

   Fewer rows or vectors, for an edge, are compiled too, so that nothing is computed for padding. Long edges
   are cut evenly (16 rows as 6 + 5 + 5, not as 6 + 6 + 4), because few results at once do not hide the
   latency of a multiply-add.
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

/* to[r][:] (+)= sum over i < length of scalars[scalar_row[r] + i * scalar_step] * vectors[i * vector_row].
   More such runs may follow: each goes on in `vectors` where the one before ended, and `skip` further on in
   `scalars`. */
typedef struct NAME(product) {
    ptrdiff_t length, more_runs, skip;
    const REAL *scalars, *vectors;
    REAL *to;
    ptrdiff_t scalar_row[PRODUCT_ROWS], scalar_step, vector_row, to_row;
    int add; /* add to what `to` holds */
} NAME(product);

INLINE void NAME(product_tile)(const NAME(product) * p, const int rows, const int width) {
    vec sum[PRODUCT_ROWS][PRODUCT_VECTORS];
    const REAL *scalars[PRODUCT_ROWS], *vectors = p->vectors;
    const ptrdiff_t step = p->scalar_step, next = p->vector_row, skip = p->skip;
    UNROLL
    for (int r = 0; r < rows; r++) {
        scalars[r] = p->scalars + p->scalar_row[r];
        UNROLL
        for (int v = 0; v < width; v++) sum[r][v] = (vec){0};
    }
    for (ptrdiff_t runs = p->more_runs; runs >= 0; runs--) {
        for (ptrdiff_t i = p->length; i > 0; i--) {
            vec factor[PRODUCT_VECTORS];
            UNROLL
            for (int v = 0; v < width; v++) factor[v] = NAME(load)(vectors + v * LANES);
            UNROLL
            for (int r = 0; r < rows; r++) {
                UNROLL
                for (int v = 0; v < width; v++) sum[r][v] += *scalars[r] * factor[v];
                scalars[r] += step;
            }
            vectors += next;
        }
        UNROLL
        for (int r = 0; r < rows; r++) scalars[r] += skip;
    }
    UNROLL
    for (int r = 0; r < rows; r++) {
        vec *to = (vec *)(p->to + r * p->to_row);
        UNROLL
        for (int v = 0; v < width; v++) to[v] = p->add ? to[v] + sum[r][v] : sum[r][v];
    }
}

#define PRODUCT(rows, width)                                                                                 \
    static void NAME(product_##rows##x##width)(const NAME(product) * p) {                                    \
        NAME(product_tile)(p, rows, width);                                                                  \
    }
#define PRODUCTS(width)                                                                                      \
    PRODUCT(1, width)                                                                                        \
    PRODUCT(2, width) PRODUCT(3, width) PRODUCT(4, width) PRODUCT(5, width) PRODUCT(6, width)
#define BY_ROWS(width)                                                                                       \
    {NAME(product_1x##width), NAME(product_2x##width), NAME(product_3x##width),                              \
     NAME(product_4x##width), NAME(product_5x##width), NAME(product_6x##width)}

PRODUCTS(1)
PRODUCTS(2)
#if PRODUCT_VECTORS == 4
PRODUCTS(3)
PRODUCTS(4)
#endif

/* By width - 1 and rows - 1. */
static void (*const NAME(products)[PRODUCT_VECTORS][PRODUCT_ROWS])(const NAME(product) *) = {
    BY_ROWS(1),
    BY_ROWS(2),
#if PRODUCT_VECTORS == 4
    BY_ROWS(3),
    BY_ROWS(4),
#endif
};

#undef PRODUCT
#undef PRODUCTS
#undef BY_ROWS

/* A panel is a group of up to PRODUCT_VECTORS vectors of filters. Returns how many panels `vectors` are cut
   into; the cut is even. */
INLINE ptrdiff_t NAME(panels_of)(ptrdiff_t vectors) {
    return ceil_div(vectors, PRODUCT_VECTORS);
}

/* M[tiles][width] = V[tiles][channels] U[channels][width]; `width` counts the vectors of a panel; with `add`
   it is added to M. The sum over channels is taken in parts: a part of U stays in the L1 cache while the
   tiles pass, and several short sums round less than one long one. */
static void NAME(multiply_point)(ptrdiff_t tiles, ptrdiff_t channels, ptrdiff_t width, const REAL *v,
                                 ptrdiff_t v_row, const REAL *u, int add, REAL *m) {
    const ptrdiff_t cuts = ceil_div(tiles, PRODUCT_ROWS), row = width * LANES;
    const ptrdiff_t parts = ceil_div(channels, SUM_CHANNELS);
    for (ptrdiff_t part = 0; part < parts; part++) {
        const ptrdiff_t c = even_cut(channels, parts, part);
        NAME(product)
        p = {.length = even_cut(channels, parts, part + 1) - c,
             .vectors = u + c * row,
             .scalar_step = 1,
             .vector_row = row,
             .to_row = row,
             .add = add || part > 0};
        for (int r = 0; r < PRODUCT_ROWS; r++) p.scalar_row[r] = r * v_row;
        for (ptrdiff_t cut = 0; cut < cuts; cut++) {
            const ptrdiff_t first = even_cut(tiles, cuts, cut), rows = even_cut(tiles, cuts, cut + 1) - first;
            p.scalars = v + first * v_row + c;
            p.to = m + first * row;
            NAME(products)[width - 1][rows - 1](&p);
        }
    }
}

/* S[channels][vectors] += V[tiles][channels]' W[tiles][vectors]. */
static void NAME(accumulate_point)(ptrdiff_t tiles, ptrdiff_t channels, ptrdiff_t vectors, const REAL *v,
                                   ptrdiff_t v_row, const REAL *w, ptrdiff_t w_row, REAL *s) {
    const ptrdiff_t cuts = ceil_div(channels, PRODUCT_ROWS), panels = NAME(panels_of)(vectors);
    NAME(product)
    p = {.length = tiles, .scalar_step = v_row, .vector_row = w_row, .to_row = vectors * LANES, .add = 1};
    for (int r = 0; r < PRODUCT_ROWS; r++) p.scalar_row[r] = r;
    for (ptrdiff_t panel = 0; panel < panels; panel++) {
        const ptrdiff_t start = even_cut(vectors, panels, panel);
        const ptrdiff_t width = even_cut(vectors, panels, panel + 1) - start;
        p.vectors = w + start * LANES;
        for (ptrdiff_t cut = 0; cut < cuts; cut++) {
            const ptrdiff_t c = even_cut(channels, cuts, cut), rows = even_cut(channels, cuts, cut + 1) - c;
            p.scalars = v + c;
            p.to = s + c * p.to_row + start * LANES;
            NAME(products)[width - 1][rows - 1](&p);
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
