/* matrix.h: the product of two matrices, for dense layers.

       out[i, j] = act(bias[j] + sum over l of A[i, l] B[l, j])          i < m, j < n, l < k

   A is a, (m, k), or with a_turned the transpose of a, (k, m); B is b, (k, n), or the transpose of b, (n, k);
   the bias (n,) and the ReLU are optional. The inner loop is the register tile of winograd_product.h: rows of
   A are broadcast against vectors of B, which are packed, a block of MATRIX_SUM rows of a panel of B at a
   time, so that they stay in the first-level cache while the rows of A pass.

   Stage 0, an item: a block of rows, a panel of PRODUCT_VECTORS vectors of columns, and one part of the sum.
   Long sums with few results are cut into parts, so that there is work for several threads; stage 1 then adds
   the parts in their order. How everything is cut depends on m, n and k alone. */

enum { NAME(MATRIX_ROWS) = 96, NAME(MATRIX_SUM) = 64, NAME(MATRIX_ITEMS) = 16 };

typedef struct NAME(matrix) {
    ptrdiff_t vectors, panels, row_blocks, parts;
} NAME(matrix);

/* Where a panel of columns begins, in vectors, and how many it has. */
typedef struct NAME(columns) {
    ptrdiff_t first, width;
} NAME(columns);

INLINE NAME(columns) NAME(columns_of)(const NAME(matrix) * d, ptrdiff_t panel) {
    const ptrdiff_t first = even_cut(d->vectors, d->panels, panel);
    return (NAME(columns)){first, even_cut(d->vectors, d->panels, panel + 1) - first};
}

/* Rows l ... l + count - 1 of B, the columns of a panel, to [l][width LANES]. The last vector overlaps the
   one before it, as everywhere; lanes that do not exist are zero. */
static void NAME(pack_columns)(const plan *p, NAME(columns) at, ptrdiff_t l, ptrdiff_t count, REAL *to) {
    const matrix *q = &p->m;
    const ptrdiff_t row = at.width * LANES, lanes = min_of(q->n, LANES);
    for (ptrdiff_t v = 0; v < at.width; v++) {
        const ptrdiff_t j = NAME(vector_start)(at.first + v, q->n);
        if (!q->b_turned) {
            const REAL *from = (const REAL *)p->b + l * q->n + j;
            for (ptrdiff_t i = 0; i < count; i++)
                *(vec *)(to + i * row + v * LANES) = NAME(load_lanes)(from + i * q->n, lanes);
            continue;
        }
        const REAL *from = (const REAL *)p->b + j * q->k + l;
        for (ptrdiff_t i = 0; i < count; i += LANES) {
            vec block[LANES];
            const ptrdiff_t some = min_of(count - i, LANES);
            for (ptrdiff_t lane = 0; lane < LANES; lane++)
                block[lane] = lane < lanes ? NAME(load_lanes)(from + lane * q->k + i, some) : (vec){0};
            NAME(transpose)(block);
            for (ptrdiff_t step = 0; step < some; step++)
                *(vec *)(to + (i + step) * row + v * LANES) = block[step];
        }
    }
}

/* Columns i ... i + rows - 1 of a, rows l ... l + count - 1: turned A, to [l][rows]. */
static void NAME(pack_rows)(const plan *p, ptrdiff_t i, ptrdiff_t rows, ptrdiff_t l, ptrdiff_t count,
                            REAL *to) {
    const REAL *from = (const REAL *)p->a + l * p->m.m + i;
    for (ptrdiff_t step = 0; step < count; step++, from += p->m.m, to += rows)
        memcpy(to, from, (size_t)rows * sizeof(REAL));
}

/* A row of sums, `width` vectors from vector `first` on, becomes a row of the result. */
INLINE void NAME(write_row)(const plan *p, NAME(columns) at, const REAL *sums, REAL *row) {
    const ptrdiff_t n = p->m.n, lanes = min_of(n, LANES);
    for (ptrdiff_t v = 0; v < at.width; v++) {
        const ptrdiff_t j = NAME(vector_start)(at.first + v, n);
        vec sum = *(const vec *)(sums + v * LANES);
        if (p->bias) sum += NAME(load_lanes)((const REAL *)p->bias + j, lanes);
        NAME(store_lanes)(row + j, p->relu ? NAME(positive)(sum) : sum, lanes);
    }
}

