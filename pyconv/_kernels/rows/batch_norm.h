/* batch_norm.h: batch normalisation and its gradient, of matrices (rows, channels).

       batch_norm        b: gamma, c: beta; per channel, over the M rows,
                         mean m, biased variance v, s = 1 / sqrt(v + eps)
                         out = (a - m) s b + c;  out2 = m;  out3 = s

       batch_norm_grad   b: gamma, c: m, d: s, e: grad_out g; with h = (a - m) s
                         out2 = sum g h;  out3 = sum g
                         out = b s (g - out3 / M - h out2 / M)

   Three stages: sums for each chunk of rows, in `shared`; the sums of those, and what follows for each
   channel; the result. All sums are in float64, and their order follows from the shape alone.

   Few channels fill no vector. So rows are taken side by side, as many as give whole vectors: a *line*. A
   channel has several places in a line, and a sum for each place; these are added up at the chunk's end.
   Stage 1 leaves the factors of each place.

   Ioffe and Szegedy, Batch Normalization, arXiv:1502.03167. */

enum {
    NAME(FEW) = 64,              /* so many channels are a line by themselves */
    NAME(WHOLE) = 16,            /* so many numbers are whole vectors in every instruction set */
    NAME(LINE) = NAME(FEW) * 16, /* no line of several rows is longer */
    NAME(WIDES) = REGISTERS / 4  /* vectors of float64 that are summed side by side */
};

/* Rows of a line. */
INLINE ptrdiff_t NAME(line_rows)(ptrdiff_t channels) {
    ptrdiff_t rows = 1;
    while (channels < NAME(FEW) && (rows * channels < NAME(FEW) || rows * channels % NAME(WHOLE))) rows *= 2;
    return rows;
}

/* Rows of a chunk: whole lines. */
INLINE ptrdiff_t NAME(norm_rows)(const plan *p) {
    const ptrdiff_t rows = NAME(chunk_rows)(p), line = NAME(line_rows)(p->channels);
    return rows - rows % line;
}

/* The numbers of each channel, repeated for the rows of a line. */
INLINE void NAME(repeat)(REAL *to, const REAL *from, ptrdiff_t channels, ptrdiff_t rows) {
    for (ptrdiff_t row = 0; row < rows; row++)
        for (ptrdiff_t i = 0; i < channels; i++) to[row * channels + i] = from[i];
}

/* For V vectors of places, over all lines: sums of v and v^2 with v = a - o; or, for the gradient, of g (a -
   o) and g. They are stored to `first` and `second`. */
INLINE void NAME(sums_of)(const REAL *a, const REAL *g, const REAL *o, ptrdiff_t lines, ptrdiff_t line,
                          double *first, double *second, const int V) {
    NAME(wide) one[8], two[8];
    UNROLL
    for (int v = 0; v < V; v++) one[v] = two[v] = (NAME(wide)){0};
    for (ptrdiff_t at = 0; at < lines * line; at += line) {
        UNROLL
        for (int v = 0; v < V; v++) {
            const NAME(wide) away =
                NAME(load_wide)(a + at + v * NAME(WIDE)) - NAME(load_wide)(o + v * NAME(WIDE));
            if (g) {
                const NAME(wide) error = NAME(load_wide)(g + at + v * NAME(WIDE));
                one[v] += error * away;
                two[v] += error;
            } else {
                one[v] += away;
                two[v] += away * away;
            }
        }
    }
    UNROLL
    for (int v = 0; v < V; v++) {
        memcpy(first + v * NAME(WIDE), &one[v], sizeof one[v]);
        memcpy(second + v * NAME(WIDE), &two[v], sizeof two[v]);
    }
}

/* The same for all places of a line. */
INLINE void NAME(line_sums)(const REAL *a, const REAL *g, const REAL *o, ptrdiff_t lines, ptrdiff_t line,
                            double *first, double *second) {
    ptrdiff_t i = 0;
    for (; i + NAME(WIDES) * NAME(WIDE) <= line; i += NAME(WIDES) * NAME(WIDE))
        NAME(sums_of)(a + i, g ? g + i : NULL, o + i, lines, line, first + i, second + i, NAME(WIDES));
    for (; i + 2 * NAME(WIDE) <= line; i += 2 * NAME(WIDE))
        NAME(sums_of)(a + i, g ? g + i : NULL, o + i, lines, line, first + i, second + i, 2);
    while (i < line) { /* the last vector overlaps the one before */
        i = min_of(i, line - NAME(WIDE));
        NAME(sums_of)(a + i, g ? g + i : NULL, o + i, lines, line, first + i, second + i, 1);
        i += NAME(WIDE);
    }
}

