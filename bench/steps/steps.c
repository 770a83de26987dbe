/* steps.c: one convolution in five versions, each with one more idea: from the loop as it is read to the
   heart of pyconv's direct kernel. docs/explanation/kernels.md explains the steps, bench_steps.py compiles
   and times them.

       y[n, r, s, k] = sum over i, j, c of x[n, r + i - p, s + j - p, c] w[i, j, c, k]

   The kernel is square and of odd size, the stride is 1, and p = size / 2 zeros are around the image: the
   result is as large as the image. The code is for reading: it does one geometry, and the number of filters
   must be a multiple of 2 LANES. It is compiled once with SSE2's vectors of 4 floats and once with the
   machine's widest vectors (VECTOR_BYTES, REGISTERS).
*/
#include <stddef.h>
#include <string.h>

#define LANES  (VECTOR_BYTES / 4)
#define PIXELS (REGISTERS == 32 ? 14 : 6) /* of a register tile: 14 x 2 or 6 x 2 sums, and some left over */
#define UNROLL _Pragma("GCC unroll 16")

typedef float vec __attribute__((vector_size(VECTOR_BYTES), aligned(4), may_alias));

typedef struct layer {
    ptrdiff_t n, h, w, c, k, size; /* images, their height, width, channels; filters and their size */
} layer;

/* Step 1: the equation. Every product reads a filter's number, K places after the last one. */
void naive(const layer *g, const float *x, const float *w, float *y, float *unused) {
    const ptrdiff_t pad = g->size / 2;
    (void)unused;
    for (ptrdiff_t n = 0; n < g->n; n++)
        for (ptrdiff_t r = 0; r < g->h; r++)
            for (ptrdiff_t s = 0; s < g->w; s++)
                for (ptrdiff_t k = 0; k < g->k; k++) {
                    float sum = 0;
                    for (ptrdiff_t i = 0; i < g->size; i++)
                        for (ptrdiff_t j = 0; j < g->size; j++) {
                            const ptrdiff_t iy = r + i - pad, ix = s + j - pad;
                            if (iy < 0 || iy >= g->h || ix < 0 || ix >= g->w) continue;
                            for (ptrdiff_t c = 0; c < g->c; c++)
                                sum += x[((n * g->h + iy) * g->w + ix) * g->c + c] *
                                       w[((i * g->size + j) * g->c + c) * g->k + k];
                        }
                    y[((n * g->h + r) * g->w + s) * g->k + k] = sum;
                }
}

/* Steps 2 and 3: the loop over filters is the innermost one. Its numbers are neighbours in memory, and their
   sums do not depend on one another, so the compiler makes vectors of them by itself. */
void filters_innermost(const layer *g, const float *x, const float *w, float *restrict y, float *unused) {
    const ptrdiff_t pad = g->size / 2;
    (void)unused;
    for (ptrdiff_t n = 0; n < g->n; n++)
        for (ptrdiff_t r = 0; r < g->h; r++)
            for (ptrdiff_t s = 0; s < g->w; s++) {
                float *sums = y + ((n * g->h + r) * g->w + s) * g->k;
                memset(sums, 0, (size_t)g->k * sizeof(float));
                for (ptrdiff_t i = 0; i < g->size; i++)
                    for (ptrdiff_t j = 0; j < g->size; j++) {
                        const ptrdiff_t iy = r + i - pad, ix = s + j - pad;
                        if (iy < 0 || iy >= g->h || ix < 0 || ix >= g->w) continue;
                        for (ptrdiff_t c = 0; c < g->c; c++) {
                            const float pixel = x[((n * g->h + iy) * g->w + ix) * g->c + c];
                            const float *filters = w + ((i * g->size + j) * g->c + c) * g->k;
                            for (ptrdiff_t k = 0; k < g->k; k++) sums[k] += pixel * filters[k];
                        }
                    }
            }
}

/* Copies an image with zeros around it, so that nothing tests for borders after this. Returns the length of a
   row, in numbers. */
