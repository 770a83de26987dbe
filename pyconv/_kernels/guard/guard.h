/* guard.h: Winograd's results that their own windows cannot answer for, found and summed again.

   A transform mixes the numbers of a tile. So each result of a tile has the rounding of the tile's largest
   numbers, and what is not finite, whether its own window holds them or not. With S the sum of a window's
   magnitudes, Q the sum of its squares, and T that of the pixels which the tile's transform reads, scaled to
   the size of a window, the results of a pixel stand for filter w only if

       v S^2 >= GUARD_LEAST max(Q, T)         v = (sum |w|)^2 / (n sum w^2),  n numbers in a window        (8)

   S^2 / Q is how many numbers of about the same size the window holds, v the share of a filter's weights that
   count: 0.64 if they are normal. So (8) asks for as many products as make it most unlikely that all of them
   are small while the tile's rounding is not, and for the more, the darker the window is beside its tile.
   decisions/0046 has the estimate. Where (8) fails, the pixel is summed again directly, for the vectors of
   filters that fail; a window that holds nothing but zeros gives the bias. Which results those are follows
   from the tile and the filters only: not from other images, nor from how tiles are shared among threads.

   A kernel calls `guard_plan` at the end of its plan and, if p->guarded, `guard_filters` for the items of
   stage 0 that were added, `guard_pixels` for the tiles of an item, and `guard_tiles` when they are written.

       guard.h            the numbers that the guard keeps; v of the filters
       guard_sums.h       magnitudes and squares of pixels
       guard_repair.h     the direct sums
       guard_windows.h    equation (8) */

#define GUARD_LEAST ((REAL)6)

/* Squares of numbers in a tile within these limits neither overflow nor lose digits. */
#define GUARD_TINY ((REAL)(sizeof(REAL) == 4 ? 1e-26 : 1e-270))
#define GUARD_HUGE ((REAL)(sizeof(REAL) == 4 ? 1e30 : 1e270))

enum {
    NAME(GUARD_NUMBERS) = 48,     /* with fewer in a window, and many filters, direct sums cost less */
    NAME(GUARD_FEW_NUMBERS) = 16, /* with fewer, (8) almost never holds */
    NAME(GUARD_OWN) = 64,         /* where plan.own holds these numbers, behind those of the kernel */
    NAME(GUARD_PIXELS) = 6        /* pixels that are summed again together */
};

/* "In" and "out" are those of this convolution: in the input gradient the images that are read are grad_out.
 */
typedef struct NAME(guard) {
    ptrdiff_t turned;          /* the input gradient: filters are flipped and transposed */
    ptrdiff_t overlap;         /* the last vector of output channels ends with them (direct_filters.h) */
    ptrdiff_t ih, iw, from, c; /* input: size, channels, those of a group */
    ptrdiff_t top, left;       /* zeros around it; if negative, so many pixels are skipped */
    ptrdiff_t oh, ow, to, k;   /* result: the same */
    ptrdiff_t mh, mw, eh, ew;  /* of a tile: results, and pixels that its transform reads */
    ptrdiff_t band;            /* rows of pixels that the tiles of an item read, at most */
    ptrdiff_t across;          /* tiles of a row */
    ptrdiff_t vectors;         /* of a group's output channels */
    ptrdiff_t width;           /* numbers of a row of sums */
    ptrdiff_t window, tap;     /* numbers of a copied window, of one of its pixels */
    ptrdiff_t items, in_shared, in_scratch; /* the kernel's own items of stage 0, and numbers of memory */
} NAME(guard);

INLINE NAME(guard) * NAME(guard_of)(plan *p) {
    return (void *)(p->own + NAME(GUARD_OWN));
}

/* Whether the guard lets transforms do this geometry: windows of at least so many numbers. */
INLINE int NAME(guard_can)(const plan *p, int what, ptrdiff_t least) {
    const conv *g = &p->g;
    return !p->guarded || what == WEIGHT_GRAD ||
           g->kh * g->kw * ((what == INPUT_GRAD ? g->k : g->c) / g->groups) >= least;
}

INLINE vec NAME(magnitude)(vec v) {
    const INTEGER all_but_the_sign = sizeof(REAL) == 4 ? (INTEGER)0x7fffffff : (INTEGER)0x7fffffffffffffff;
    return (vec)((ivec)v & (all_but_the_sign - (ivec){0}));
}

