/* direct_weight_grad.h: the weight gradient as sums of outer products in register tiles (outer.h).

       dw[i, j, c, k] = sum over n, r, s of x[n, r sh + i dh - pt, s sw + j dw - pl, c] dy[n, r, s, k]

   The pixels are cut into blocks of rows (of several images, where these are small). A block's errors fit in
   the L1 cache, and its input, copied with its padding, fits in L2. While the tiles work on one block, they
   fetch the next block's errors from memory. With a dilation D and few channels, every D-th column is copied
   to a region of its own, in which the kernel's columns are neighbours again. With a stride S too (a divisor
   of D) there are D / S regions, and a region's errors are every D / S-th. For small images, and for groups
   whose input would cost more to copy, each kernel column is done by itself: it leaves out the results that
   see padding through it, and nothing is copied. Stage 0, an item: one part of the blocks, one group, one
   block of 2 LANES filters. Its sums, [i][j][c][2 LANES], are its own part of `shared`; every tile of them
   visits every block. Stage 1 adds the parts up in their order, and stores the result. How many parts there
   are depends on the shape alone. */

typedef struct NAME(gradient) {
    ptrdiff_t from, to;                 /* channels and filters of one group */
    ptrdiff_t vectors, blocks;          /* of filters of one group; a block is two vectors or the last one */
    ptrdiff_t rows, images;             /* output rows and images of one block of pixels */
    ptrdiff_t row_blocks, pixel_blocks; /* blocks of one image's rows; blocks in all */
    ptrdiff_t parts;                    /* items among which the blocks of pixels are divided */
    ptrdiff_t region_rows, region_columns; /* input that a block's rows see */
    ptrdiff_t copied;                      /* the input goes through scratch */
    ptrdiff_t packed;                      /* the errors are copied too; if not, only where reads_behind */
    ptrdiff_t touched; /* input and errors are read beforehand, in their order in memory */
    ptrdiff_t phases,
        every;        /* regions of the columns; each takes every D-th, as if there were no dilation D */
    ptrdiff_t merged; /* the kernel's columns and channels are one run */
    ptrdiff_t inside; /* each kernel column by itself, without the outputs that see padding */
} NAME(gradient);

/* Copies the errors of one block of filters as (pixels, width), at least LANES wide. With fewer filters, the
   lanes after them hold what follows in memory, and their sums are left out in the end. */
static void NAME(pack_errors)(REAL *to, const REAL *dy, const REAL *end, ptrdiff_t pixels, ptrdiff_t k,
                              ptrdiff_t vectors, ptrdiff_t second, ptrdiff_t lanes) {
    for (ptrdiff_t i = 0; i < pixels; i++, dy += k)
        for (ptrdiff_t v = 0; v < vectors; v++, to += LANES)
            *(vec *)to = lanes == LANES || end - dy >= LANES ? NAME(load)(dy + v * second)
                                                             : NAME(load_some)(dy, lanes);
}

/* For block b of the pixels, as an item needs it: its first image and output row, and the item's errors. */
INLINE const REAL *NAME(errors_of)(const plan *p, ptrdiff_t item, ptrdiff_t b, ptrdiff_t *image,
                                   ptrdiff_t *first) {
    const NAME(gradient) *d = (const void *)p->own;
    const conv *g = &p->g;
    *image = b / d->row_blocks * d->images;
    *first = b % d->row_blocks * d->rows;
    return (const REAL *)p->b + (*image * g->oh + *first) * g->ow * g->k +
           item / d->blocks % g->groups * d->to + NAME(vector_start)(item % d->blocks * 2, d->to);
}

/* The errors that come after block b of the pixels: the next block's or the next item's; after the last, b's
 * own. */
INLINE const REAL *NAME(errors_after)(const plan *p, ptrdiff_t item, ptrdiff_t b) {
    const NAME(gradient) *d = (const void *)p->own;
    const ptrdiff_t per_part = d->blocks * p->g.groups, part = item / per_part;
    ptrdiff_t image, first;
    if (b + 1 < (part + 1) * d->pixel_blocks / d->parts)
        b++;
    else if (item + 1 < p->items[0])
        b = ++item / per_part * d->pixel_blocks / d->parts;
    return NAME(errors_of)(p, item, b, &image, &first);
}

/* Whether a vector of errors at `last`, a block's last, would end after the array: only with few filters. */
INLINE int NAME(reads_behind)(const plan *p, const REAL *last) {
    const conv *g = &p->g;
    const REAL *const end = (const REAL *)p->b + g->n * g->oh * g->ow * g->k;
    return end - last < LANES;
}

