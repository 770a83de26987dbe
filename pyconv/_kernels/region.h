/* region.h: copies a rectangle of an image with its zero padding into scratch. Code that reads the copy meets
   no borders, and a group's channels follow one another in it. */

/* `count` channels of `pixels` pixels, in pieces of U numbers, a power of two. What is too much in a piece is
   overwritten by the next pixel. Where an array would end before U, the last channels go one by one. */
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

/* Copies rows y0 ... y0 + rows - 1 and columns x0, x0 + every ... of an (h, w, c) image, channels c0 ... c0 +
   count - 1, as (rows, columns, count); what lies outside the image is zero. */
static void NAME(copy_columns)(REAL *to, const REAL *image, ptrdiff_t h, ptrdiff_t w, ptrdiff_t c,
                               ptrdiff_t y0, ptrdiff_t rows, ptrdiff_t x0, ptrdiff_t every, ptrdiff_t columns,
                               ptrdiff_t c0, ptrdiff_t count) {
    const REAL *const source_end = image + h * w * c, *const target_end = to + rows * columns * count;
    const ptrdiff_t left = min_of(x0 < 0 ? ceil_div(-x0, every) : 0, columns), from = x0 + left * every;
    const ptrdiff_t inside = from < w ? min_of((w - 1 - from) / every + 1, columns - left) : 0;
    const ptrdiff_t right = columns - left - inside;
    for (ptrdiff_t row = 0; row < rows; row++, to += columns * count) {
        const ptrdiff_t y = y0 + row;
        if (y < 0 || y >= h) {
            memset(to, 0, (size_t)(columns * count) * sizeof(REAL));
            continue;
        }
        REAL *target = to + left * count;
        if (left) memset(to, 0, (size_t)(left * count) * sizeof(REAL));
        if (inside) {
            const REAL *const source = image + (y * w + from) * c + c0;
            if (every == 1 && count == c)
                memcpy(target, source, (size_t)(inside * c) * sizeof(REAL));
            else
                NAME(copy_channels)(target, target_end, source, source_end, inside, every * c, count);
        }
        if (right) memset(target + inside * count, 0, (size_t)(right * count) * sizeof(REAL));
    }
}

/* The same for neighbouring columns. */
INLINE void NAME(copy_region)(REAL *to, const REAL *image, ptrdiff_t h, ptrdiff_t w, ptrdiff_t c,
                              ptrdiff_t y0, ptrdiff_t rows, ptrdiff_t x0, ptrdiff_t columns, ptrdiff_t c0,
                              ptrdiff_t count) {
    NAME(copy_columns)(to, image, h, w, c, y0, rows, x0, 1, columns, c0, count);
}
