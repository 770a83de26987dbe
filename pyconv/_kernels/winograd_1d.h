/* winograd_1d.h: fewer multiplications along the rows of an image only, stride 1, kernels 3 to 7 wide
   (Toom-Cook, or Winograd in one dimension).

   Equation (1) of winograd.h with eight points, for any width r of the kernel: m = 9 - r neighbouring outputs
   of a row from 8 inputs take 8 multiplications instead of m r. Kernel rows and channels are added up before
   the transform back:

       y = A' sum over i, c  (G w[i, c]) o (B' x[row + i, c])                                             (5)

   so per channel, kernel row and output there are 8 / m multiplications instead of r: 2.5 x fewer for widths
   4 and 5, 2.25 x for 3 and 6. Two dimensions save more, but their transforms of the outputs cost as much for
   one channel as for a hundred; these cost 20 operations on m outputs, which a first layer has to spare.

   Points are 0, +-1, +-2, +-1/2, inf. B' depends on the points only, not on m. The weight gradient follows
   from (5) as (4) from (2). Transforms over lanes of tiles (inputs) and of filters (the others):

       inputs      B' x, of LANES tiles at a time, to [tile][channel][point]: a point is then broadcast
       filters     G w                                        winograd_1d_conv.h
       outputs     A' of the sums, in registers               winograd_1d_conv.h
       errors      A dy, in registers                         winograd_1d_weight_grad.h

   The points are worked on in two halves of four, 0, +-1, inf and +-2, +-1/2: all eight together would leave
   too few registers, and a load for each multiply-add. */

typedef struct NAME(rowwise) {
    ptrdiff_t grad;             /* the input gradient */
    ptrdiff_t ih, iw, from;     /* input size and channels */
    ptrdiff_t oh, ow, to;       /* result size and filters */
    ptrdiff_t top, left;        /* zeros around the input; negative: so many pixels are skipped */
    ptrdiff_t m, across;        /* outputs of a tile, tiles of a row */
    ptrdiff_t rows, row_blocks; /* result rows of an item; items of an image */
    ptrdiff_t vectors;          /* of filters */
    ptrdiff_t tile_row;         /* transformed numbers of an input row */
    ptrdiff_t line, phase;      /* numbers of a padded input row; of every m-th pixel of it */
    ptrdiff_t inputs;           /* numbers of scratch for all that */
    ptrdiff_t large;            /* the result does not fit in the caches, and is made of whole vectors */
    ptrdiff_t parts, size;      /* weight gradient: items that share out the rows; numbers of one's sums */
} NAME(rowwise);

enum {
    NAME(ROWWISE_BYTES) = 24 << 10, /* transformed inputs of an item, in the L1 cache */
    NAME(ROWWISE_TERMS) = 128,      /* products of one sum in registers */
    NAME(ROWWISE_TILES) = 3         /* tiles of a register block */
};