/* Stage 0, for the rows first ... last - 1: sums of each channel, to `one` and `two`. */
INLINE void NAME(norm_sums)(const plan *p, ptrdiff_t first, ptrdiff_t last, const REAL *origin, const REAL *g,
                            double *one, double *two) {
    const ptrdiff_t n = p->channels, rows = NAME(line_rows)(n), lines = (last - first) / rows;
    const REAL *a = (const REAL *)p->a + first * n;
    for (ptrdiff_t i = 0; i < n; i++) one[i] = two[i] = 0;
    if (g) g += first * n;
    if (rows == 1) {
        NAME(line_sums)(a, g, origin, lines, n, one, two);
        return;
    }
    REAL origins[NAME(LINE)];
    double ones[NAME(LINE)], twos[NAME(LINE)];
    NAME(repeat)(origins, origin, n, rows);
    NAME(line_sums)(a, g, origins, lines, rows * n, ones, twos);
    for (ptrdiff_t row = 0; row < rows; row++)
        for (ptrdiff_t i = 0; i < n; i++) {
            one[i] += ones[row * n + i];
            two[i] += twos[row * n + i];
        }
    for (ptrdiff_t row = lines * rows; row < last - first; row++) /* no whole line */
        for (ptrdiff_t i = 0; i < n; i++) {
            const double away = (double)a[row * n + i] - (double)origin[i];
            const double error = g ? (double)g[row * n + i] : away;
            one[i] += g ? error * away : away;
            two[i] += g ? error : away * away;
        }
}

/* The sums of all chunks, to the first one's. */
INLINE void NAME(norm_totals)(const plan *p, double *sums) {
    const ptrdiff_t n = 2 * p->channels;
    for (ptrdiff_t chunk = 1; chunk < p->items[0]; chunk++)
        for (ptrdiff_t i = 0; i < n; i++) sums[i] += sums[chunk * n + i];
}

/* Where stage 1 leaves the factors of each place of a line, one line after the other. */
INLINE REAL *NAME(norm_factors)(const plan *p, void *shared) {
    return (REAL *)((double *)shared + p->items[0] * 2 * p->channels);
}

/* Stage 2, for `count` numbers from the beginning of a line. Forward, out = (a - f0) f1 + f2; the gradient,
   out = ((g - f0) - (a - f1) f2) f3, where f0 is the first line of factors. */
INLINE void NAME(norm_line)(REAL *out, const REAL *a, const REAL *g, const REAL *f, ptrdiff_t line,
                            ptrdiff_t count) {
    const REAL *f1 = f + line, *f2 = f1 + line, *f3 = f2 + line;
    ptrdiff_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        const vec x = NAME(load)(a + i), one = NAME(load)(f1 + i), two = NAME(load)(f2 + i);
        if (g)
            NAME(store)(out + i,
                        (NAME(load)(g + i) - NAME(load)(f + i) - (x - one) * two) * NAME(load)(f3 + i));
        else
            NAME(store)(out + i, (x - NAME(load)(f + i)) * one + two);
    }
    if (i == count) return;
    const ptrdiff_t some = count - i;
    const vec x = NAME(load_some)(a + i, some), zero = NAME(load_some)(f + i, some),
              one = NAME(load_some)(f1 + i, some), two = NAME(load_some)(f2 + i, some);
    if (g)
        NAME(store_some)(
            out + i, (NAME(load_some)(g + i, some) - zero - (x - one) * two) * NAME(load_some)(f3 + i, some),
            some);
    else
        NAME(store_some)(out + i, (x - zero) * one + two, some);
}

INLINE void NAME(norm_result)(const plan *p, ptrdiff_t first, ptrdiff_t last, const REAL *g,
                              const REAL *factors) {
    const ptrdiff_t n = p->channels, line = NAME(line_rows)(n) * n;
    REAL *out = p->out;
    const REAL *a = p->a;
    for (ptrdiff_t at = first * n; at < last * n; at += line)
        NAME(norm_line)(out + at, a + at, g ? g + at : NULL, factors, line, min_of(line, last * n - at));
}

