/* winograd_1d.h: fewer multiplications along the rows of an image only, stride 1, kernels 3 wide or wider
   (Toom-Cook, or Winograd in one dimension).

   This is equation (1) of winograd.h with eight points, for any width r of the kernel: m = 9 - r neighbouring
   outputs of a row, from 8 inputs, take 8 multiplications instead of m r. Kernel rows and channels are added
   up before the transform back:

       y = A' sum over i, c  (G w[i, c]) o (B' x[row + i, c])                                             (5)

   So each channel, kernel row and output takes 8 / m multiplications instead of r: 2.5 times fewer for widths
   4 and 5, 2.25 times for 3. A wider kernel is cut into pieces of 2 to 5 columns. Each piece sees its own
   copy of every channel, a few columns further on: `from`, the number of channels added up, is pieces x
   channels of the input (6 = 3 + 3: 2.25 times fewer; 7 = 4 + 3: 2.2 times; 11 = 4 + 4 + 3: 2.3 times). Wider
   pieces would save no more, and need transforms of their own. Two dimensions save more, but there the
   transforms of the outputs cost as much for one channel as for a hundred. Here they cost 20 operations for m
   outputs, which a first layer can spare.

   The points are 0, +-1, +-2, +-1/2, inf. B' depends on the points only, not on m. The weight gradient
   follows from (5) as (4) from (2). Lanes of the transforms are points or channels (inputs; tiles in
   winograd_1d_planes.h) or filters (the others):

       inputs      B' x, the eight points as one vector, to [row][tile][channel][point], or in lanes of
                   channels, to [point][row][tile][channel]
       filters     G w
       outputs     A' of the sums
       errors      A dy

   With few pairs (i, c), as in a first layer, storing the points of outputs or errors would cost more than
   their products, so those are done in registers (winograd_1d_few_conv.h, winograd_1d_few_grad.h). The sums
   of all eight points together would leave too few registers and need a load for each multiply-add, so the
   points are done four or two at a time. With many pairs, each point is a product of matrices as in equation
   (3) (winograd_1d_many_conv.h, winograd_1d_weight_grad.h). With few filters, the lanes are tiles
   (winograd_1d_planes.h). */

typedef struct NAME(rowwise) {
    ptrdiff_t grad;             /* the input gradient */
    ptrdiff_t ih, iw, channels; /* input size and channels */
    ptrdiff_t kw, pieces, taps; /* the kernel's columns, their pieces, columns of the widest piece */
    ptrdiff_t from;             /* pieces x channels */
    ptrdiff_t oh, ow, to;       /* result size and filters */
    ptrdiff_t top, left;        /* zeros around the input; if negative, so many pixels are skipped */
    ptrdiff_t m, across, reach; /* outputs of a tile, tiles of a row, input columns of those */
    ptrdiff_t rows, row_blocks; /* result rows of an item; items of an image */
    ptrdiff_t vectors;          /* of filters */
    ptrdiff_t tile_row;         /* transformed numbers of an input row */
    ptrdiff_t line;             /* numbers of padded input rows, one row for each piece */
    ptrdiff_t inputs;           /* numbers of scratch for both */
    ptrdiff_t large;            /* the result goes past the caches */
    ptrdiff_t few;              /* weight gradient: few pairs, not many */
    ptrdiff_t splits; /* forward, input gradient, many pairs: items among which the panels are divided */
    ptrdiff_t slices; /* weight gradient: parts of the sum over rows */
    ptrdiff_t items;  /* forward, input gradient: of stage 0, before the guard's */
    ptrdiff_t c_cuts, k_cuts;            /* blocks of channels, of filters */
    ptrdiff_t v_point, w_point, s_point; /* numbers of one point of V, W (or M) and S */
} NAME(rowwise);

enum {
    NAME(ROWWISE_BYTES) = 24 << 10, /* the transformed inputs of an item, in the L1 cache */
    NAME(ROWWISE_TILES) = 3         /* tiles of a register block */
};

/* The kernel's column in which a piece begins. */
INLINE ptrdiff_t NAME(piece_start)(const NAME(rowwise) * d, ptrdiff_t piece) {
    return even_cut(d->kw, d->pieces, piece);
}

