/* max_pool.h: max pooling and its gradient, vectorised over channels.

       max_pool        out[n, oy, ox, c] = max over the window of a
                       out2[n, oy, ox, c] = which pixel that is, the first of equals: an int32,
                           row * W + column in the image, or, narrow, a byte, row * kw + column in
                           the window;  out2 may be NULL

       max_pool_grad   out[n, iy, ix, c] = sum of g[n, oy, ox, c] over the windows whose maximum it is
                           (b: max_pool's out2), with g = a, or with `relu` g = a where
                           c[n, oy, ox, c] > 0, else 0 (c: max_pool's out)
                       out2[c] = sum of g, the gradient of a bias before the pooling;  out2 may be NULL

   ReLU and max pooling can change places, so convolution, bias, ReLU and pooling together have this one
   gradient, and the ReLU's mask is read from the pooled numbers. NaN counts as larger than any number, and
   the first NaN stays. */

/* The number that `out2` holds for pixel (iy, ix) of the window that begins at (top, left). */
INLINE ptrdiff_t NAME(place)(const pool *q, ptrdiff_t iy, ptrdiff_t ix, ptrdiff_t top, ptrdiff_t left,
                             const int narrow) {
    return narrow ? (iy - top) * q->kw + ix - left : iy * q->w + ix;
}

/* LANES channels of one window that begins at pixel x of an image with rows of `line` numbers. `here` is the
   number of that pixel; one row further down adds `down` to it. */
INLINE void NAME(max_pool_window)(const REAL *x, ptrdiff_t line, ptrdiff_t c, ptrdiff_t rows,
                                  ptrdiff_t columns, INTEGER here, INTEGER down, vec *best, ivec *where) {
    vec most = NAME(load)(x);
    ivec found = (ivec){0} + here;
    for (ptrdiff_t iy = 0; iy < rows; iy++)
        for (ptrdiff_t ix = iy == 0; ix < columns; ix++) {
            const vec v = NAME(load)(x + iy * line + ix * c);
            const ivec take = ~(v <= most) & (most == most),
                       number = (ivec){0} + (here + (INTEGER)iy * down + (INTEGER)ix);
            most = NAME(select)(take, v, most);
            found = (take & number) | (~take & found);
        }
    *best = most;
    *where = found;
}

INLINE void NAME(max_pool_row)(const plan *p, ptrdiff_t item, const int indexed, const int narrow) {
    const pool *q = &p->q;
    const ptrdiff_t image = item / q->oh, oy = item % q->oh, c = q->c, w = q->w;
    const ptrdiff_t top = oy * q->sh - q->pt;
    const REAL *x = (const REAL *)p->a + image * q->h * w * c;
    REAL *y = (REAL *)p->out + item * q->ow * c;
    ptrdiff_t y0, x0;
    const ptrdiff_t y1 = NAME(window)(oy, q->sh, q->pt, q->kh, q->h, &y0);
    for (ptrdiff_t ox = 0; ox < q->ow; ox++) {
        const ptrdiff_t left = ox * q->sw - q->pl, x1 = NAME(window)(ox, q->sw, q->pl, q->kw, w, &x0);
        const INTEGER start = (INTEGER)NAME(place)(q, y0, x0, top, left, narrow);
        const INTEGER down = (INTEGER)(narrow ? q->kw : w);
        const ptrdiff_t at = (item * q->ow + ox) * c;
        /* With fewer channels than lanes, the other lanes read the pixels after the window's and write to
           results that come after this one and are still to be done. */
        const int few =
            c < LANES && ox * c + LANES <= q->ow * c && ((y1 - 1) * w + x1 - 1) * c + LANES <= q->h * w * c;
        for (ptrdiff_t next = 0; (c >= LANES || few) && next < c; next += LANES) {
            const ptrdiff_t i =
                few ? 0 : min_of(next, c - LANES); /* the last vector overlaps the one before */
            const REAL *pixel = x + (y0 * w + x0) * c + i;
            vec best;
            ivec where;
            if (y1 - y0 == 2 && x1 - x0 == 2) /* the usual window, unrolled */
                NAME(max_pool_window)(pixel, w * c, c, 2, 2, start, down, &best, &where);
            else
                NAME(max_pool_window)(pixel, w * c, c, y1 - y0, x1 - x0, start, down, &best, &where);
            NAME(store)(y + ox * c + i, best);
            if (indexed) NAME(store_numbers)(p->out2, at + i, where, narrow);
        }
        for (ptrdiff_t i = 0; c < LANES && !few && i < c; i++) {
            REAL best = x[(y0 * w + x0) * c + i];
            ptrdiff_t where = start;
            for (ptrdiff_t iy = y0; iy < y1; iy++)
                for (ptrdiff_t ix = x0; ix < x1; ix++) {
                    const REAL v = x[(iy * w + ix) * c + i];
                    if (!(v <= best) && best == best) {
                        best = v;
                        where = NAME(place)(q, iy, ix, top, left, narrow);
                    }
                }
            y[ox * c + i] = best;
            if (indexed && narrow)
                ((unsigned char *)p->out2)[at + i] = (unsigned char)where;
            else if (indexed)
                ((int *)p->out2)[at + i] = (int)where;
        }
    }
}

