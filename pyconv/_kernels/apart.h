/* apart.h: copies a row of pixels channel by channel: each channel goes to a plane of its own, with zeros
   around it. Kernels whose lanes are neighbouring pixels read such planes. Blocks of LANES pixels by LANES
   channels are transposed in registers. */

/* `count` pixels of `channels` channels, `step` numbers apart: number s of channel c goes to to[c plane + s].
   `end` is the end of the array that `from` points into. */
static void NAME(take_apart)(const REAL *from, ptrdiff_t step, const REAL *end, ptrdiff_t count,
                             ptrdiff_t channels, REAL *to, ptrdiff_t plane) {
    for (ptrdiff_t block = 0; block < count; block += LANES)
        for (ptrdiff_t c = 0; c < channels; c += LANES) {
            /* The last block ends where the row does, and repeats some pixels. */
            const ptrdiff_t s = count < LANES ? 0 : min_of(block, count - LANES);
            const REAL *const source = from + s * step + c;
            REAL *const target = to + c * plane + s;
            if (count >= LANES && end - source - (LANES - 1) * step >= LANES) {
                vec v[LANES];
                UNROLL
                for (int i = 0; i < LANES; i++) v[i] = NAME(load)(source + i * step);
                NAME(transpose)(v, LANES);
                UNROLL
                for (int i = 0; i < LANES; i++) {
                    if (c + i >= channels) break;
                    NAME(store)(target + i * plane, v[i]);
                }
            } else
                for (ptrdiff_t i = 0; i < min_of(LANES, channels - c); i++)
                    for (ptrdiff_t q = 0; q < min_of(LANES, count - s); q++)
                        target[i * plane + q] = source[q * step + i];
        }
}

/* Cycles for a pixel. */
INLINE double NAME(apart_cycles)(ptrdiff_t channels, ptrdiff_t step) {
    return channels == 1 && step == 1 ? 0.2 : (double)ceil_div(channels, LANES) * 7;
}

/* Columns x0, x0 + step ... of row y of an image of h by w pixels, copied channel by channel: `width` numbers
   for each channel. A pixel has `pixel` numbers, of which the first `channels` are wanted. */
static void NAME(row_apart)(const REAL *image, const REAL *end, ptrdiff_t h, ptrdiff_t w, ptrdiff_t pixel,
                            ptrdiff_t y, ptrdiff_t x0, ptrdiff_t step, ptrdiff_t width, ptrdiff_t channels,
                            REAL *to, ptrdiff_t plane) {
    const int inside = y >= 0 && y < h;
    const ptrdiff_t first = inside ? min_of(x0 < 0 ? ceil_div(-x0, step) : 0, width) : width;
    const ptrdiff_t last = max_of(min_of(x0 < w ? (w - 1 - x0) / step + 1 : 0, width), first);
    const ptrdiff_t count = last - first;
    for (ptrdiff_t c = 0; c < channels; c++) {
        memset(to + c * plane, 0, (size_t)first * sizeof(REAL));
        memset(to + c * plane + last, 0, (size_t)(width - last) * sizeof(REAL));
    }
    if (count == 0) return;
    const REAL *const from = image + (y * w + x0 + first * step) * pixel;
    if (step * pixel == 1)
        memcpy(to + first, from, (size_t)count * sizeof(REAL));
    else
        NAME(take_apart)(from, step * pixel, end, count, channels, to + first, plane);
}
