/* pool.h: average pooling and its gradient, and the windows, which max_pool.h uses too.

       avg_pool        out[n, oy, ox, c] = mean over the window's pixels inside the image
       avg_pool_grad   out[n, iy, ix, c] = sum over the windows that see it of
                                           a[n, oy, ox, c] / (pixels of that window)

   The gradient gathers: every pixel of the result adds up its windows in a fixed order, so rows are
   independent. */

/* Finds the pixels first ... last - 1 of an axis that window `o` sees. */
INLINE ptrdiff_t NAME(window)(ptrdiff_t o, ptrdiff_t stride, ptrdiff_t before, ptrdiff_t kernel,
                              ptrdiff_t size, ptrdiff_t *first) {
    ptrdiff_t from = o * stride - before, to = from + kernel;
    *first = from < 0 ? 0 : from;
    return to < size ? to : size;
}

/* Finds the windows first ... last - 1 of an axis that see pixel `i`. */
INLINE ptrdiff_t NAME(windows)(ptrdiff_t i, ptrdiff_t stride, ptrdiff_t before, ptrdiff_t kernel,
                               ptrdiff_t outputs, ptrdiff_t *first) {
    ptrdiff_t at = i + before, from = at - kernel + 1, last = at / stride + 1;
    *first = from <= 0 ? 0 : (from + stride - 1) / stride;
    return last < outputs ? last : outputs;
}

INLINE int NAME(by_rows)(plan *p, ptrdiff_t rows, run_fn run) {
    const pool *q = &p->q;
    p->stages = 1;
    p->items[0] = q->n * rows;
    p->shared_bytes = p->scratch_bytes = 0;
    p->cycles = (double)(q->n * q->c * (q->h * q->w + q->oh * q->ow)) * (double)sizeof(REAL) / 8;
    p->run = run;
    return 1;
}

/* Sums of windows are in float64, however large the windows are. With float64 numbers the rounding error of
   each addition is kept too (Knuth, The Art of Computer Programming, volume 2, 4.2.2, theorem B), and added
   at the end. Lanes are channels: as many as a vector of float64 has. */