/* B': row p is the polynomial that vanishes in every other point; even and odd parts are shared by +-p. */
INLINE void NAME(rowwise_inputs_1d)(const vec *d, vec *v) {
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

/* Tiles and channels of one row, [tile][channel][point], from phases[f] = pixels t M + f of every tile t; up
   to LANES - 1 more than there are. */
INLINE void NAME(transform_phases)(const NAME(rowwise) * d, const REAL *phases, const int M, REAL *x) {
    const ptrdiff_t phase = d->phase, c = d->from, count = d->across * c;
    for (ptrdiff_t l = 0; l < count; l += LANES) {
        vec in[8], v[8];
        UNROLL
        for (int j = 0; j < 8; j++) in[j] = NAME(load)(phases + j % M * phase + j / M * c + l);
        NAME(rowwise_inputs_1d)(in, v);
        NAME(transpose)(v, 8);
        UNROLL
        for (int j = 0; j < 8; j++) NAME(store)(x + l * 8 + j * LANES, v[j]);
    }
}

/* Input rows y0 ... y0 + rows - 1 of an image to x, [row][tile][channel][point]. */
static void NAME(rowwise_inputs)(const NAME(rowwise) * d, const REAL *image, ptrdiff_t y0, ptrdiff_t rows,
                                 REAL *x) {
    REAL *line = x + d->inputs - d->line - d->m * d->phase, *phases = line + d->line; /* behind all rows */
    const ptrdiff_t c = d->from, m = d->m, tiles = d->across + 7 / m;
    for (ptrdiff_t r = 0; r < rows; r++, x += d->tile_row) {
        if (y0 + r < 0 || y0 + r >= d->ih) {
            memset(x, 0, (size_t)d->tile_row * sizeof(REAL));
            continue;
        }
        NAME(copy_region)(line, image, d->ih, d->iw, c, y0 + r, 1, -d->left, d->line / c, 0, c);
        for (ptrdiff_t f = 0; f < m; f++) {
            REAL *to = phases + f * d->phase;
            const REAL *from = line + f * c;
            for (ptrdiff_t t = 0; t < tiles; t++, to += c, from += m * c)
                for (ptrdiff_t i = 0; i < c; i++) to[i] = from[i];
        }
        if (m == 2) NAME(transform_phases)(d, phases, 2, x);
        if (m == 3) NAME(transform_phases)(d, phases, 3, x);
        if (m == 4) NAME(transform_phases)(d, phases, 4, x);
        if (m == 5) NAME(transform_phases)(d, phases, 5, x);
        if (m == 6) NAME(transform_phases)(d, phases, 6, x);
    }
}

/* 1 / N_p of a point and its negative, by which filters are divided: 0, 1, 2, 1/2. */
static const REAL NAME(rowwise_norms)[4] = {-1, (REAL)(-2. / 9), (REAL)(1. / 90), (REAL)(32. / 45)};

/* Sizes that the passes share; 0 where they cannot be done so. Lanes are filters: too few would be idle. */
static int NAME(rowwise_sizes)(const conv *g, NAME(rowwise) * d, int grad) {
    const ptrdiff_t size = sizeof(REAL);
    if (g->groups != 1 || g->sh != 1 || g->sw != 1 || g->dh != 1 || g->dw != 1) return 0;
    if (g->kw < 3 || g->kw > 7 || (grad ? g->c : g->k) < LANES) return 0;
    *d = (NAME(rowwise)){.grad = grad, .m = 9 - g->kw};
    d->ih = grad ? g->oh : g->h, d->iw = grad ? g->ow : g->w, d->from = grad ? g->k : g->c;
    d->oh = grad ? g->h : g->oh, d->ow = grad ? g->w : g->ow, d->to = grad ? g->c : g->k;
    d->top = grad ? g->kh - 1 - g->pt : g->pt, d->left = grad ? g->kw - 1 - g->pl : g->pl;
    d->across = ceil_div(d->ow, d->m);
    d->vectors = ceil_div(d->to, LANES);
    d->tile_row = d->across * d->from * 8;
    d->line = (d->across * d->m + 7) * d->from;
    d->phase = round_up(d->across * d->from, LANES) + 3 * d->from;

    /* Rows of an item: as many as stay in the L1 cache, and enough to share the kernel's rows. */
    ptrdiff_t rows = NAME(ROWWISE_BYTES) / (d->tile_row * size) - g->kh + 1;
    rows = max_of(min_of(rows, ceil_div(g->n * d->oh, 16)), 2 * g->kh);
    d->row_blocks = ceil_div(d->oh, min_of(rows, d->oh));
    d->rows = ceil_div(d->oh, d->row_blocks);
    d->row_blocks = ceil_div(d->oh, d->rows);
    d->inputs = (d->rows + g->kh - 1) * d->tile_row + 8 * LANES + d->line + d->m * d->phase;
    return 1;
}

#include "winograd_1d_conv.h"
#include "winograd_1d_weight_grad.h"