/* Reads the input and the errors of a block of pixels, so that they are in the cache. */
static void NAME(touch_block)(const plan *p, ptrdiff_t image, ptrdiff_t images, ptrdiff_t first,
                              ptrdiff_t rows) {
    const conv *g = &p->g;
    const ptrdiff_t row = g->w * g->c, errors = g->ow * g->k;
    const ptrdiff_t y0 = max_of(first * g->sh - g->pt, 0);
    const ptrdiff_t y1 = min_of((first + rows - 1) * g->sh - g->pt + (g->kh - 1) * g->dh + 1, g->h);
    NAME(touch)((const REAL *)p->a + (image * g->h + y0) * row, ((images - 1) * g->h + y1 - y0) * row);
    NAME(touch)((const REAL *)p->b + (image * g->oh + first) * errors,
                ((images - 1) * g->oh + rows) * errors);
}

static void NAME(gradient_part)(const plan *p, ptrdiff_t item, REAL *sums, REAL *scratch) {
    const NAME(gradient) *d = (const void *)p->own;
    const conv *g = &p->g;
    const ptrdiff_t block = item % d->blocks, group = item / d->blocks % g->groups;
    const ptrdiff_t part = item / d->blocks / g->groups;
    const ptrdiff_t vectors = d->vectors - 2 * block < 2 ? 1 : 2;
    const ptrdiff_t k = NAME(vector_start)(2 * block, d->to),
                    second = NAME(vector_start)(2 * block + 1, d->to) - k;
    const ptrdiff_t phase_region = d->region_rows * d->region_columns * d->from;
    const ptrdiff_t region = d->phases * phase_region;
    REAL *errors = scratch + (d->copied ? (d->images * region + LANES - 1) / LANES * LANES : 0);
    NAME(outer) t;
    int fresh = 1;
    t.next_pixel = g->k;
    for (ptrdiff_t b = part * d->pixel_blocks / d->parts; b < (part + 1) * d->pixel_blocks / d->parts; b++) {
        ptrdiff_t image, first;
        const REAL *dy = NAME(errors_of)(p, item, b, &image, &first), *next = NAME(errors_after)(p, item, b);
        const REAL *x = (const REAL *)p->a + image * g->h * g->w * g->c;
        t.images = min_of(d->images, g->n - image);
        t.rows = min_of(d->rows, g->oh - first);
        ptrdiff_t dy_pixel = g->k;
        t.dy_row = g->ow * g->k;
        t.dy_image = g->oh * t.dy_row;
        t.second = second;
        if (d->touched && item % (d->blocks * g->groups) == 0)
            NAME(touch_block)(p, image, t.images, first, t.rows);
        if (d->packed || NAME(reads_behind)(p, dy + (((t.images - 1) * g->oh + t.rows) * g->ow - 1) * g->k)) {
            for (ptrdiff_t n = 0; n < t.images; n++)
                NAME(pack_errors)(errors + n * t.rows * g->ow * vectors * LANES, dy + n * t.dy_image,
                                  (const REAL *)p->b + g->n * t.dy_image, t.rows * g->ow, g->k, vectors,
                                  second, min_of(d->to, LANES));
            dy = errors;
            dy_pixel = vectors * LANES;
            t.dy_row = g->ow * dy_pixel;
            t.dy_image = t.rows * t.dy_row;
            t.second = LANES;
        }
        ptrdiff_t row = g->w * g->c, pixel = g->c;
        t.x_image = g->h * row;
        if (d->copied) {
            for (ptrdiff_t n = 0; n < t.images; n++)
                for (ptrdiff_t phase = 0; phase < d->phases; phase++)
                    NAME(copy_columns)(scratch + n * region + phase * phase_region, x + n * t.x_image, g->h,
                                       g->w, g->c, first * g->sh - g->pt, d->region_rows,
                                       phase * g->sw - g->pl, d->every, d->region_columns, group * d->from,
                                       d->from);
            x = scratch;
            pixel = d->from;
            row = d->region_columns * pixel;
            t.x_image = region;
        } else
            x += (first * g->sh - g->pt) * row - g->pl * pixel + group * d->from;
        t.x_row = g->sh * row;
        t.x_pixel = d->every > 1 ? pixel : g->sw * pixel;
        const ptrdiff_t taps = d->merged ? 1 : g->kw, run = d->merged ? g->kw * d->from : d->from;
        const ptrdiff_t most = NAME(tile_pixels)(vectors), tiles = (run + most - 1) / most;
        const ptrdiff_t rows = t.rows, tap_row = taps * run * vectors * LANES;
        for (ptrdiff_t i = 0; i < g->kh; i++) {
            /* Output rows that see padding through this kernel row would only add zeros. */
            ptrdiff_t r0;
            ptrdiff_t r1 = NAME(outputs_inside)(i, g->sh, g->pt, g->dh, g->h, g->oh, &r0) - first;
            r0 = r0 > first ? r0 - first : 0;
            r1 = min_of(r1, rows);
            REAL *sum = sums + i * tap_row;
            if (r1 <= r0) {
                if (fresh) memset(sum, 0, (size_t)tap_row * sizeof(REAL));
                continue;
            }
            t.rows = r1 - r0;
            for (ptrdiff_t j = 0; j < taps; j++, sum += run * vectors * LANES) {
                ptrdiff_t s0 = 0, s1 = g->ow;
                if (d->inside) s1 = NAME(outputs_inside)(j, g->sw, g->pl, g->dw, g->w, g->ow, &s0);
                for (ptrdiff_t piece = 0; piece < d->phases * tiles; piece++) {
                    const ptrdiff_t phase = piece / tiles, tile = piece % tiles;
                    const ptrdiff_t l = tile * run / tiles, end = (tile + 1) * run / tiles;
                    t.columns = ceil_div(s1 - s0 - phase, d->phases);
                    t.x = x + phase * phase_region + r0 * t.x_row + i * g->dh * row + j * g->dw * pixel +
                          s0 * t.x_pixel + l;
                    t.dy = dy + r0 * t.dy_row + (s0 + phase) * dy_pixel;
                    t.dy_pixel = d->phases * dy_pixel;
                    /* Fetch once, in the kernel position that sees the least padding: a share with each tile.
                     */
                    const ptrdiff_t pixels = j == taps / 2 && i == g->kh / 2 ? t.images * t.rows * g->ow : 0;
                    t.next = next + even_cut(pixels, d->phases * tiles, piece) * g->k;
                    t.fetch = even_cut(pixels, d->phases * tiles, piece + 1) -
                              even_cut(pixels, d->phases * tiles, piece);
                    t.fresh = fresh && phase == 0;
                    t.sum = sum + l * vectors * LANES;
                    NAME(outers)[vectors - 1][end - l - 1](&t);
                }
            }
        }
        fresh = 0;
    }
}