/* The columns of B': what one pixel adds to the eight points. */
typedef REAL NAME(points) __attribute__((vector_size(8 * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
static const REAL NAME(rowwise_columns)[8][8] = {
    {-1, 0, 0, 0, 0, 0, 0, 0},
    {0, 1, -1, -1, (REAL)0.5, (REAL)-0.5, 2, -2},
    {(REAL)5.25, 1, 1, 0, (REAL)0.25, (REAL)0.25, 4, 4},
    {0, (REAL)-4.25, (REAL)4.25, (REAL)5.25, (REAL)-2.5, (REAL)2.5, (REAL)-2.5, (REAL)2.5},
    {(REAL)-5.25, (REAL)-4.25, (REAL)-4.25, 0, (REAL)-1.25, (REAL)-1.25, -5, -5},
    {0, 1, -1, (REAL)-5.25, 2, -2, (REAL)0.5, (REAL)-0.5},
    {1, 1, 1, 0, 1, 1, 1, 1},
    {0, 0, 0, 1, 0, 0, 0, 0},
};

/* Transforms input rows y0 ... y0 + rows - 1 of an image to x, [row][tile][channel][point]; uses `line`. */
static void NAME(rowwise_inputs)(const NAME(rowwise) * d, const REAL *image, ptrdiff_t y0, ptrdiff_t rows,
                                 REAL *x, REAL *line) {
    const ptrdiff_t c = d->channels;
    NAME(points) column[8];
    for (int j = 0; j < 8; j++) column[j] = *(const NAME(points) *)NAME(rowwise_columns)[j];
    for (ptrdiff_t r = 0; r < rows; r++, x += d->tile_row) {
        if (y0 + r < 0 || y0 + r >= d->ih) {
            memset(x, 0, (size_t)d->tile_row * sizeof(REAL));
            continue;
        }
        const ptrdiff_t last = NAME(piece_start)(d, d->pieces - 1);
        NAME(copy_region)(line, image, d->ih, d->iw, c, y0 + r, 1, -d->left, last + d->reach, 0, c);
        for (ptrdiff_t piece = 0; piece < d->pieces; piece++) {
            const REAL *from = line + NAME(piece_start)(d, piece) * c;
            REAL *to = x + piece * c * 8;
            for (ptrdiff_t t = 0; t < d->across; t++, from += (d->m - 1) * c, to += (d->from - c) * 8)
                for (ptrdiff_t i = 0; i < c; i++, from++, to += 8) {
                    NAME(points) sum = {0};
                    UNROLL
                    for (int j = 0; j < 8; j++) sum += from[j * c] * column[j];
                    *(NAME(points) *)to = sum;
                }
        }
    }
}

/* Cuts the result rows evenly into items of at most `rows`. */
static void NAME(cut_rows)(NAME(rowwise) * d, ptrdiff_t kh, ptrdiff_t rows) {
    d->rows = min_of(max_of(rows, 1), d->oh);
    d->row_blocks = even_blocks(d->oh, &d->rows);
    d->inputs = (d->rows + kh - 1) * d->tile_row + d->line;
}

/* Into how many pieces to cut a kernel that is kw wide, so that a row takes fewest multiplications. */
INLINE ptrdiff_t NAME(pieces_of)(ptrdiff_t kw, ptrdiff_t columns) {
    ptrdiff_t best = 0, least = PTRDIFF_MAX;
    for (ptrdiff_t pieces = ceil_div(kw, 5); ceil_div(kw, pieces) >= 3; pieces++) {
        const ptrdiff_t products = ceil_div(columns, 9 - ceil_div(kw, pieces)) * pieces;
        if (products < least) best = pieces, least = products;
    }
    return best;
}

/* Lanes are filters: with too few, most would be idle. */
static int NAME(rowwise_can)(const plan *p, int what) {
    const conv *g = &p->g;
    if (g->groups != 1 || g->sh != 1 || g->sw != 1 || g->dh != 1 || g->dw != 1) return 0;
    if (!NAME(guard_can)(p, what, NAME(GUARD_NUMBERS))) return 0;
    return g->kw >= 3 && (what == INPUT_GRAD ? g->c : g->k) >= LANES;
}

/* Sets the sizes that the passes share. */
static void NAME(rowwise_sizes)(const conv *g, NAME(rowwise) * d, int grad) {
    *d = (NAME(rowwise)){.grad = grad, .kw = g->kw};
    d->ih = grad ? g->oh : g->h, d->iw = grad ? g->ow : g->w, d->channels = grad ? g->k : g->c;
    d->oh = grad ? g->h : g->oh, d->ow = grad ? g->w : g->ow, d->to = grad ? g->c : g->k;
    d->top = grad ? g->kh - 1 - g->pt : g->pt, d->left = grad ? g->kw - 1 - g->pl : g->pl;
    d->pieces = NAME(pieces_of)(g->kw, d->ow);
    d->taps = ceil_div(g->kw, d->pieces);
    d->m = 9 - d->taps;
    d->from = d->pieces * d->channels;
    d->across = ceil_div(d->ow, d->m);
    d->reach = d->across * d->m + 7;
    d->vectors = ceil_div(d->to, LANES);
    d->tile_row = d->across * d->from * 8;
    d->line = max_of(d->reach * d->from, (d->reach + g->kw) * d->channels);
}

/* Sets the rows of an item of few pairs: as many as stay in the L1 cache, and enough to share kernel rows. */
static void NAME(few_rows)(const conv *g, NAME(rowwise) * d) {
    const ptrdiff_t size = sizeof(REAL), fit = NAME(ROWWISE_BYTES) / (d->tile_row * size) - g->kh + 1;
    NAME(cut_rows)(d, g->kh, max_of(min_of(fit, ceil_div(g->n * d->oh, 16)), 2 * g->kh));
}

/* Completes the plan of the forward pass or the input gradient. */
static void NAME(rowwise_guard)(plan *p) {
    NAME(rowwise) *d = (void *)p->own;
    d->items = p->items[0];
    NAME(guard_plan)(p, (NAME(guard)){.turned = d->grad,
                                      .overlap = 1,
                                      .ih = d->ih,
                                      .iw = d->iw,
                                      .from = d->channels,
                                      .c = d->channels,
                                      .top = d->top,
                                      .left = d->left,
                                      .oh = d->oh,
                                      .ow = d->ow,
                                      .to = d->to,
                                      .k = d->to,
                                      .mh = 1,
                                      .mw = d->m,
                                      .eh = p->g.kh,
                                      .ew = NAME(piece_start)(d, d->pieces - 1) + 8,
                                      .band = d->rows + p->g.kh - 1});
}

#include "winograd_1d_many.h"
#include "winograd_1d_filters.h"
#include "winograd_1d_few_conv.h"
#include "winograd_1d_planes.h"
#include "winograd_1d_many_conv.h"
#include "winograd_1d_few_grad.h"
#include "winograd_1d_weight_grad.h"