static void NAME(batch_norm_run)(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) {
    const ptrdiff_t n = p->channels, first = item * NAME(norm_rows)(p);
    const ptrdiff_t last = min_of(first + NAME(norm_rows)(p), p->rows);
    const REAL *x = p->a, *gamma = p->b, *beta = p->c;
    REAL *mean = p->out2, *inv_std = p->out3;
    double *sums = shared;
    (void)scratch;
    if (stage == 0) { /* the first row is the origin, so that a large mean does not cancel the variance */
        NAME(norm_sums)(p, first, last, x, NULL, sums + item * 2 * n, sums + item * 2 * n + n);
    } else if (stage == 1) {
        const double m = (double)p->rows;
        REAL *f = NAME(norm_factors)(p, shared);
        NAME(norm_totals)(p, sums);
        for (ptrdiff_t i = 0; i < n; i++) {
            const double shift = sums[i] / m, variance = sums[n + i] / m - shift * shift;
            mean[i] = (REAL)((double)x[i] + shift);
            inv_std[i] = (REAL)(1 / sqrt((variance > 0 ? variance : 0 * variance) + p->eps));
        }
        const ptrdiff_t rows = NAME(line_rows)(n);
        for (ptrdiff_t row = 0; row < rows; row++)
            for (ptrdiff_t i = 0; i < n; i++, f++) {
                f[0] = mean[i];
                f[rows * n] = inv_std[i] * gamma[i];
                f[2 * rows * n] = beta[i];
            }
    } else {
        NAME(norm_result)(p, first, last, NULL, NAME(norm_factors)(p, shared));
    }
}

static void NAME(batch_norm_grad_run)(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) {
    const ptrdiff_t n = p->channels, first = item * NAME(norm_rows)(p);
    const ptrdiff_t last = min_of(first + NAME(norm_rows)(p), p->rows);
    const REAL *gamma = p->b, *mean = p->c, *inv_std = p->d, *grad = p->e;
    REAL *ggamma = p->out2, *gbeta = p->out3;
    double *sums = shared;
    (void)scratch;
    if (stage == 0) {
        NAME(norm_sums)(p, first, last, mean, grad, sums + item * 2 * n, sums + item * 2 * n + n);
    } else if (stage == 1) {
        const double m = (double)p->rows;
        REAL *f = NAME(norm_factors)(p, shared);
        NAME(norm_totals)(p, sums);
        for (ptrdiff_t i = 0; i < n; i++) {
            sums[i] *= (double)inv_std[i];
            ggamma[i] = (REAL)sums[i];
            gbeta[i] = (REAL)sums[n + i];
        }
        const ptrdiff_t rows = NAME(line_rows)(n);
        for (ptrdiff_t row = 0; row < rows; row++)
            for (ptrdiff_t i = 0; i < n; i++, f++) {
                f[0] = (REAL)(sums[n + i] / m);
                f[rows * n] = mean[i];
                f[2 * rows * n] = (REAL)((double)inv_std[i] * sums[i] / m);
                f[3 * rows * n] = gamma[i] * inv_std[i];
            }
    } else {
        NAME(norm_result)(p, first, last, grad, NAME(norm_factors)(p, shared));
    }
}

INLINE int NAME(norm_plan)(plan *p, run_fn run) {
    const ptrdiff_t line = NAME(line_rows)(p->channels) * p->channels;
    NAME(by_chunks)(p, run);
    p->stages = 3;
    p->items[0] = p->items[2] = (p->rows + NAME(norm_rows)(p) - 1) / NAME(norm_rows)(p);
    p->items[1] = 1;
    p->shared_bytes =
        (size_t)(p->items[0] * 2 * p->channels) * sizeof(double) + (size_t)(4 * line) * sizeof(REAL);
    return 1;
}

static int NAME(batch_norm)(plan *p) {
    return NAME(norm_plan)(p, NAME(batch_norm_run));
}

static int NAME(batch_norm_grad)(plan *p) {
    return NAME(norm_plan)(p, NAME(batch_norm_grad_run));
}
