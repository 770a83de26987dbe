/* plane_weight_grad.h: the weight gradient for few filters and few channels; the lanes are pixels
   (shifted.h).

   Channels and errors are copied apart, each to a plane, and the rows of all planes have one length: after
   each row of errors come as many zeros as the kernel reaches beyond the end of the input's row. So all rows
   of a block are one long row, and an element of the kernel is a distance in it:

       dw[i, j, c, k] = sum over q of x[c][q + i dh width + j dw] dy[k][q]

   With a stride, the input has a plane for each phase, and the distance is measured in the phase's plane.
   Stage 0, an item: one part of the blocks of rows (of several images, where these are small) and one group.
   Its sums, lane by lane, are its part of `shared`. Stage 1 adds up lanes and parts in their order. */

enum {
    NAME(PLANE_GRAD_BYTES) = 24 << 10, /* the planes of a block, in the L1 cache */
    NAME(PLANE_GRAD_LEAST) = 64        /* fewer vectors in a block would not pay for loading the sums */
};

typedef struct NAME(planes) {
    ptrdiff_t from, to;             /* channels and filters of one group */
    ptrdiff_t phases_y, phases_x;   /* those phases of the stride that the kernel meets */
    ptrdiff_t halo_y, halo_x;       /* rows and columns that a plane has after the last result's first */
    ptrdiff_t width;                /* of a plane's rows */
    ptrdiff_t rows, images, blocks; /* result rows and images of a block */
    ptrdiff_t row_blocks;           /* blocks of an image's rows */
    ptrdiff_t plane;                /* numbers of a plane */
    ptrdiff_t places;               /* kernel elements and channels */
    ptrdiff_t parts;
} NAME(planes);

/* Makes the planes of the image rows that the result rows first ... first + rows - 1 see. */
static void NAME(make_planes)(const plan *p, ptrdiff_t image, ptrdiff_t images, ptrdiff_t first,
                              ptrdiff_t rows, ptrdiff_t group, REAL *to) {
    const NAME(planes) *d = (const void *)p->own;
    const conv *g = &p->g;
    const REAL *const x = p->a, *const end = x + g->n * g->h * g->w * g->c;
    const ptrdiff_t phases = d->phases_y * d->phases_x, channel = phases * d->plane;
    for (ptrdiff_t a = 0; a < d->phases_y; a++)
        for (ptrdiff_t b = 0; b < d->phases_x; b++, to += d->plane) {
            REAL *line = to;
            for (ptrdiff_t n = image; n < image + images; n++)
                for (ptrdiff_t r = 0; r < rows + d->halo_y; r++, line += d->width)
                    NAME(row_apart)(x + n * g->h * g->w * g->c + group * d->from, end, g->h, g->w, g->c,
                                    (first + r) * g->sh - g->pt + a, b - g->pl, g->sw, d->width, d->from,
                                    line, channel);
            for (ptrdiff_t c = 0; c < d->from; c++)
                memset(line + c * channel, 0, (size_t)(d->halo_x + LANES) * sizeof(REAL));
        }
}

/* Makes the planes of the errors of the same rows, with zeros between them. */
static void NAME(make_error_planes)(const plan *p, ptrdiff_t image, ptrdiff_t images, ptrdiff_t first,
                                    ptrdiff_t rows, ptrdiff_t group, REAL *to) {
    const NAME(planes) *d = (const void *)p->own;
    const conv *g = &p->g;
    const REAL *const dy = p->b, *const end = dy + g->n * g->oh * g->ow * g->k;
    for (ptrdiff_t n = image; n < image + images; n++)
        for (ptrdiff_t r = 0; r < rows + d->halo_y; r++, to += d->width) /* the last ones: zeros */
            NAME(row_apart)(dy + n * g->oh * g->ow * g->k + group * d->to, end, r < rows ? g->oh : 0, g->ow,
                            g->k, first + r, 0, 1, d->width, d->to, to, d->plane);
    for (ptrdiff_t k = 0; k < d->to; k++) memset(to + k * d->plane, 0, (size_t)LANES * sizeof(REAL));
}

/* Finds where each kernel element of each channel is in the planes. */
static void NAME(places_in_planes)(const plan *p, ptrdiff_t *at) {
    const NAME(planes) *d = (const void *)p->own;
    const conv *g = &p->g;
    for (ptrdiff_t i = 0; i < g->kh; i++)
        for (ptrdiff_t j = 0; j < g->kw; j++)
            for (ptrdiff_t c = 0; c < d->from; c++) {
                const ptrdiff_t y = i * g->dh, x = j * g->dw;
                const ptrdiff_t phase = (c * d->phases_y + y % g->sh) * d->phases_x + x % g->sw;
                *at++ = phase * d->plane + y / g->sh * d->width + x / g->sw;
            }
}

