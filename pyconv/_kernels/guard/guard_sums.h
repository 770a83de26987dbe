/* guard_sums.h: magnitudes and squares of pixels, over their channels. */

/* The sums of the lanes of LANES vectors, as one vector: each step adds halves of two vectors up, and leaves
   them in one. */
INLINE vec NAME(totals)(vec *v) {
    UNROLL
    for (int half = LANES / 2; half >= 1; half /= 2) {
        UNROLL
        for (int i = 0; i < half; i++)
            v[i] = SHUFFLE(v[i], v[i + half], ZIP_LOW) + SHUFFLE(v[i], v[i + half], ZIP_HIGH);
    }
    return v[0];
}

/* The lanes from `by` on, and behind them the others. */
INLINE vec NAME(turned_by)(vec v, const int by) {
    ivec at;
    UNROLL
    for (int l = 0; l < LANES; l++) at[l] = (l + by) % LANES;
    return NAME(permute)(v, at);
}

/* S and Q of `count` pixels, `step` numbers apart: of the first c numbers of each, times `scale`. A vector's
   worth of sums is made at a time: half of them magnitudes, half squares. */
INLINE void NAME(sums_of_vectors)(const REAL *x, ptrdiff_t count, ptrdiff_t step, ptrdiff_t c, REAL scale,
                                  REAL *s, REAL *q) {
    const ptrdiff_t whole = c / LANES * LANES;
    for (ptrdiff_t first = 0; first < count; first += LANES / 2) {
        const ptrdiff_t pixels = min_of(LANES / 2, count - first);
        vec sums[LANES];
        for (ptrdiff_t i = 0; i < LANES / 2; i++) {
            vec sum = {0}, square = {0};
            if (i < pixels) {
                for (ptrdiff_t j = 0; j < whole; j += LANES) {
                    const vec value = NAME(load)(x + j) * scale;
                    sum += NAME(magnitude)(value);
                    square += value * value;
                }
                if (whole < c) {
                    const vec value = NAME(load_some)(x + whole, c - whole) * scale;
                    sum += NAME(magnitude)(value);
                    square += value * value;
                }
                x += step;
            }
            sums[i] = sum, sums[LANES / 2 + i] = square;
        }
        REAL totals[LANES] __attribute__((aligned(VECTOR_BYTES)));
        *(vec *)totals = NAME(totals)(sums);
        memcpy(s + first, totals, (size_t)pixels * sizeof(REAL));
        memcpy(q + first, totals + LANES / 2, (size_t)pixels * sizeof(REAL));
    }
}

/* The same for fewer channels than a vector holds. */
INLINE void NAME(sums_of_few)(const REAL *x, ptrdiff_t count, ptrdiff_t step, ptrdiff_t c, REAL scale,
                              REAL *s, REAL *q) {
    ptrdiff_t i = 0;
    for (; c == 1 && step == 1 && i + LANES <= count; i += LANES) {
        const vec value = NAME(load)(x + i) * scale;
        NAME(store)(s + i, NAME(magnitude)(value));
        NAME(store)(q + i, value * value);
    }
    for (; i < count; i++) {
        REAL sum = 0, square = 0;
        for (ptrdiff_t j = 0; j < c; j++) {
            const REAL value = x[i * step + j] * scale;
            sum += value < 0 ? -value : value;
            square += value * value;
        }
        s[i] = sum, q[i] = square;
    }
}

/* The same of columns x0 ... x0 + count - 1 of row y of a group's channels; outside the image they are zero.
 */
static void NAME(sums_of_row)(const NAME(guard) * d, const REAL *image, ptrdiff_t y, ptrdiff_t x0,
                              ptrdiff_t count, REAL scale, REAL *s, REAL *q) {
    const ptrdiff_t left = y < 0 || y >= d->ih ? count : min_of(max_of(-x0, 0), count);
    const ptrdiff_t inside = max_of(min_of(d->iw - x0, count) - left, 0), right = left + inside;
    const REAL *const from = image + (y * d->iw + x0 + left) * d->from;
    for (ptrdiff_t i = 0; i < left; i++) s[i] = q[i] = 0;
    if (inside && d->c < LANES)
        NAME(sums_of_few)(from, inside, d->from, d->c, scale, s + left, q + left);
    else if (inside && scale == 1)
        NAME(sums_of_vectors)(from, inside, d->from, d->c, 1, s + left, q + left);
    else if (inside)
        NAME(sums_of_vectors)(from, inside, d->from, d->c, scale, s + left, q + left);
    for (ptrdiff_t i = right; i < count; i++) s[i] = q[i] = 0;
}
