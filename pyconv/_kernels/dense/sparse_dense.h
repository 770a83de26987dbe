/* sparse_dense.h: a fully connected layer between ReLUs, which skips their zeros. In training, a third of its
   inputs are not zero after a convolution's ReLU, and a tenth of the errors that come back through its own
   ReLU.

       forward       y[n, k]  = sum over c of x[n, c] w[c, k]       x has zeros
       input grad    dx[n, c] = sum over k of e[n, k] w[c, k]       e has zeros
       weight grad   dw[c, k] = sum over n of e[n, k] x[n, c]       e has zeros

   BLAS has no such product, and a dense product does all the work. Lanes are units k in the forward pass and
   inputs c in the gradients. Panels are copies: rows of the filters, transposed filters, and images.

   With vectors of four numbers BLAS does the whole product faster than this file does half of it.

   Zero times NaN or infinity is NaN; to skip it would hide that a network has diverged. So the panels are
   searched while they are in the cache: if a number in them is not finite, out2 (an int, or NULL) is set to
   1, and the caller computes the whole product instead. */

enum {
    NAME(BLOCK_VECTORS) = VECTOR_BYTES == 64 ? 6
                                             : 8, /* at least as many sums as a multiply-add takes cycles */
    NAME(BLOCK) = NAME(BLOCK_VECTORS) * LANES,    /* inputs that the gradients do at a time */
    NAME(TILE_ROWS) = 128, /* rows of the weight gradient that are transposed together */
    NAME(FORWARD_PARTS) = 16,
    NAME(PARTS_BYTES) = 8 << 20
};

typedef struct NAME(layer) {
    ptrdiff_t inner, pieces,
        longest; /* terms of each sum, cut into pieces so that a panel stays in the cache */
    ptrdiff_t rows, row_step, step;   /* of the factors; each row becomes a list */
    ptrdiff_t list_bytes;             /* the lists of a piece */
    ptrdiff_t vectors, blocks, parts; /* forward: vectors of units in a block, blocks, parts of the pieces */
    ptrdiff_t tail;                   /* few_examples.h: rows of the weights that are copied */
} NAME(layer);

/* Where the terms of a piece begin, and how many there are. */
INLINE ptrdiff_t NAME(piece)(const NAME(layer) * d, ptrdiff_t piece, ptrdiff_t *count) {
    const ptrdiff_t from = even_cut(d->inner, d->pieces, piece);
    *count = even_cut(d->inner, d->pieces, piece + 1) - from;
    return from;
}

/* The factors of a piece, whose terms begin at `from`, with their lists in `memory`. */
INLINE NAME(sparse) NAME(piece_of)(const NAME(layer) * d, const REAL *factors, ptrdiff_t from, void *memory) {
    NAME(sparse) t;
    t.factors = (NAME(factors)){factors + from * d->step, d->rows, d->row_step, d->step};
    t.lists = NAME(lists_in)(memory, d->rows);
    t.first = 0, t.last = d->rows;
    t.to_read.rows = t.to_write.rows = 0;
    return t;
}

/* Sets out2 to 1 if a lane of `found` is not zero. `found` holds differences between numbers and themselves:
   for NaN and infinity they are not zero. */
INLINE void NAME(say)(const plan *p, ivec found) {
    INTEGER any = 0;
    UNROLL
    for (int lane = 0; lane < LANES; lane++) any |= found[lane];
    if (any && p->out2) __atomic_store_n((int *)p->out2, 1, __ATOMIC_RELAXED);
}

/* Searches a panel of whole vectors, four sums apart so that none waits for the other. */
static void NAME(look_through)(const plan *p, const REAL *panel, ptrdiff_t count) {
    ivec found[4] = {{0}, {0}, {0}, {0}};
    ptrdiff_t i = 0;
    for (; i + 4 * LANES <= count; i += 4 * LANES) {
        UNROLL
        for (int n = 0; n < 4; n++) {
            const vec v = NAME(load)(panel + i + n * LANES);
            found[n] |= (ivec)(v - v);
        }
    }
    for (; i < count; i += LANES) {
        const vec v = NAME(load)(panel + i);
        found[0] |= (ivec)(v - v);
    }
    NAME(say)(p, found[0] | found[1] | found[2] | found[3]);
}