static void NAME(planes_run)(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) {
    const NAME(planes) *d = (const void *)p->own;
    const conv *g = &p->g;
    const ptrdiff_t size = d->places * d->to * LANES;
    if (stage == 1) {
        const ptrdiff_t group = item / d->places, place = item % d->places;
        REAL *const out = (REAL *)p->out + place * g->k + group * d->to;
        const REAL *const sums = (const REAL *)shared + group * size + place * d->to * LANES;
        const ptrdiff_t tap = place / d->from, c = group * d->from + place % d->from;
        for (ptrdiff_t k = 0; k < d->to; k++) {
            out[k] = NAME(total)(NAME(sum_of_parts)(sums + k * LANES, g->groups * size, d->parts));
            if (out[k] != out[k])
                out[k] = NAME(literal_element)(p, tap / g->kw, tap % g->kw, c, group * d->to + k);
        }
        return;
    }
    const ptrdiff_t group = item % g->groups, part = item / g->groups;
    REAL *const sums = (REAL *)shared + item * size, *const x = scratch;
    REAL *const dy = x + d->from * d->phases_y * d->phases_x * d->plane;
    ptrdiff_t *const at = (ptrdiff_t *)(dy + d->to * d->plane);
    memset(sums, 0, (size_t)size * sizeof(REAL));
    NAME(places_in_planes)(p, at);
    NAME(shifted)
    t = {.x = x, .dy = dy, .rows = 1, .x_step = LANES, .dy_step = LANES, .dy_next = d->plane};
    for (ptrdiff_t b = even_cut(d->blocks, d->parts, part); b < even_cut(d->blocks, d->parts, part + 1);
         b++) {
        const ptrdiff_t image = b / d->row_blocks * d->images, first = b % d->row_blocks * d->rows;
        const ptrdiff_t images = min_of(d->images, g->n - image), rows = min_of(d->rows, g->oh - first);
        NAME(make_planes)(p, image, images, first, rows, group, x);
        NAME(make_error_planes)(p, image, images, first, rows, group, dy);
        t.columns = ceil_div((images * (rows + d->halo_y) - d->halo_y) * d->width, LANES);
        NAME(shifted_sums)(&t, at, d->places, d->to, sums);
    }
}

static int NAME(plane_grad_can)(const plan *p, int what) {
    const conv *g = &p->g;
    (void)what;
    return max_of(g->c, g->k) / g->groups <= 2 * LANES && !NAME(is_depthwise)(g);
}

static void NAME(plane_grad_plan)(plan *p, int what) {
    const conv *g = &p->g;
    NAME(planes) *d = (void *)p->own;
    (void)what;
    _Static_assert(sizeof(NAME(planes)) <= sizeof p->own, "the plan holds the algorithm's numbers");
    const ptrdiff_t size = sizeof(REAL);
    *d = (NAME(planes)){.from = g->c / g->groups, .to = g->k / g->groups};
    d->phases_y = g->dh % g->sh == 0 ? 1 : min_of(g->sh, (g->kh - 1) * g->dh + 1);
    d->phases_x = g->dw % g->sw == 0 ? 1 : min_of(g->sw, (g->kw - 1) * g->dw + 1);
    d->halo_y = (g->kh - 1) * g->dh / g->sh, d->halo_x = (g->kw - 1) * g->dw / g->sw;
    d->width = g->ow + d->halo_x;
    d->places = g->kh * g->kw * d->from;
    const ptrdiff_t phases = d->from * d->phases_y * d->phases_x, planes = phases + d->to;

    const ptrdiff_t wanted = max_of(NAME(PLANE_GRAD_BYTES) / (planes * size), NAME(PLANE_GRAD_LEAST) * LANES);
    d->rows = min_of(max_of(ceil_div(wanted, d->width), 2 * d->halo_y), g->oh);
    d->row_blocks = even_blocks(g->oh, &d->rows);
    const ptrdiff_t one = (d->rows + d->halo_y) * d->width; /* numbers of an image */
    d->images = d->row_blocks > 1 ? 1 : min_of(max_of(wanted / one, 1), g->n);
    d->blocks = ceil_div(g->n, d->images) * d->row_blocks;
    d->plane = round_up(d->images * one + d->halo_x + 2 * LANES, LANES);
    d->parts = NAME(gradient_parts)(g, g->groups, d->blocks, g->groups * d->places * d->to * LANES * size);

    /* Cycles: the tiles, and pixels taken apart. */
    const double vectors = (double)(d->images * one) / LANES, blocks = (double)d->blocks;
    const double copied = (double)(d->images * one) *
                          ((double)(d->phases_y * d->phases_x) * NAME(apart_cycles)(d->from, g->c * g->sw) +
                           NAME(apart_cycles)(d->to, g->k));
    p->cycles = (double)g->groups * (NAME(shifted_cycles)(d->places, d->to, blocks * vectors, blocks) +
                                     blocks * copied + (double)(d->parts * d->places * d->to));
    p->stages = 2;
    p->items[0] = d->parts * g->groups;
    p->items[1] = d->places * g->groups;
    p->shared_bytes = (size_t)(d->parts * g->groups * d->places * d->to * LANES * size);
    p->scratch_bytes =
        (size_t)round_up(planes * d->plane * size + d->places * (ptrdiff_t)sizeof(ptrdiff_t), 64);
}
