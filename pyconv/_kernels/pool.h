/* pool.h: average pooling with its gradient, and the windows that max pooling (max_pool.h) shares.

       avg_pool        out[n, oy, ox, c] = mean over the window's pixels inside the image
       avg_pool_grad   out[n, iy, ix, c] = sum over the windows that see it of
                                           a[n, oy, ox, c] / (pixels of that window)

   The gradient gathers: every pixel of the result adds up its windows in a fixed order, so rows are
   independent. */

/* The pixels first ... last - 1 of an axis that window `o` sees. */
INLINE ptrdiff_t NAME(window)(ptrdiff_t o, ptrdiff_t stride, ptrdiff_t before, ptrdiff_t kernel,
                              ptrdiff_t size, ptrdiff_t *first) {
    ptrdiff_t from = o * stride - before, to = from + kernel;
    *first = from < 0 ? 0 : from;
    return to < size ? to : size;
}

/* The windows first ... last - 1 of an axis that see pixel `i`. */
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

static void NAME(avg_pool_run)(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) {
    const pool *q = &p->q;
    ptrdiff_t image = item / q->oh, oy = item % q->oh, y0, y1, x0, x1;
    const REAL *x = (const REAL *)p->a + image * q->h * q->w * q->c;
    REAL *y = (REAL *)p->out + item * q->ow * q->c;
    (void)stage, (void)shared, (void)scratch;
    y1 = NAME(window)(oy, q->sh, q->pt, q->kh, q->h, &y0);
    for (ptrdiff_t ox = 0; ox < q->ow; ox++) {
        REAL *to = y + ox * q->c;
        x1 = NAME(window)(ox, q->sw, q->pl, q->kw, q->w, &x0);
        const REAL share = 1 / (REAL)((y1 - y0) * (x1 - x0));
        for (ptrdiff_t c = 0; c < q->c; c++) to[c] = 0;
        for (ptrdiff_t iy = y0; iy < y1; iy++)
            for (ptrdiff_t ix = x0; ix < x1; ix++) {
                const REAL *from = x + (iy * q->w + ix) * q->c;
                for (ptrdiff_t c = 0; c < q->c; c++) to[c] += from[c];
            }
        for (ptrdiff_t c = 0; c < q->c; c++) to[c] *= share;
    }
}

static int NAME(avg_pool)(plan *p) {
    return NAME(by_rows)(p, p->q.oh, NAME(avg_pool_run));
}

static void NAME(avg_pool_grad_run)(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) {
    const pool *q = &p->q;
    ptrdiff_t image = item / q->h, iy = item % q->h, oy0, oy1, ox0, ox1, y0, y1, x0, x1;
    const REAL *grad = (const REAL *)p->a + image * q->oh * q->ow * q->c;
    REAL *gx = (REAL *)p->out + item * q->w * q->c;
    (void)stage, (void)shared, (void)scratch;
    oy1 = NAME(windows)(iy, q->sh, q->pt, q->kh, q->oh, &oy0);
    for (ptrdiff_t ix = 0; ix < q->w; ix++) {
        REAL *to = gx + ix * q->c;
        ox1 = NAME(windows)(ix, q->sw, q->pl, q->kw, q->ow, &ox0);
        for (ptrdiff_t c = 0; c < q->c; c++) to[c] = 0;
        for (ptrdiff_t oy = oy0; oy < oy1; oy++)
            for (ptrdiff_t ox = ox0; ox < ox1; ox++) {
                const REAL *from = grad + (oy * q->ow + ox) * q->c;
                y1 = NAME(window)(oy, q->sh, q->pt, q->kh, q->h, &y0);
                x1 = NAME(window)(ox, q->sw, q->pl, q->kw, q->w, &x0);
                const REAL share = 1 / (REAL)((y1 - y0) * (x1 - x0));
                for (ptrdiff_t c = 0; c < q->c; c++) to[c] += from[c] * share;
            }
    }
}

static int NAME(avg_pool_grad)(plan *p) {
    return NAME(by_rows)(p, p->q.h, NAME(avg_pool_grad_run));
}
