/* winograd_1d_many.h: V, the transformed inputs for many pairs (i, c), as [point][row][tile][channel].

   Tiles are numbered through from row to row; those of kernel row i are the same tiles, i rows further on. */

/* Some result rows of an image, some channels (counted over all pieces), some vectors of filters. */
typedef struct NAME(row_block) {
    ptrdiff_t image, row, rows;
    ptrdiff_t c, channels;
    ptrdiff_t vector, vectors;
} NAME(row_block);

/* B': row p is the polynomial that is zero at every other point; +p and -p share its even and odd part. */
INLINE void NAME(inputs_in_lanes)(const vec *d, vec *v) {
    const vec even_1 = (d[6] - (REAL)4.25 * d[4]) + d[2], odd_1 = (d[5] - (REAL)4.25 * d[3]) + d[1];
    const vec even_2 = (d[6] - (REAL)1.25 * d[4]) + (REAL)0.25 * d[2];
    const vec odd_2 = (d[5] - (REAL)1.25 * d[3]) + (REAL)0.25 * d[1];
    const vec even_half = (d[6] - (REAL)5 * d[4]) + (REAL)4 * d[2];
    const vec odd_half = (d[5] - (REAL)5 * d[3]) + (REAL)4 * d[1];
    v[0] = (d[6] - d[0]) - (REAL)5.25 * (d[4] - d[2]);
    v[1] = even_1 + odd_1;
    v[2] = even_1 - odd_1;
    v[3] = (d[7] - d[1]) - (REAL)5.25 * (d[5] - d[3]);
    v[4] = even_2 + (REAL)2 * odd_2;
    v[5] = even_2 - (REAL)2 * odd_2;
    v[6] = even_half + (REAL)0.5 * odd_half;
    v[7] = even_half - (REAL)0.5 * odd_half;
}

/* V of a block, and of the kh - 1 rows that follow it. The channels of one piece are a part of a tile. Lanes
   after the part's end belong to the next part or the next tile, which overwrites them. */
static void NAME(many_inputs)(const NAME(rowwise) * d, const NAME(row_block) * b, const REAL *x, ptrdiff_t kh,
                              REAL *v, REAL *line) {
    const ptrdiff_t c = b->channels, row = d->across * c, point = d->v_point;
    const REAL *const image = x + b->image * d->ih * d->iw * d->channels;
    for (ptrdiff_t r = 0; r < b->rows + kh - 1; r++, v += row) {
        const ptrdiff_t y = b->row - d->top + r;
        if (y < 0 || y >= d->ih) {
            for (ptrdiff_t p = 0; p < 8; p++) memset(v + p * point, 0, (size_t)row * sizeof(REAL));
            continue;
        }
        const ptrdiff_t piece0 = b->c / d->channels, first0 = b->c % d->channels;
        for (ptrdiff_t at = 0, piece = piece0, first = first0, count; at < c;
             at += count, piece++, first = 0) {
            count = min_of(d->channels - first, c - at);
            NAME(copy_region)(line + at * d->reach, image, d->ih, d->iw, d->channels, y, 1,
                              NAME(piece_start)(d, piece) - d->left, d->reach, first, count);
        }
        for (ptrdiff_t t = 0; t < d->across; t++)
            for (ptrdiff_t at = 0, first = first0, count; at < c; at += count, first = 0) {
                count = min_of(d->channels - first, c - at);
                for (ptrdiff_t l = 0; l < count; l += LANES) {
                    const REAL *const from = line + at * d->reach + t * d->m * count + l;
                    vec in[8], out[8];
                    UNROLL
                    for (int j = 0; j < 8; j++) in[j] = NAME(load)(from + j * count);
                    NAME(inputs_in_lanes)(in, out);
                    UNROLL
                    for (int j = 0; j < 8; j++) NAME(store)(v + j * point + t * c + at + l, out[j]);
                }
            }
    }
}
