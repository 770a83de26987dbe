/* region.h: a rectangle of an image with its zero padding, copied into scratch. Everything after it is free
   of borders, and a group's channels follow one another. */

/* `count` channels of `pixels` pixels, in pieces of U numbers, a power of two: what is too much is written
   over by the next pixel, and of the last ones the channels go one by one where an array ends before U. */
INLINE void NAME(copy_pieces)(REAL *to, const REAL *to_end, const REAL *from, const REAL *from_end,
                              ptrdiff_t pixels, ptrdiff_t step, ptrdiff_t count, const int U) {
    const ptrdiff_t whole = round_up(count, U);
    for (ptrdiff_t x = 0; x < pixels; x++, to += count, from += step)
        if (to_end - to >= whole && from_end - from >= whole)
            for (ptrdiff_t i = 0; i < count; i += U) {
                REAL piece[U];
                memcpy(piece, from + i, sizeof piece);
                memcpy(to + i, piece, sizeof piece);
            }
        else
            for (ptrdiff_t i = 0; i < count; i++) to[i] = from[i];
}

static void NAME(copy_channels)(REAL *to, const REAL *to_end, const REAL *from, const REAL *from_end,
                                ptrdiff_t pixels, ptrdiff_t step, ptrdiff_t count) {
#define PIECES(U)                                                                                            \
    if (count <= (U) || LANES == (U)) {                                                                      \
        NAME(copy_pieces)(to, to_end, from, from_end, pixels, step, count, U);                               \
        return;                                                                                              \
    }
    PIECES(1)
    PIECES(2)
    PIECES(4)
    PIECES(8)
    PIECES(16)
#undef PIECES
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
            NAME(copy_channels)(target, target_end, source, source_end, inside, c, count);
        if (right) memset(target + inside * count, 0, (size_t)(right * count) * sizeof(REAL));
    }
}