/* Copies rows[count][width] to panel[count][padded], and searches them on the way. */
static void NAME(copy_panel)(const plan *p, const REAL *rows, ptrdiff_t step, ptrdiff_t count,
                             ptrdiff_t width, ptrdiff_t padded, REAL *panel) {
    ivec found = {0};
    for (ptrdiff_t row = 0; row < count; row++, rows += step, panel += padded)
        for (ptrdiff_t i = 0; i < padded; i += LANES) {
            const vec v = i < width ? NAME(load_some)(rows + i, width - i) : (vec){0};
            found |= (ivec)(v - v);
            NAME(store)(panel + i, v);
        }
    NAME(say)(p, found);
}

/* ---- forward ------------------------------------------------------------------------------------------- */

/* Item: some of the pieces. Their sums go to its own part of `shared`, [block][example][vectors of units]. */
static void NAME(sparse_part)(const plan *p, ptrdiff_t part, REAL *sums, void *scratch) {
    const NAME(layer) *d = (const void *)p->own;
    const ptrdiff_t k = p->g.k, width = d->vectors * LANES;
    const ptrdiff_t first = even_cut(d->pieces, d->parts, part),
                    last = even_cut(d->pieces, d->parts, part + 1);
    REAL *const panel = (void *)((char *)scratch + d->list_bytes);
    for (ptrdiff_t piece = first; piece < last; piece++) {
        ptrdiff_t count;
        const ptrdiff_t from = NAME(piece)(d, piece, &count);
        NAME(sparse) t = NAME(piece_of)(d, p->a, from, scratch);
        NAME(make_lists)(&t.lists, &t.factors, count);
        t.panel = panel, t.step = width, t.fresh = piece == first;
        for (ptrdiff_t block = 0; block < d->blocks; block++) {
            const REAL *const w = (const REAL *)p->b + from * k + block * width;
            NAME(copy_panel)(p, w, k, count, min_of(k - block * width, width), width, panel);
            t.out = sums + block * d->rows * width;
            if (block + 1 < d->blocks)
                t.to_read = (NAME(ahead)){w + width, count, min_of(k - (block + 1) * width, width), k};
            else if (piece + 1 < last)
                t.to_read = (NAME(ahead)){(const REAL *)p->b + (from + count) * k,
                                          min_of(count, d->inner - from - count), min_of(k, width), k};
            else
                t.to_read.rows = 0;
            NAME(add_lists)[d->vectors - 1](&t);
        }
    }
}

/* Item: a block of units. Adds up the parts' sums in order, then bias and ReLU. */
static void NAME(sparse_sum)(const plan *p, ptrdiff_t block, REAL *shared) {
    const NAME(layer) *d = (const void *)p->own;
    const ptrdiff_t k = p->g.k, width = d->vectors * LANES, size = d->blocks * d->rows * width;
    const ptrdiff_t units = min_of(k - block * width, width);
    for (ptrdiff_t n = 0; n < d->rows; n++) {
        REAL *const sums = shared + (block * d->rows + n) * width;
        REAL *const y = (REAL *)p->out + n * k + block * width;
        for (ptrdiff_t part = 1; part < d->parts; part++)
            for (ptrdiff_t i = 0; i < width; i++) sums[i] += sums[part * size + i];
        for (ptrdiff_t i = 0; i < units; i++) {
            const REAL sum = p->bias ? sums[i] + ((const REAL *)p->bias)[block * width + i] : sums[i];
            y[i] = p->relu && sum < 0 ? 0 : sum;
        }
    }
}

static void NAME(sparse_forward_run)(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) {
    const NAME(layer) *d = (const void *)p->own;
    if (stage == 0)
        NAME(sparse_part)(p, item, (REAL *)shared + item * d->blocks * d->rows * d->vectors * LANES, scratch);
    else
        NAME(sparse_sum)(p, item, shared);
}

/* ---- gradients ----------------------------------------------------------------------------------------- */

