/* guard_repair.h: results summed again directly, a few pixels at a time.

   Their windows are copied, [pixel][tap][channel], so that padding needs no care. In the forward pass the
   lanes are filters; in the input gradient, whose sums run over filters, they are the terms of a sum. */

typedef struct NAME(guard_queue) {
    ptrdiff_t count, y[NAME(GUARD_PIXELS)], x[NAME(GUARD_PIXELS)];
    REAL needed[NAME(GUARD_PIXELS)]; /* the least v with which the pixel stands; NaN: with none */
} NAME(guard_queue);

/* A tile's place: what the pixels in the queue have in common. */
typedef struct NAME(guard_place) {
    ptrdiff_t group, image, vector, end; /* vectors of output channels: the first one, and after the last */
    const REAL *spread;                  /* v of the group's vectors */
    REAL *windows;                       /* room for the copies */
} NAME(guard_place);

INLINE REAL *NAME(guard_result)(const plan *p, const NAME(guard) * d, const NAME(guard_place) * at,
                                ptrdiff_t y, ptrdiff_t x, ptrdiff_t v) {
    return (REAL *)p->out + ((at->image * d->oh + y) * d->ow + x) * d->to + at->group * d->k +
           NAME(guard_first)(d, v);
}

/* Adds the bias and stores one vector of a result. */
INLINE void NAME(guard_store)(const plan *p, const NAME(guard) * d, const NAME(guard_place) * at, ptrdiff_t y,
                              ptrdiff_t x, ptrdiff_t v, vec sum) {
    const ptrdiff_t lanes = NAME(guard_lanes)(d, v);
    if (p->bias)
        sum += NAME(load_lanes)((const REAL *)p->bias + at->group * d->k + NAME(guard_first)(d, v), lanes);
    NAME(store_lanes)(NAME(guard_result)(p, d, at, y, x, v), p->relu ? NAME(positive)(sum) : sum, lanes);
}

/* The result of a window that holds zeros only. */
static void NAME(guard_zero)(const plan *p, const NAME(guard_place) * at, ptrdiff_t y, ptrdiff_t x) {
    const NAME(guard) *d = (const void *)(p->own + NAME(GUARD_OWN));
    for (ptrdiff_t v = at->vector; v < at->end; v++) NAME(guard_store)(p, d, at, y, x, v, (vec){0});
}

static void NAME(copy_window)(const plan *p, const NAME(guard) * d, const NAME(guard_place) * at, ptrdiff_t y,
                              ptrdiff_t x, REAL *to) {
    const REAL *const image = (const REAL *)p->a + at->image * d->ih * d->iw * d->from + at->group * d->c;
    const ptrdiff_t x0 = x - d->left, row = p->g.kw * d->tap;
    const ptrdiff_t j0 = max_of(-x0, 0), j1 = min_of(p->g.kw, d->iw - x0); /* columns inside */
    const int whole = d->tap == d->from;                                   /* pixels follow one another */
    if (j0 > 0 || j1 < p->g.kw || y < d->top || y - d->top + p->g.kh > d->ih || d->tap != d->c)
        memset(to, 0, (size_t)d->window * sizeof(REAL));
    for (ptrdiff_t i = max_of(d->top - y, 0); i < min_of(p->g.kh, d->ih + d->top - y); i++) {
        const REAL *from = image + ((y - d->top + i) * d->iw + x0 + j0) * d->from;
        REAL *target = to + i * row + j0 * d->tap;
        const ptrdiff_t runs = whole ? j1 > j0 : j1 - j0, length = whole ? (j1 - j0) * d->c : d->c;
        for (ptrdiff_t j = 0; j < runs; j++, from += d->from, target += d->tap)
            for (ptrdiff_t l = 0; l < length; l += LANES)
                NAME(store_lanes)(target + l, NAME(load_lanes)(from + l, length - l), length - l);
    }
}

/* Sums of the forward pass: one vector of filters. Taps and channels follow one another in the weights and in
   the copies. */