static void NAME(max_pool_run)(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) {
    (void)stage, (void)shared, (void)scratch;
    if (!p->out2)
        NAME(max_pool_row)(p, item, 0, 1);
    else if (p->narrow)
        NAME(max_pool_row)(p, item, 1, 1);
    else
        NAME(max_pool_row)(p, item, 1, 0);
}

static int NAME(max_pool)(plan *p) {
    return NAME(by_rows)(p, p->q.oh, NAME(max_pool_run));
}

/* One row of the gradient, gathered: each pixel adds up the windows that see it, in order. */
INLINE void NAME(max_pool_grad_row)(const plan *p, ptrdiff_t item, const int narrow) {
    const pool *q = &p->q;
    const ptrdiff_t image = item / q->h, iy = item % q->h, c = q->c;
    const REAL *grad = (const REAL *)p->a, *y = p->relu ? p->c : NULL;
    REAL *gx = (REAL *)p->out + item * q->w * c;
    ptrdiff_t oy0, ox0;
    const ptrdiff_t oy1 = NAME(windows)(iy, q->sh, q->pt, q->kh, q->oh, &oy0);
    for (ptrdiff_t ix = 0; ix < q->w; ix++) {
        const ptrdiff_t ox1 = NAME(windows)(ix, q->sw, q->pl, q->kw, q->ow, &ox0);
        const ptrdiff_t last = ((image * q->oh + oy1 - 1) * q->ow + ox1 - 1) * c;
        const int few = c < LANES && ix * c + LANES <= q->w * c && last + LANES <= q->n * q->oh * q->ow * c;
        for (ptrdiff_t next = 0; (c >= LANES || few) && next < c; next += LANES) {
            const ptrdiff_t i = few ? 0 : min_of(next, c - LANES);
            vec sum = {0};
            for (ptrdiff_t oy = oy0; oy < oy1; oy++)
                for (ptrdiff_t ox = ox0; ox < ox1; ox++) {
                    const ptrdiff_t at = ((image * q->oh + oy) * q->ow + ox) * c + i;
                    const ptrdiff_t here =
                        NAME(place)(q, iy, ix, oy * q->sh - q->pt, ox * q->sw - q->pl, narrow);
                    ivec take = NAME(load_numbers)(p->b, at, narrow) == (INTEGER)here;
                    if (y) take &= NAME(load)(y + at) > (vec){0};
                    sum += (vec)(take & (ivec)NAME(load)(grad + at));
                }
            NAME(store)(gx + ix * c + i, sum);
        }
        for (ptrdiff_t i = 0; c < LANES && !few && i < c; i++) {
            REAL sum = 0;
            for (ptrdiff_t oy = oy0; oy < oy1; oy++)
                for (ptrdiff_t ox = ox0; ox < ox1; ox++) {
                    const ptrdiff_t at = ((image * q->oh + oy) * q->ow + ox) * c + i;
                    const ptrdiff_t here =
                        NAME(place)(q, iy, ix, oy * q->sh - q->pt, ox * q->sw - q->pl, narrow);
                    const ptrdiff_t where =
                        narrow ? ((const unsigned char *)p->b)[at] : ((const int *)p->b)[at];
                    sum += where == here && (!y || y[at] > 0) ? grad[at] : 0;
                }
            gx[ix * c + i] = sum;
        }
    }
}

/* Rows of pooled errors that one item adds up for the bias. */
enum { NAME(BIAS_ROWS) = 16 };

/* Stage 0: the rows of the result. Stage 1: sums of errors, in `shared`, one for each block of rows. Stage 2:
   the sum of those. */
static void NAME(max_pool_grad_run)(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) {
    const pool *q = &p->q;
    const ptrdiff_t c = q->c, rows = q->n * q->oh;
    double *sums = shared;
    (void)scratch;
    if (stage == 0) {
        if (p->narrow)
            NAME(max_pool_grad_row)(p, item, 1);
        else
            NAME(max_pool_grad_row)(p, item, 0);
    } else if (stage == 1) {
        const ptrdiff_t last = (item + 1) * NAME(BIAS_ROWS) < rows ? (item + 1) * NAME(BIAS_ROWS) : rows;
        const REAL *grad = p->a, *y = p->relu ? p->c : NULL;
        double *sum = sums + item * c;
        for (ptrdiff_t i = 0; i < c; i++) sum[i] = 0;
        for (ptrdiff_t at = item * NAME(BIAS_ROWS) * q->ow * c; at < last * q->ow * c; at += c)
            if (y)
                for (ptrdiff_t i = 0; i < c; i++) sum[i] += y[at + i] > 0 ? (double)grad[at + i] : 0;
            else
                for (ptrdiff_t i = 0; i < c; i++) sum[i] += (double)grad[at + i];
    } else {
        REAL *out = p->out2;
        for (ptrdiff_t i = 0; i < c; i++) {
            double sum = 0;
            for (ptrdiff_t block = 0; block < p->items[1]; block++) sum += sums[block * c + i];
            out[i] = (REAL)sum;
        }
    }
}

static int NAME(max_pool_grad)(plan *p) {
    const pool *q = &p->q;
    NAME(by_rows)(p, q->h, NAME(max_pool_grad_run));
    if (p->out2) {
        p->stages = 3;
        p->items[1] = (q->n * q->oh + NAME(BIAS_ROWS) - 1) / NAME(BIAS_ROWS);
        p->items[2] = 1;
        p->shared_bytes = (size_t)(p->items[1] * q->c) * sizeof(double);
    }
    return 1;
}
