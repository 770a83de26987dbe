/* direct_inside.h: rows of direct.h, without multiplying the padding beside the image.

   All results of a tile see the same kernel columns, and through some columns the results at the ends of a
   row see zeros: with a 5x5 kernel of dilation 2 over 8x8 pixels, through 12 of 40. Here the kernel columns
   are done one after the other, each for the results that see the image through it. The sums wait in
   `scratch` in between. A step of a tile, of all kernel rows and channels, is long enough to pay for loading
   and storing them. */

/* Finds the results first ... last - 1 of a row that see the input through kernel column j. */
INLINE ptrdiff_t NAME(results_inside)(const NAME(axis) * x, ptrdiff_t j, ptrdiff_t size, ptrdiff_t *first) {
    return NAME(outputs_inside)(j, x->in_step, -x->in0, x->tap_step, size, x->count, first);
}

/* As direct_rows in direct.h; `sums` are those of one row and one block of filters. */
static void NAME(inside_rows)(const plan *p, const NAME(axis) * y, const NAME(axis) * x, ptrdiff_t first,
                              ptrdiff_t last, const REAL *in, ptrdiff_t row, ptrdiff_t pixel,
                              const REAL *filters, ptrdiff_t group, ptrdiff_t block, REAL *out, REAL *sums) {
    const NAME(direct) *d = (const void *)p->own;
    const ptrdiff_t width = NAME(block_width)(d, block), channels = d->groups * d->to;
    const ptrdiff_t lanes = min_of(d->to, LANES), tap = d->from * width;
    const ptrdiff_t vectors = width / LANES;
    const REAL *const bias = p->bias ? (const REAL *)p->bias + group * d->to : NULL;
    ptrdiff_t k[2];
    vec start[2];
    for (ptrdiff_t v = 0; v < vectors; v++) {
        k[v] = NAME(vector_start)(2 * block + v, d->to);
        start[v] = bias ? NAME(load_some)(bias + k[v], lanes) : (vec){0};
    }
    const int stream = d->large && NAME(begins_a_line)(p->out);
    NAME(tile)
    t = {.y_step = width,
         .x_step = x->in_step * pixel,
         .row = y->tap_step * row,
         .columns = 1,
         .run = d->from};
    t.w_row = (x->taps - 1) * tap;
    t.second = t.lanes = LANES;
    t.add = 1;
    in += (y->in0 - d->low_y) * row + (x->in0 - d->low_x) * pixel;
    for (ptrdiff_t r = first; r < last; r++) {
        ptrdiff_t i0;
        const ptrdiff_t i1 = NAME(taps_inside)(y, r, d->ih, &i0);
        memset(sums, 0, (size_t)(x->count * width) * sizeof(REAL));
        t.rows = i1 - i0;
        for (ptrdiff_t j = 0; i1 > i0 && j < x->taps; j++) {
            ptrdiff_t s0;
            const ptrdiff_t s1 = NAME(results_inside)(x, j, d->iw, &s0);
            if (s1 <= s0) continue;
            t.w = filters + (i0 * x->taps + j) * tap;
            t.x = in + (r - first) * d->step_y * row + i0 * t.row + s0 * t.x_step + j * x->tap_step * pixel;
            t.y = sums + s0 * width;
            NAME(tile_row)(&t, vectors, NAME(cut_row)(vectors, s1 - s0));
        }
        REAL *const to = out + ((y->out0 + r * y->out_step) * d->ow + x->out0) * channels + group * d->to;
        for (ptrdiff_t s = 0; s < x->count; s++)
            for (ptrdiff_t v = 0; v < vectors; v++) { /* a pixel's vectors together: they share cache lines */
                vec sum = *(const vec *)(sums + s * width + v * LANES) + start[v];
                if (p->relu) sum = NAME(positive)(sum);
                REAL *const result = to + s * x->out_step * channels + k[v];
                if (stream)
                    NAME(stream)(result, sum);
                else
                    NAME(store_some)(result, sum, lanes);
            }
    }
}

/* Cycles of the tiles for one row of results of every phase; `inside`: without the padding. */
static double NAME(columns_cycles)(const plan *p, int inside) {
    const NAME(direct) *d = (const void *)p->own;
    const ptrdiff_t wide = min_of(d->vectors, 2), most = NAME(tile_pixels)(wide);
    const double steps = (double)(p->g.kh * d->from) / (double)d->phases_y;
    double cycles = 0;
    for (ptrdiff_t b = 0; b < d->phases_x; b++) {
        const NAME(axis) x = NAME(direct_x)(p, b);
        for (ptrdiff_t j = 0; j < x.taps; j++) {
            ptrdiff_t s0 = 0;
            const ptrdiff_t count = inside ? NAME(results_inside)(&x, j, d->iw, &s0) - s0 : x.count;
            if (count <= 0) continue;
            const double tiles = (double)ceil_div(count, most);
            cycles += tiles * steps * cost_of_tile((double)count / tiles, (double)wide, 1);
            if (inside) cycles += tiles * 30 + (double)(count * wide);
        }
    }
    return cycles;
}