/* Completes the plan for a guard with the sizes in `sizes`: those of the first lines, to `band`. */
static void NAME(guard_plan)(plan *p, NAME(guard) sizes) {
    if (!p->guarded) return;
    const conv *g = &p->g;
    NAME(guard) *const d = NAME(guard_of)(p);
    *d = sizes;
    d->across = ceil_div(d->ow, d->mw);
    d->vectors = ceil_div(d->k, LANES);
    d->width = round_up(d->across * d->mw + d->ew + LANES, LANES);
    d->tap = d->turned ? round_up(d->c, LANES) : d->c;
    d->window = g->kh * g->kw * d->tap;
    d->items = p->items[0];
    d->in_shared = (ptrdiff_t)(p->shared_bytes + 63) / 64 * 64 / (ptrdiff_t)sizeof(REAL);
    d->in_scratch = (ptrdiff_t)(p->scratch_bytes + 63) / 64 * 64 / (ptrdiff_t)sizeof(REAL);
    const ptrdiff_t rows = (6 * d->band + 1) * d->width; /* guard_windows.h */
    const ptrdiff_t own = rows + 2 * d->eh * d->ew + NAME(GUARD_PIXELS) * d->window;
    p->cycles += cost_of_guard((double)(g->n * g->groups * d->ih * d->iw), (double)ceil_div(d->c, LANES),
                               (double)(g->n * g->groups * d->oh * d->ow));
    p->items[0] += g->groups * d->vectors;
    p->shared_bytes = (size_t)(d->in_shared + g->groups * d->vectors) * sizeof(REAL);
    p->scratch_bytes = (size_t)round_up((d->in_scratch + own) * (ptrdiff_t)sizeof(REAL), 64);
}

/* Where tap `t` of output channel `channel` begins; in the input gradient the filters follow one another. */
INLINE const REAL *NAME(guard_weights)(const plan *p, const NAME(guard) * d, ptrdiff_t group, ptrdiff_t t,
                                       ptrdiff_t channel) {
    const ptrdiff_t taps = p->g.kh * p->g.kw, filters = p->g.k, c = p->g.c / p->g.groups;
    if (d->turned) return (const REAL *)p->b + ((taps - 1 - t) * c + channel) * filters + group * d->c;
    return (const REAL *)p->b + t * c * filters + group * d->k + channel;
}

/* The first output channel of a vector, and how many it has. */
INLINE ptrdiff_t NAME(guard_first)(const NAME(guard) * d, ptrdiff_t v) {
    return d->overlap ? min_of(v * LANES, d->k - LANES) : v * LANES;
}

INLINE ptrdiff_t NAME(guard_lanes)(const NAME(guard) * d, ptrdiff_t v) {
    return min_of(LANES, d->k - NAME(guard_first)(d, v));
}

/* The least v of one vector of output channels. A filter of zeros gives exact zeros, unless a number is not
   finite. */
static REAL NAME(guard_spread)(const plan *p, const NAME(guard) * d, ptrdiff_t group, ptrdiff_t vector) {
    const ptrdiff_t taps = p->g.kh * p->g.kw, first = NAME(guard_first)(d, vector);
    const ptrdiff_t lanes = NAME(guard_lanes)(d, vector);
    REAL sums[LANES] __attribute__((aligned(VECTOR_BYTES)));
    REAL squares[LANES] __attribute__((aligned(VECTOR_BYTES)));
    for (ptrdiff_t l = 0; l < (d->turned ? lanes : 1); l++) {
        vec sum = {0}, square = {0};
        for (ptrdiff_t t = 0; t < taps; t++) {
            const REAL *w = NAME(guard_weights)(p, d, group, t, first + l);
            for (ptrdiff_t i = 0; i < d->c; i += d->turned ? LANES : 1, w += d->turned ? LANES : p->g.k) {
                const vec factor = NAME(load_lanes)(w, d->turned ? d->c - i : lanes);
                sum += NAME(magnitude)(factor);
                square += factor * factor;
            }
        }
        if (d->turned)
            sums[l] = NAME(total)(sum), squares[l] = NAME(total)(square);
        else
            *(vec *)sums = sum, *(vec *)squares = square;
    }
    REAL least = (REAL)INFINITY;
    for (ptrdiff_t l = 0; l < lanes; l++) {
        const REAL v = sums[l] * (sums[l] / squares[l]) / (REAL)(taps * d->c);
        if (sums[l] != 0 && !(v >= least)) least = v >= 0 ? v : 0; /* NaN: nothing stands */
    }
    return least;
}

/* An item of stage 0 after the kernel's own: v of one vector. Two vectors that overlap get the same, so that
   both decide alike about the channels that they share. */
static void NAME(guard_filters)(const plan *p, ptrdiff_t item, REAL *shared) {
    const NAME(guard) *d = (const void *)(p->own + NAME(GUARD_OWN));
    const ptrdiff_t group = (item - d->items) / d->vectors, vector = (item - d->items) % d->vectors;
    REAL least = NAME(guard_spread)(p, d, group, vector);
    if (d->overlap && d->vectors > 1 && vector >= d->vectors - 2) {
        const REAL other = NAME(guard_spread)(p, d, group, 2 * d->vectors - 3 - vector);
        if (other < least) least = other;
    }
    shared[d->in_shared + item - d->items] = least;
}