static ptrdiff_t pad_image(const layer *g, const float *image, float *to) {
    const ptrdiff_t pad = g->size / 2, row = (g->w + 2 * pad) * g->c;
    memset(to, 0, (size_t)((g->h + 2 * pad) * row) * sizeof(float));
    for (ptrdiff_t r = 0; r < g->h; r++)
        memcpy(to + (r + pad) * row + pad * g->c, image + r * g->w * g->c,
               (size_t)(g->w * g->c) * sizeof(float));
    return row;
}

/* The register tile: P pixels side by side x 2 vectors of filters. The 2 P sums never leave the registers;
   for every number of a pixel two vectors of filters are loaded, once for all P pixels. A kernel's columns
   and channels follow one another in the image, so they are one loop, `run`. `next`: from one row of filters
   to the next. */
static inline __attribute__((always_inline)) void
tile(const layer *g, const float *x, ptrdiff_t row, const float *w, ptrdiff_t next, float *y, const int P) {
    const ptrdiff_t run = g->size * g->c;
    vec sum[PIXELS][2];
    UNROLL
    for (int p = 0; p < P; p++) sum[p][0] = sum[p][1] = (vec){0};
    for (ptrdiff_t i = 0; i < g->size; i++)
        for (ptrdiff_t l = 0; l < run; l++, w += next) {
            const vec first = *(const vec *)w, second = *(const vec *)(w + LANES);
            UNROLL
            for (int p = 0; p < P; p++) {
                const float pixel = x[i * row + l + p * g->c];
                sum[p][0] += pixel * first;
                sum[p][1] += pixel * second;
            }
        }
    UNROLL
    for (int p = 0; p < P; p++) {
        *(vec *)(y + p * g->k) = sum[p][0];
        *(vec *)(y + p * g->k + LANES) = sum[p][1];
    }
}

static void tile_row(const layer *g, const float *x, ptrdiff_t row, const float *w, ptrdiff_t next,
                     float *y) {
    ptrdiff_t s = 0;
    for (; s + PIXELS <= g->w; s += PIXELS) tile(g, x + s * g->c, row, w, next, y + s * g->k, PIXELS);
    for (; s < g->w; s++) tile(g, x + s * g->c, row, w, next, y + s * g->k, 1);
}

/* Step 4: sums in registers; the filters are read where they are. */
void register_tile(const layer *g, const float *x, const float *w, float *y, float *padded) {
    for (ptrdiff_t n = 0; n < g->n; n++) {
        const ptrdiff_t row = pad_image(g, x + n * g->h * g->w * g->c, padded);
        for (ptrdiff_t k = 0; k < g->k; k += 2 * LANES)
            for (ptrdiff_t r = 0; r < g->h; r++)
                tile_row(g, padded + r * row, row, w + k, g->k, y + (n * g->h + r) * g->w * g->k + k);
    }
}

/* Step 5: the filters are packed first, as [block of 2 LANES filters][i][j][c][2 LANES]. Then the tile reads
   them from the first to the last, which suits caches and prefetchers, and a block of them stays in the L2
   cache for an image. */
void packed_filters(const layer *g, const float *x, const float *w, float *y, float *packed) {
    const ptrdiff_t width = 2 * LANES, taps = g->size * g->size * g->c;
    float *padded = packed + taps * g->k;
    for (ptrdiff_t k = 0; k < g->k; k += width)
        for (ptrdiff_t tap = 0; tap < taps; tap++)
            memcpy(packed + k * taps + tap * width, w + tap * g->k + k, (size_t)width * sizeof(float));
    for (ptrdiff_t n = 0; n < g->n; n++) {
        const ptrdiff_t row = pad_image(g, x + n * g->h * g->w * g->c, padded);
        for (ptrdiff_t k = 0; k < g->k; k += width)
            for (ptrdiff_t r = 0; r < g->h; r++)
                tile_row(g, padded + r * row, row, packed + k * taps, width,
                         y + (n * g->h + r) * g->w * g->k + k);
    }
}