/* Stage 0, an item: makes the lists of one piece of the errors. */
static void NAME(list_errors)(const plan *p, const REAL *errors, ptrdiff_t piece, void *shared) {
    const NAME(layer) *d = (const void *)p->own;
    ptrdiff_t count;
    const ptrdiff_t from = NAME(piece)(d, piece, &count);
    const NAME(sparse) t = NAME(piece_of)(d, errors, from, (char *)shared + piece * d->list_bytes);
    NAME(make_lists)(&t.lists, &t.factors, count);
}

/* Stage 1, an item: the result for a block of inputs. */
static void NAME(sparse_input_block)(const plan *p, ptrdiff_t item, void *shared, REAL *scratch) {
    const NAME(layer) *d = (const void *)p->own;
    const ptrdiff_t c = p->g.c, k = p->g.k, first = item * NAME(BLOCK),
                    inputs = min_of(c - first, NAME(BLOCK));
    const int whole = inputs == NAME(BLOCK);
    REAL *const panel = scratch, *const tile = panel + d->longest * NAME(BLOCK);
    REAL *const out = (REAL *)p->out + first;
    if (!whole) memset(panel, 0, (size_t)(d->longest * NAME(BLOCK)) * sizeof(REAL));
    for (ptrdiff_t piece = 0; piece < d->pieces; piece++) {
        ptrdiff_t count;
        const ptrdiff_t from = NAME(piece)(d, piece, &count);
        const REAL *const w = (const REAL *)p->b + first * k + from;
        NAME(transpose_matrix)(w, k, inputs, count, panel, NAME(BLOCK));
        NAME(look_through)(p, panel, count * NAME(BLOCK));
        NAME(sparse) t = NAME(piece_of)(d, p->a, from, (char *)shared + piece * d->list_bytes);
        t.panel = panel, t.fresh = piece == 0;
        t.out = whole ? out : tile, t.step = whole ? c : NAME(BLOCK);
        if (piece + 1 < d->pieces)
            t.to_read = (NAME(ahead)){w + count, inputs, count, k};
        else if (first + inputs < c) {
            const ptrdiff_t following = min_of(c - first - inputs, NAME(BLOCK));
            t.to_read = (NAME(ahead)){w - from + inputs * k, following, d->longest, k};
            t.to_write = (NAME(ahead)){out + inputs, d->rows, following, c};
        }
        NAME(add_lists)[NAME(BLOCK_VECTORS) - 1](&t);
    }
    if (!whole)
        for (ptrdiff_t n = 0; n < d->rows; n++)
            memcpy(out + n * c, tile + n * NAME(BLOCK), (size_t)inputs * sizeof(REAL));
}

static void NAME(sparse_weight_block)(const plan *p, ptrdiff_t item, void *shared, REAL *scratch) {
    const NAME(layer) *d = (const void *)p->own;
    const ptrdiff_t c = p->g.c, k = p->g.k, first = item * NAME(BLOCK),
                    inputs = min_of(c - first, NAME(BLOCK));
    REAL *const panel = scratch, *const tile = panel + d->longest * NAME(BLOCK);
    for (ptrdiff_t unit = 0; unit < k; unit += NAME(TILE_ROWS)) {
        const ptrdiff_t units = min_of(k - unit, NAME(TILE_ROWS));
        for (ptrdiff_t piece = 0; piece < d->pieces; piece++) {
            ptrdiff_t count;
            const ptrdiff_t from = NAME(piece)(d, piece, &count);
            NAME(copy_panel)(p, (const REAL *)p->a + from * c + first, c, count, inputs, NAME(BLOCK), panel);
            NAME(sparse) t = NAME(piece_of)(d, p->b, from, (char *)shared + piece * d->list_bytes);
            t.panel = panel, t.fresh = piece == 0;
            t.out = tile, t.step = NAME(BLOCK);
            t.first = unit, t.last = unit + units;
            if (piece + 1 == d->pieces)
                t.to_write = (NAME(ahead)){(REAL *)p->out + first * k + unit, inputs, units, k};
            if (first + inputs < c)
                t.to_read = (NAME(ahead)){(const REAL *)p->a + from * c + first + inputs, count, inputs, c};
            NAME(add_lists)[NAME(BLOCK_VECTORS) - 1](&t);
        }
        NAME(transpose_matrix)(tile, NAME(BLOCK), units, inputs, (REAL *)p->out + first * k + unit, k);
    }
}