static void NAME(matrix_part)(const plan *p, ptrdiff_t item, REAL *shared, REAL *scratch) {
    const NAME(matrix) *d = (const void *)p->own;
    const matrix *q = &p->m;
    const ptrdiff_t part = item % d->parts, panel = item / d->parts % d->panels;
    const ptrdiff_t block = item / d->parts / d->panels;
    const ptrdiff_t i = even_cut(q->m, d->row_blocks, block);
    const ptrdiff_t rows = even_cut(q->m, d->row_blocks, block + 1) - i;
    const ptrdiff_t cuts = ceil_div(rows, PRODUCT_ROWS);
    const NAME(columns) at = NAME(columns_of)(d, panel);
    const ptrdiff_t last = even_cut(q->k, d->parts, part + 1), width = at.width * LANES;
    const int in_place = cuts == 1 && !q->b_turned && q->n % LANES == 0;
    REAL *b = scratch, *a = b + NAME(MATRIX_SUM) * PRODUCT_VECTORS * LANES;
    REAL *sums = a + NAME(MATRIX_SUM) * NAME(MATRIX_ROWS);
    NAME(product) t = {.vectors = b, .vector_row = width, .to_row = width};
    for (ptrdiff_t l = even_cut(q->k, d->parts, part); l < last; l += NAME(MATRIX_SUM)) {
        t.length = min_of(last - l, NAME(MATRIX_SUM));
        if (in_place) {
            t.vectors = (const REAL *)p->b + l * q->n + at.first * LANES;
            t.vector_row = q->n;
        } else
            NAME(pack_columns)(p, at, l, t.length, b);
        if (q->a_turned) NAME(pack_rows)(p, i, rows, l, t.length, a);
        t.scalar_row = q->a_turned ? 1 : q->k;
        t.scalar_step = q->a_turned ? rows : 1;
        for (ptrdiff_t cut = 0; cut < cuts; cut++) {
            const ptrdiff_t r = even_cut(rows, cuts, cut), next = even_cut(rows, cuts, cut + 1);
            t.scalars = q->a_turned ? a + r : (const REAL *)p->a + (i + r) * q->k + l;
            t.to = sums + r * width;
            NAME(products)[at.width - 1][next - r - 1](&t);
        }
        t.add = 1;
    }
    if (!t.add) memset(sums, 0, (size_t)(rows * width) * sizeof(REAL)); /* a sum of nothing */
    for (ptrdiff_t r = 0; r < rows; r++) {
        if (d->parts == 1)
            NAME(write_row)(p, at, sums + r * width, (REAL *)p->out + (i + r) * q->n);
        else
            memcpy(shared + ((part * q->m + i + r) * d->vectors + at.first) * LANES, sums + r * width,
                   (size_t)width * sizeof(REAL));
    }
}

static void NAME(matrix_run)(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) {
    const NAME(matrix) *d = (const void *)p->own;
    if (stage == 0) {
        NAME(matrix_part)(p, item, shared, scratch);
        return;
    }
    const ptrdiff_t row = d->vectors * LANES;
    REAL *sums = (REAL *)shared + item * row;
    for (ptrdiff_t part = 1; part < d->parts; part++)
        for (ptrdiff_t j = 0; j < row; j += LANES)
            *(vec *)(sums + j) += *(const vec *)(sums + part * p->m.m * row + j);
    NAME(write_row)(p, (NAME(columns)){0, d->vectors}, sums, (REAL *)p->out + item * p->m.n);
}

static int NAME(matrix_product)(plan *p) {
    const matrix *q = &p->m;
    NAME(matrix) *d = (void *)p->own;
    const ptrdiff_t size = sizeof(REAL);
    d->vectors = ceil_div(q->n, LANES);
    d->panels = NAME(panels_of)(d->vectors);
    d->row_blocks = ceil_div(q->m, NAME(MATRIX_ROWS));
    const ptrdiff_t items = d->panels * d->row_blocks;
    d->parts = items ? min_of(ceil_div(NAME(MATRIX_ITEMS), items), q->k / (4 * NAME(MATRIX_SUM))) : 1;
    d->parts = max_of(d->parts, 1);
    p->stages = d->parts > 1 ? 2 : 1;
    p->items[0] = items * d->parts;
    p->items[1] = q->m;
    p->shared_bytes = d->parts > 1 ? (size_t)(d->parts * q->m * d->vectors * LANES * size) : 0;
    p->scratch_bytes = (size_t)((NAME(MATRIX_SUM) + NAME(MATRIX_ROWS)) * PRODUCT_VECTORS * LANES * size +
                                NAME(MATRIX_SUM) * NAME(MATRIX_ROWS) * size);
    p->cycles = cost_direct((double)q->m * (double)q->k * (double)d->vectors);
    p->run = NAME(matrix_run);
    return 1;
}