enum { NAME(WIDE) = VECTOR_BYTES / 8 };
typedef double NAME(wide) __attribute__((vector_size(VECTOR_BYTES)));
typedef REAL NAME(narrow) __attribute__((vector_size(NAME(WIDE) * sizeof(REAL))));
typedef REAL NAME(in_memory)
    __attribute__((vector_size(NAME(WIDE) * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));

INLINE NAME(wide) NAME(load_wide)(const REAL *from) {
    return __builtin_convertvector((NAME(narrow)) * (const NAME(in_memory) *)from, NAME(wide));
}

INLINE void NAME(store_wide)(REAL *to, NAME(wide) v) {
    *(NAME(in_memory) *)to = (NAME(in_memory)) __builtin_convertvector(v, NAME(narrow));
}

/* Adds `summand` to `sum`, and the addition's rounding error to `lost`. T is double or a vector of it. */
#define ADD(T, sum, lost, summand)                                                                           \
    do {                                                                                                     \
        const T number = (summand), before = (sum), after = before + number;                                 \
        (sum) = after;                                                                                       \
        if (sizeof(REAL) == sizeof(double)) {                                                                \
            const T added = after - before;                                                                  \
            (lost) += (before - (after - added)) + (number - added);                                         \
        }                                                                                                    \
    } while (0)

/* The sum with what it has lost. An infinite sum has lost nothing that is a number. */
INLINE double NAME(whole)(double sum, double lost) {
    return sizeof(REAL) == sizeof(double) && sum - sum == 0 ? sum + lost : sum;
}

INLINE NAME(wide) NAME(whole_wide)(NAME(wide) sum, NAME(wide) lost) {
    if (sizeof(REAL) == sizeof(double))
        for (int i = 0; i < NAME(WIDE); i++) sum[i] = NAME(whole)(sum[i], lost[i]);
    return sum;
}

/* The mean of a window that begins at x, for V vectors of channels. float64 numbers are divided, exactly to
   the last place; for float32 a product with the reciprocal is exact enough. */
INLINE void NAME(mean_of)(const REAL *x, ptrdiff_t line, ptrdiff_t c, ptrdiff_t rows, ptrdiff_t columns,
                          REAL *y, const int V) {
    const double pixels = (double)(rows * columns), share = 1 / pixels;
    NAME(wide) sum[4], lost[4];
    UNROLL
    for (int v = 0; v < V; v++) sum[v] = lost[v] = (NAME(wide)){0};
    for (ptrdiff_t iy = 0; iy < rows; iy++)
        for (ptrdiff_t ix = 0; ix < columns; ix++) {
            UNROLL
            for (int v = 0; v < V; v++)
                ADD(NAME(wide), sum[v], lost[v], NAME(load_wide)(x + iy * line + ix * c + v * NAME(WIDE)));
        }
    UNROLL
    for (int v = 0; v < V; v++) {
        const NAME(wide) all = NAME(whole_wide)(sum[v], lost[v]);
        NAME(store_wide)(y + v * NAME(WIDE), sizeof(REAL) == sizeof(double) ? all / pixels : all * share);
    }
}

static void NAME(avg_pool_run)(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) {
    const pool *q = &p->q;
    const ptrdiff_t image = item / q->oh, oy = item % q->oh, c = q->c, line = q->w * c;
    REAL *y = (REAL *)p->out + item * q->ow * c;
    ptrdiff_t y0, x0;
    (void)stage, (void)shared, (void)scratch;
    const ptrdiff_t rows = NAME(window)(oy, q->sh, q->pt, q->kh, q->h, &y0) - y0;
    for (ptrdiff_t ox = 0; ox < q->ow; ox++, y += c) {
        const ptrdiff_t columns = NAME(window)(ox, q->sw, q->pl, q->kw, q->w, &x0) - x0;
        const REAL *x = (const REAL *)p->a + image * q->h * line + y0 * line + x0 * c;
        ptrdiff_t i = 0;
        for (; i + 4 * NAME(WIDE) <= c; i += 4 * NAME(WIDE))
            NAME(mean_of)(x + i, line, c, rows, columns, y + i, 4);
        for (; i < c && c >= NAME(WIDE); i += NAME(WIDE)) { /* the last vector overlaps the one before */
            const ptrdiff_t from = min_of(i, c - NAME(WIDE));
            NAME(mean_of)(x + from, line, c, rows, columns, y + from, 1);
        }
        for (; i < c; i++) {
            double sum = 0, lost = 0;
            for (ptrdiff_t iy = 0; iy < rows; iy++)
                for (ptrdiff_t ix = 0; ix < columns; ix++)
                    ADD(double, sum, lost, (double)x[iy * line + ix * c + i]);
            y[i] = (REAL)(NAME(whole)(sum, lost) / (double)(rows * columns));
        }
    }
}

static int NAME(avg_pool)(plan *p) {
    return NAME(by_rows)(p, p->q.oh, NAME(avg_pool_run));
}

/* 1 / (number of pixels of window (oy, ox)). */
INLINE double NAME(share_of)(const pool *q, ptrdiff_t oy, ptrdiff_t ox) {
    ptrdiff_t y0, x0;
    const ptrdiff_t rows = NAME(window)(oy, q->sh, q->pt, q->kh, q->h, &y0) - y0;
    return 1 / (double)(rows * (NAME(window)(ox, q->sw, q->pl, q->kw, q->w, &x0) - x0));
}

static void NAME(avg_pool_grad_run)(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) {
    const pool *q = &p->q;
    const ptrdiff_t image = item / q->h, iy = item % q->h, c = q->c;
    const REAL *grad = (const REAL *)p->a + image * q->oh * q->ow * c;
    REAL *to = (REAL *)p->out + item * q->w * c;
    ptrdiff_t oy0, ox0;
    (void)stage, (void)shared, (void)scratch;
    const ptrdiff_t oy1 = NAME(windows)(iy, q->sh, q->pt, q->kh, q->oh, &oy0);
    for (ptrdiff_t ix = 0; ix < q->w; ix++, to += c) {
        const ptrdiff_t ox1 = NAME(windows)(ix, q->sw, q->pl, q->kw, q->ow, &ox0);
        if (oy1 - oy0 == 1 && ox1 - ox0 == 1) { /* the usual case: nothing to add up */
            const REAL *from = grad + (oy0 * q->ow + ox0) * c, share = (REAL)NAME(share_of)(q, oy0, ox0);
            for (ptrdiff_t i = 0; i < c; i++) to[i] = from[i] * share;
            continue;
        }
        for (ptrdiff_t next = 0; next < c && c >= NAME(WIDE); next += NAME(WIDE)) {
            const ptrdiff_t i = min_of(next, c - NAME(WIDE));
            NAME(wide) sum = {0}, lost = {0};
            for (ptrdiff_t oy = oy0; oy < oy1; oy++)
                for (ptrdiff_t ox = ox0; ox < ox1; ox++)
                    ADD(NAME(wide), sum, lost,
                        NAME(load_wide)(grad + (oy * q->ow + ox) * c + i) * NAME(share_of)(q, oy, ox));
            NAME(store_wide)(to + i, NAME(whole_wide)(sum, lost));
        }
        for (ptrdiff_t i = 0; i < c && c < NAME(WIDE); i++) {
            double sum = 0, lost = 0;
            for (ptrdiff_t oy = oy0; oy < oy1; oy++)
                for (ptrdiff_t ox = ox0; ox < ox1; ox++)
                    ADD(double, sum, lost,
                        (double)grad[(oy * q->ow + ox) * c + i] * NAME(share_of)(q, oy, ox));
            to[i] = (REAL)NAME(whole)(sum, lost);
        }
    }
}
#undef ADD

static int NAME(avg_pool_grad)(plan *p) {
    return NAME(by_rows)(p, p->q.h, NAME(avg_pool_grad_run));
}
