/* winograd_numbers.h: how a problem is cut into blocks: the sizes, and the limits that decide them. */
#ifndef PYCONV_WINOGRAD_NUMBERS_H
#define PYCONV_WINOGRAD_NUMBERS_H

#include "plan.h"

static inline ptrdiff_t ceil_div(ptrdiff_t a, ptrdiff_t b) {
    return (a + b - 1) / b;
}
static inline ptrdiff_t min_of(ptrdiff_t a, ptrdiff_t b) {
    return a < b ? a : b;
}
static inline ptrdiff_t max_of(ptrdiff_t a, ptrdiff_t b) {
    return a > b ? a : b;
}
static inline ptrdiff_t round_up(ptrdiff_t a, ptrdiff_t b) {
    return ceil_div(a, b) * b;
}

/* Cuts `size` evenly into blocks of at most *each; *each becomes their size. Returns how many blocks. */
static inline ptrdiff_t even_blocks(ptrdiff_t size, ptrdiff_t *each) {
    *each = ceil_div(size, ceil_div(size, *each));
    return ceil_div(size, *each);
}

/* Where piece i of n begins, when `size` is cut evenly. */
static inline ptrdiff_t even_cut(ptrdiff_t size, ptrdiff_t n, ptrdiff_t i) {
    return size * i / n;
}

/* Images in tiles, for a convolution or for a weight gradient. */
typedef struct winograd_tiling {
    ptrdiff_t n, h, w, channels;    /* of the images that are read; channels of all groups */
    ptrdiff_t top, left;            /* zeros around them; if negative, so many pixels are skipped */
    ptrdiff_t oh, ow, out_channels; /* of the images that are written (or whose gradient is read) */
    ptrdiff_t down, across, tiles;  /* tiles of one image down and across; of all images */
} winograd_tiling;

/* Forward and input gradient; lies over plan.own. "In" and "out" are those of this convolution: in the input
   gradient the images that are read are grad_out, and c counts filters. */
typedef struct winograd_conv {
    winograd_tiling t;
    ptrdiff_t c, k;            /* channels read and written, of one group */
    ptrdiff_t turned;          /* input gradient: the filters are turned and transposed */
    ptrdiff_t block, blocks;   /* tiles in a block (the last may have fewer), blocks */
    ptrdiff_t v_row, v_point;  /* distances in V: from tile to tile, from point to point */
    ptrdiff_t vectors, panels; /* output channels in vectors, and panels of those */
    ptrdiff_t chunk, chunks;   /* U shared: input channels in one item of the filters' transform; items */
    ptrdiff_t filters_shared;  /* U is shared, not V */
    ptrdiff_t u_all;           /* numbers of U */
    ptrdiff_t u_channels;      /* input channels of U at a time: all, unless V is shared */
    ptrdiff_t u_parts;         /* how often that is */
    ptrdiff_t u_kept, u_made;  /* numbers of U in front of V, if it is kept; or of what is made at a time */
    ptrdiff_t items;           /* of stage 0, before those of the guard */
} winograd_conv;

/* Weight gradient. */
typedef struct winograd_weight_grad {
    winograd_tiling t;
    ptrdiff_t c, k;           /* channels and filters of one group */
    ptrdiff_t c_cuts, k_cuts; /* blocks of them */
    ptrdiff_t slices, block;  /* parts of the sum over tiles; tiles transformed at a time */
} winograd_weight_grad;

/* Rules of thumb in bytes and counts, from measurements. */
enum {
    CACHE_BYTES = 256 * 1024,          /* V and M of a block of tiles */
    FILTERS_SHARED_BYTES = 512 * 1024, /* a U of at most this size is shared, however few the pixels are */
    FILTERS_CHUNK = 64,                /* input channels in one item of the filters' transform */
    FEW_TILES = 48,                    /* V shared: M of at most so many tiles stays in the cache, */
    FILTERS_AT_ONCE = 32,              /* and U is then made for so many input channels at a time */
    SUM_CHANNELS = 128,                /* most terms of one sum in registers: longer sums round more */
    SUM_TILES = 128,                   /* the same for a sum over tiles */
    MIN_BLOCKS = 16,                   /* pieces to cut into, so that threads share them evenly */
    GRAD_CHANNEL_BYTES = 256,
    GRAD_FILTER_BYTES = 256, /* block of S: 64 x 64 floats */
    GRAD_TILES = 48,
    SUM_ELEMENTS = 8192 /* elements of the gradient in one item of the sum over slices */
};

static inline int winograd_fits(const conv *g) {
    return g->kh == 3 && g->kw == 3 && g->sh == 1 && g->sw == 1 && g->dh == 1 && g->dw == 1;
}

static inline winograd_tiling tiling_of(ptrdiff_t n, ptrdiff_t h, ptrdiff_t w, ptrdiff_t channels,
                                        ptrdiff_t top, ptrdiff_t left, ptrdiff_t oh, ptrdiff_t ow,
                                        ptrdiff_t out_channels, ptrdiff_t m) {
    const ptrdiff_t down = ceil_div(oh, m), across = ceil_div(ow, m);
    return (winograd_tiling){
        n, h, w, channels, top, left, oh, ow, out_channels, down, across, n * down * across};
}

/* Tiles in a block: as many as fit in the cache, a multiple of the product's rows, but at least `pieces`
 * blocks. */
static inline ptrdiff_t winograd_block(ptrdiff_t bytes_per_tile, ptrdiff_t tiles, ptrdiff_t rows,
                                       ptrdiff_t pieces) {
    const ptrdiff_t fit = max_of(CACHE_BYTES / bytes_per_tile, 4 * rows), fair = ceil_div(tiles, pieces);
    return min_of(round_up(min_of(fit, max_of(fair, rows)), rows), tiles);
}

/* An array of images: the first channel of a group in the first pixel, and the end of the array. */
typedef struct winograd_images {
    const void *first, *end;
} winograd_images;

typedef struct winograd_place {
    ptrdiff_t image, row, column; /* of a tile: its image, and its place among that image's tiles */
} winograd_place;

static inline winograd_place place_of(const winograd_tiling *t, ptrdiff_t tile) {
    return (winograd_place){tile / (t->down * t->across), tile / t->across % t->down, tile % t->across};
}

#endif