static void NAME(sparse_input_grad_run)(const plan *p, int stage, ptrdiff_t item, void *shared,
                                        void *scratch) {
    if (stage == 0)
        NAME(list_errors)(p, p->a, item, shared);
    else
        NAME(sparse_input_block)(p, item, shared, scratch);
}

static void NAME(sparse_weight_grad_run)(const plan *p, int stage, ptrdiff_t item, void *shared,
                                         void *scratch) {
    if (stage == 0)
        NAME(list_errors)(p, p->b, item, shared);
    else
        NAME(sparse_weight_block)(p, item, shared, scratch);
}

/* ---- plans --------------------------------------------------------------------------------------------- */

/* Each sum has `inner` terms, `step` apart; there are `rows` lists. */
INLINE int NAME(plan_sparse)(plan *p, ptrdiff_t inner, ptrdiff_t step, ptrdiff_t rows, ptrdiff_t row_step,
                             ptrdiff_t width, run_fn run) {
    NAME(layer) *d = (void *)p->own;
    if (VECTOR_BYTES < 32 || inner < NAME(SHORTEST) || rows < NAME(FEWEST)) return 0;
    d->inner = inner, d->step = step, d->rows = rows, d->row_step = row_step;
    d->pieces = ceil_div(inner * width * (ptrdiff_t)sizeof(REAL), NAME(PANEL_BYTES));
    d->longest = ceil_div(inner, d->pieces);
    d->list_bytes = NAME(list_bytes)(rows, d->longest);
    p->stages = 2;
    p->cycles = (double)(p->g.n * p->g.k) * (double)p->g.c / LANES / 2;
    p->run = run;
    return 1;
}

INLINE int NAME(plan_sparse_grad)(plan *p, ptrdiff_t tile_rows) {
    NAME(layer) *d = (void *)p->own;
    p->items[0] = d->pieces;
    p->items[1] = ceil_div(p->g.c, NAME(BLOCK));
    p->shared_bytes = (size_t)(d->pieces * d->list_bytes);
    p->scratch_bytes = (size_t)((d->longest + tile_rows) * NAME(BLOCK)) * sizeof(REAL);
    return 1;
}

/* Of p->g only n (examples), c (inputs) and k (units) are read. */

/* a: images (n, c), b: filters (c, k), bias: (k,) or NULL, out: (n, k); with relu. */
static int NAME(sparse_forward)(plan *p) {
    NAME(layer) *d = (void *)p->own;
    const ptrdiff_t n = p->g.n, c = p->g.c, vectors = ceil_div(p->g.k, LANES), blocks = ceil_div(vectors, 8);
    const ptrdiff_t width = ceil_div(vectors, blocks) * LANES;
    const ptrdiff_t sums = blocks * n * width * (ptrdiff_t)sizeof(REAL);
    if (!NAME(plan_sparse)(p, c, 1, n, c, width, NAME(sparse_forward_run))) return 0;
    d->vectors = width / LANES, d->blocks = blocks;
    d->parts = max_of(1, min_of(min_of(d->pieces, NAME(FORWARD_PARTS)), NAME(PARTS_BYTES) / sums));
    p->items[0] = d->parts;
    p->items[1] = blocks;
    p->shared_bytes = (size_t)(d->parts * sums);
    p->scratch_bytes = (size_t)(d->list_bytes + d->longest * width * (ptrdiff_t)sizeof(REAL));
    return 1;
}

/* a: errors (n, k), b: filters (c, k), out: (n, c). */
static int NAME(sparse_input_grad)(plan *p) {
    const ptrdiff_t n = p->g.n, k = p->g.k;
    return NAME(plan_sparse)(p, k, 1, n, k, NAME(BLOCK), NAME(sparse_input_grad_run)) &&
           NAME(plan_sparse_grad)(p, n);
}

/* a: images (n, c), b: errors (n, k), out: (c, k). */
static int NAME(sparse_weight_grad)(plan *p) {
    const ptrdiff_t n = p->g.n, k = p->g.k;
    return NAME(plan_sparse)(p, n, k, k, 1, NAME(BLOCK), NAME(sparse_weight_grad_run)) &&
           NAME(plan_sparse_grad)(p, min_of(k, NAME(TILE_ROWS)));
}