/* One kernel position and group: adds the parts' sums up in order, and stores them where they belong. */
static void NAME(gradient_sum)(const plan *p, ptrdiff_t item, const REAL *shared) {
    const NAME(gradient) *d = (const void *)p->own;
    const conv *g = &p->g;
    const ptrdiff_t group = item % g->groups, tap = item / g->groups, taps = g->kh * g->kw;
    const ptrdiff_t part_size = g->groups * taps * d->from * d->vectors * LANES;
    REAL *out = (REAL *)p->out + tap * d->from * g->k + group * d->to;
    for (ptrdiff_t v = 0; v < d->vectors; v++) {
        const ptrdiff_t block = v / 2, width = min_of(d->vectors - 2 * block, 2) * LANES;
        const ptrdiff_t k = NAME(vector_start)(v, d->to);
        const REAL *sums = shared + (group * d->vectors + 2 * block) * LANES * taps * d->from;
        for (ptrdiff_t c = 0; c < d->from; c++) {
            const REAL *from = sums + (tap * d->from + c) * width + v % 2 * LANES;
            vec total = *(const vec *)from;
            for (ptrdiff_t part = 1; part < d->parts; part++)
                total += *(const vec *)(from + part * part_size);
            if (d->to >= LANES)
                NAME(store)(out + c * g->k + k, total);
            else
                NAME(store_some)(out + c * g->k, total, d->to);
        }
    }
}

static void NAME(gradient_run)(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) {
    const NAME(gradient) *d = (const void *)p->own;
    const ptrdiff_t size = p->g.kh * p->g.kw * d->from * LANES;
    if (stage == 1) {
        NAME(gradient_sum)(p, item, shared);
        return;
    }
    const ptrdiff_t block = item % d->blocks, before = item / d->blocks;
    NAME(gradient_part)(p, item, (REAL *)shared + (before * d->vectors + 2 * block) * size, scratch);
}

/* Cycles, if a tile runs over the kernel's columns (`merged`) or does each by itself, without padding
 * (`inside`). */
static double NAME(gradient_cycles)(const conv *g, const NAME(gradient) * d, int merged, int inside) {
    const double vectors = (double)d->vectors / (double)d->blocks;
    const ptrdiff_t run = merged ? g->kw * d->from : d->from;
    const ptrdiff_t tiles = ceil_div(run, NAME(tile_pixels)(min_of(d->vectors, 2)));
    const ptrdiff_t columns = inside ? NAME(column_pairs)(g) : merged ? g->ow : g->ow * g->kw;
    return (double)(d->blocks * g->groups * g->n * NAME(row_pairs)(g) * columns * tiles) *
           cost_of_tile((double)run / (double)tiles, vectors, 1);
}