static void NAME(sums_by_filters)(const plan *p, const NAME(guard) * d, const NAME(guard_place) * at,
                                  ptrdiff_t v, vec *sum) {
    const ptrdiff_t lanes = NAME(guard_lanes)(d, v), step = p->g.k, window = d->window;
    const REAL *w = NAME(guard_weights)(p, d, at->group, 0, NAME(guard_first)(d, v)), *x = at->windows;
    vec part[NAME(GUARD_PIXELS)];
    for (int r = 0; r < NAME(GUARD_PIXELS); r++) part[r] = (vec){0};
    for (ptrdiff_t i = 0; i < window; i++, w += step, x++) {
        const vec factor = NAME(load_lanes)(w, lanes);
        UNROLL
        for (int r = 0; r < NAME(GUARD_PIXELS); r++) part[r] += x[r * window] * factor;
    }
    for (int r = 0; r < NAME(GUARD_PIXELS); r++) sum[r] = part[r];
}

/* Sums of the input gradient: one vector of the weight's channels, channel by channel. */
static void NAME(sums_by_terms)(const plan *p, const NAME(guard) * d, const NAME(guard_place) * at,
                                ptrdiff_t v, vec *sum) {
    REAL lanes[NAME(GUARD_PIXELS)][LANES] __attribute__((aligned(VECTOR_BYTES))) = {{0}};
    for (ptrdiff_t l = 0; l < NAME(guard_lanes)(d, v); l++) {
        vec part[NAME(GUARD_PIXELS)];
        for (int r = 0; r < NAME(GUARD_PIXELS); r++) part[r] = (vec){0};
        for (ptrdiff_t t = 0; t < p->g.kh * p->g.kw; t++) {
            const REAL *const w = NAME(guard_weights)(p, d, at->group, t, NAME(guard_first)(d, v) + l);
            const REAL *const x = at->windows + t * d->tap;
            for (ptrdiff_t i = 0; i < d->c; i += LANES) {
                const vec factor = NAME(load_lanes)(w + i, d->c - i);
                UNROLL
                for (int r = 0; r < NAME(GUARD_PIXELS); r++)
                    part[r] += NAME(load)(x + r * d->window + i) * factor;
            }
        }
        for (int r = 0; r < NAME(GUARD_PIXELS); r++) lanes[r][l] = NAME(total)(part[r]);
    }
    for (int r = 0; r < NAME(GUARD_PIXELS); r++) sum[r] = *(const vec *)lanes[r];
}

/* Sums the pixels in the queue again, for each vector of filters with which they do not stand. */
static void NAME(guard_flush)(const plan *p, const NAME(guard_place) * at, NAME(guard_queue) * queue) {
    const NAME(guard) *d = (const void *)(p->own + NAME(GUARD_OWN));
    if (queue->count == 0) return;
    for (ptrdiff_t r = 0; r < NAME(GUARD_PIXELS); r++)
        if (r < queue->count)
            NAME(copy_window)(p, d, at, queue->y[r], queue->x[r], at->windows + r * d->window);
        else
            memset(at->windows + r * d->window, 0, (size_t)d->window * sizeof(REAL));
    for (ptrdiff_t v = at->vector; v < at->end; v++) {
        int any = 0;
        for (ptrdiff_t r = 0; r < queue->count; r++) any |= !(at->spread[v] >= queue->needed[r]);
        if (!any) continue;
        vec sum[NAME(GUARD_PIXELS)];
        if (d->turned)
            NAME(sums_by_terms)(p, d, at, v, sum);
        else
            NAME(sums_by_filters)(p, d, at, v, sum);
        for (ptrdiff_t r = 0; r < queue->count; r++)
            if (!(at->spread[v] >= queue->needed[r]))
                NAME(guard_store)(p, d, at, queue->y[r], queue->x[r], v, sum[r]);
    }
    queue->count = 0;
}

/* Result (y, x) stands with filters of at least the spread `needed`. */
static void NAME(guard_pixel)(const plan *p, const NAME(guard_place) * at, ptrdiff_t y, ptrdiff_t x,
                              REAL needed, NAME(guard_queue) * queue) {
    int any = 0;
    for (ptrdiff_t v = at->vector; v < at->end; v++) any |= !(at->spread[v] >= needed);
    if (!any) return;
    queue->y[queue->count] = y, queue->x[queue->count] = x, queue->needed[queue->count++] = needed;
    if (queue->count == NAME(GUARD_PIXELS)) NAME(guard_flush)(p, at, queue);
}
