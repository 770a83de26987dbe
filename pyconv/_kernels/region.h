/* region.h: a rectangle of an image with its zero padding, copied into scratch. Everything after it is free
   of borders, and a group's channels follow one another. */

/* One pixel's channels, in whole vectors if neither array ends before them: what is too much is written over
   by the next pixel. */
INLINE void NAME(copy_channels)(REAL *to, const REAL *to_end, const REAL *from, const REAL *from_end,
                                ptrdiff_t count) {
    const ptrdiff_t whole = (count + LANES - 1) / LANES * LANES;
    if (to_end - to >= whole && from_end - from >= whole)
        for (ptrdiff_t i = 0; i < count; i += LANES) NAME(store)(to + i, NAME(load)(from + i));
    else
        for (ptrdiff_t i = 0; i < count; i++) to[i] = from[i];
}

/* Rows y0 ... y0 + rows - 1 and columns x0 ... x0 + columns - 1 of an (h, w, c) image, channels c0 ... c0 +
   count - 1, to (rows, columns, count); what lies outside the image is zero. */
static void NAME(copy_region)(REAL *to, const REAL *image, ptrdiff_t h, ptrdiff_t w, ptrdiff_t c,
                              ptrdiff_t y0, ptrdiff_t rows, ptrdiff_t x0, ptrdiff_t columns, ptrdiff_t c0,
                              ptrdiff_t count) {
    const REAL *const source_end = image + h * w * c, *const target_end = to + rows * columns * count;
    const ptrdiff_t from = x0 < 0 ? 0 : x0, until = x0 + columns > w ? w : x0 + columns;
    const ptrdiff_t inside = until > from ? until - from : 0;
    const ptrdiff_t left = inside ? from - x0 : columns, right = columns - left - inside;
    for (ptrdiff_t row = 0; row < rows; row++, to += columns * count) {
        const ptrdiff_t y = y0 + row;
        if (y < 0 || y >= h) {
            memset(to, 0, (size_t)(columns * count) * sizeof(REAL));
            continue;
        }
        const REAL *source = image + (y * w + from) * c + c0;
        REAL *target = to + left * count;
        if (left) memset(to, 0, (size_t)(left * count) * sizeof(REAL));
        if (count == c)
            memcpy(target, source, (size_t)(inside * c) * sizeof(REAL));
        else
            for (ptrdiff_t x = 0; x < inside; x++)
                NAME(copy_channels)(target + x * count, target_end, source + x * c, source_end, count);
        if (right) memset(target + inside * count, 0, (size_t)(right * count) * sizeof(REAL));
    }
}