/* Sets the sizes, and whether each kernel column is done by itself. */
static void NAME(gradient_sizes)(const conv *g, NAME(gradient) * d) {
    *d = (NAME(gradient)){.from = g->c / g->groups, .to = g->k / g->groups};
    d->vectors = (d->to + LANES - 1) / LANES;
    d->blocks = (d->vectors + 1) / 2;
    const int apart = g->dw > 1 && g->dw % g->sw == 0 && g->kw > 1 && d->from < NAME(tile_pixels)(2);
    d->phases = apart ? min_of(g->dw / g->sw, g->ow) : 1;
    d->every = apart ? g->dw : 1;
    d->merged = g->dw == 1 || apart;
    d->region_columns = (g->ow - 1) * g->sw + (g->kw - 1) * g->dw + 1;
    double copying = NAME(gradient_cycles)(g, d, d->merged, 0);
    /* Each block of filters copies its input; counting one copy fits the measurements best. */
    if (g->groups > 1 && g->kw > 1)
        copying += (double)(g->groups * g->n * ((g->oh - 1) * g->sh + 1) * d->region_columns) *
                   (double)(d->from < 6 ? d->from : 6 * ceil_div(d->from, LANES));
    d->inside = !apart && NAME(gradient_cycles)(g, d, 0, 1) < 0.9 * copying;
    if (d->inside) d->merged = 0;
}

static int NAME(gradient_can)(const plan *p, int what) {
    (void)what;
    return !NAME(is_depthwise)(&p->g);
}

/* Either of the two ways does every geometry: this is the choice between them. */
static int NAME(gradient_inside)(const plan *p, int what) {
    NAME(gradient) d;
    (void)what;
    NAME(gradient_sizes)(&p->g, &d);
    return d.inside && !NAME(is_depthwise)(&p->g);
}

static int NAME(gradient_across)(const plan *p, int what) {
    NAME(gradient) d;
    (void)what;
    NAME(gradient_sizes)(&p->g, &d);
    return !d.inside && !NAME(is_depthwise)(&p->g);
}

static void NAME(gradient_plan)(plan *p, int what) {
    const conv *g = &p->g;
    NAME(gradient) *d = (void *)p->own;
    _Static_assert(sizeof(NAME(gradient)) <= sizeof p->own, "the plan holds the algorithm's numbers");
    const ptrdiff_t size = sizeof(REAL);
    (void)what;
    NAME(gradient_sizes)(g, d);
    const int apart = d->every > 1;
    const ptrdiff_t reach = (g->kh - 1) * g->dh + 1;
    const ptrdiff_t products = g->kh * g->kw * d->from;
    d->copied =
        apart || (!d->inside && ((g->groups > 1 && g->kw > 1) || g->pl > 0 || d->region_columns > g->w));
    if (apart) d->region_columns = ceil_div(g->ow, d->phases) + g->kw - 1;
    d->packed = products >= 64 && g->k > 2 * LANES;
    d->touched = !d->copied && NAME(is_touched)(g);

    /* A block: its errors in 16 KiB, but 128 pixels at least; whole images where these are small. */
    const ptrdiff_t wanted = min_of(256, (16 << 10) / (2 * LANES * size));
    const ptrdiff_t pixels = wanted < 128 ? 128 : wanted;
    d->rows = min_of((pixels + g->ow - 1) / g->ow, g->oh);
    d->row_blocks = even_blocks(g->oh, &d->rows);
    d->images = d->row_blocks > 1 ? 1 : min_of(g->n, (pixels + g->oh * g->ow - 1) / (g->oh * g->ow));
    d->pixel_blocks = (g->n + d->images - 1) / d->images * d->row_blocks;
    d->region_rows = (d->rows - 1) * g->sh + reach;

    const ptrdiff_t items = d->blocks * g->groups;
    d->parts = NAME(gradient_parts)(g, items, d->pixel_blocks, products * g->k * size);

    const ptrdiff_t width = min_of(d->vectors, 2) * LANES;
    const ptrdiff_t region = d->images * d->phases * d->region_rows * d->region_columns * d->from;
    const ptrdiff_t errors = d->images * d->rows * g->ow * width;
    p->stages = 2;
    p->items[0] = d->parts * items;
    p->items[1] = g->kh * g->kw * g->groups;
    p->shared_bytes = (size_t)(d->parts * g->groups * products * d->vectors * LANES * size);
    const ptrdiff_t numbers = (d->copied ? region : 0) + (d->packed || d->to < LANES ? errors : 0) + LANES;
    p->scratch_bytes = (size_t)round_up(numbers * size, 64);
    p->cycles = NAME(gradient_cycles)(g, d, d->merged, d->inside);
}
