/* winograd_tiles.h: the two-dimensional transforms; the lanes are channels. Included once per TILE. */

/* The pixels of one tile, row by row; pixels outside the image point to zeros. */
typedef struct TILED(patch) {
    const REAL *pixel[POINTS * POINTS];
    ptrdiff_t safe; /* channels that may be read from each pixel without leaving the array */
} TILED(patch);

/* Finds the `size` x `size` pixels from (top, left) of an image. From the image's first number on, `rest`
   numbers follow in memory. */
INLINE void TILED(locate)(TILED(patch) * patch, const int size, const REAL *image, ptrdiff_t rest,
                          ptrdiff_t h, ptrdiff_t w, ptrdiff_t channels, ptrdiff_t top, ptrdiff_t left,
                          const REAL *zeros) {
    for (int i = 0; i < size; i++) {
        const ptrdiff_t y = top + i;
        for (int j = 0; j < size; j++) {
            const ptrdiff_t x = left + j;
            const int inside = y >= 0 && y < h && x >= 0 && x < w;
            patch->pixel[i * size + j] = inside ? image + (y * w + x) * channels : zeros;
        }
    }
    const ptrdiff_t last_y = min_of(h - 1, top + size - 1), last_x = min_of(w - 1, left + size - 1);
    patch->safe = rest - (max_of(last_y, 0) * w + max_of(last_x, 0)) * channels;
}

/* The pixels that a tile of t reads. */
INLINE void TILED(locate_inputs)(TILED(patch) * patch, const winograd_tiling *t, winograd_images images,
                                 ptrdiff_t tile, const REAL *zeros) {
    const winograd_place at = place_of(t, tile);
    const REAL *image = (const REAL *)images.first + at.image * t->h * t->w * t->channels;
    TILED(locate)(patch, POINTS, image, (const REAL *)images.end - image, t->h, t->w, t->channels,
                  at.row * TILE - t->top, at.column * TILE - t->left, zeros);
}

/* The pixels of the result's gradient in that tile. */
INLINE void TILED(locate_grads)(TILED(patch) * patch, const winograd_tiling *t, winograd_images grads,
                                ptrdiff_t tile, const REAL *zeros) {
    const winograd_place at = place_of(t, tile);
    const REAL *image = (const REAL *)grads.first + at.image * t->oh * t->ow * t->out_channels;
    TILED(locate)(patch, TILE, image, (const REAL *)grads.end - image, t->oh, t->ow, t->out_channels,
                  at.row * TILE, at.column * TILE, zeros);
}

INLINE void TILED(prefetch)(const TILED(patch) * patch, const int size, ptrdiff_t channels) {
    for (ptrdiff_t c = 0; c < channels; c += LANES)
        for (int i = 0; i < size * size; i++) __builtin_prefetch(patch->pixel[i] + c);
}

/* V = B' d B for LANES channels from c on; V's points lie `point` elements apart. Lanes after the last
   channel hold other pixels' channels; they reach no result. V's lines are prefetched, since each store would
   otherwise wait for its line. */
INLINE void TILED(transform_inputs)(const TILED(patch) * patch, ptrdiff_t c, REAL *v, ptrdiff_t point) {
    vec rows[POINTS][POINTS];
    ROLLED
    for (int i = 0; i < POINTS; i++) {
        vec d[POINTS];
        UNROLL
        for (int j = 0; j < POINTS; j++) {
            d[j] = NAME(load_lanes)(patch->pixel[i * POINTS + j] + c, patch->safe - c);
            __builtin_prefetch(v + (i * POINTS + j) * point, 1);
        }
        TILED(inputs_1d)(d, rows[i]);
    }
    ROLLED
    for (int j = 0; j < POINTS; j++) {
        vec d[POINTS], result[POINTS];
        UNROLL
        for (int i = 0; i < POINTS; i++) d[i] = rows[i][j];
        TILED(inputs_1d)(d, result);
        UNROLL
        for (int i = 0; i < POINTS; i++) *(vec *)(v + (i * POINTS + j) * point) = result[i];
    }
}

/* W = A dy A', the transpose of the outputs' transform, for LANES filters from k on. */
INLINE void TILED(transform_grads)(const TILED(patch) * patch, ptrdiff_t k, REAL *w, ptrdiff_t point) {
    vec rows[TILE][POINTS];
    ROLLED
    for (int i = 0; i < TILE; i++) {
        vec d[TILE];
        UNROLL
        for (int j = 0; j < TILE; j++)
            d[j] = NAME(load_lanes)(patch->pixel[i * TILE + j] + k, patch->safe - k);
        TILED(outputs_transposed_1d)(d, rows[i]);
    }
    ROLLED
    for (int j = 0; j < POINTS; j++) {
        vec d[TILE], result[POINTS];
        UNROLL
        for (int i = 0; i < POINTS; i++) __builtin_prefetch(w + (i * POINTS + j) * point, 1);
        UNROLL
        for (int i = 0; i < TILE; i++) d[i] = rows[i][j];
        TILED(outputs_transposed_1d)(d, result);
        UNROLL
        for (int i = 0; i < POINTS; i++) *(vec *)(w + (i * POINTS + j) * point) = result[i];
    }
}

/* Y = A' M A for LANES filters. */
INLINE void TILED(transform_outputs)(const REAL *m, ptrdiff_t point, vec y[TILE][TILE]) {
    vec columns[POINTS][TILE];
    ROLLED
    for (int j = 0; j < POINTS; j++) {
        vec d[POINTS];
        UNROLL
        for (int i = 0; i < POINTS; i++) d[i] = *(const vec *)(m + (i * POINTS + j) * point);
        TILED(outputs_1d)(d, columns[j]);
    }
    ROLLED
    for (int i = 0; i < TILE; i++) {
        vec d[POINTS];
        UNROLL
        for (int j = 0; j < POINTS; j++) d[j] = columns[j][i];
        TILED(outputs_1d)(d, y[i]);
    }
}

/* U = G g G', points `point` elements apart. */
INLINE void TILED(transform_filters)(const vec *taps, REAL *u, ptrdiff_t point) {
    vec columns[3][POINTS];
    ROLLED
    for (int s = 0; s < 3; s++) {
        vec g[3] = {taps[s], taps[3 + s], taps[6 + s]};
        TILED(filters_1d)(g, columns[s]);
    }
    ROLLED
    for (int i = 0; i < POINTS; i++) {
        vec g[3] = {columns[0][i], columns[1][i], columns[2][i]}, result[POINTS];
        TILED(filters_1d)(g, result);
        UNROLL
        for (int j = 0; j < POINTS; j++) *(vec *)(u + (i * POINTS + j) * point) = result[j];
    }
}

/* dg = G' S G. */
INLINE void TILED(transform_sums)(const REAL *s, ptrdiff_t point, vec dg[9]) {
    vec columns[POINTS][3];
    ROLLED
    for (int j = 0; j < POINTS; j++) {
        vec d[POINTS];
        UNROLL
        for (int i = 0; i < POINTS; i++) d[i] = *(const vec *)(s + (i * POINTS + j) * point);
        TILED(filters_transposed_1d)(d, columns[j]);
    }
    ROLLED
    for (int i = 0; i < 3; i++) {
        vec d[POINTS];
        UNROLL
        for (int j = 0; j < POINTS; j++) d[j] = columns[j][i];
        TILED(filters_transposed_1d)(d, dg + 3 * i);
    }
}
