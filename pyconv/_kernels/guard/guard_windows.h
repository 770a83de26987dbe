/* guard_windows.h: equation (8) for the tiles of an item.

   Sums over a window are made across first, row by row of pixels, and then down: so each is loaded as it was
   stored, and none is made by subtraction, which would keep the rounding of a large pixel that has gone. */

/* Rows of numbers in scratch, each d->width long. Columns count from the first tile's first pixel on. */
typedef struct NAME(guard_space) {
    REAL *s, *q;          /* of pixels */
    REAL *ws, *wq, *tile; /* S and Q of a row of a window, and Q of a row of a tile's pixels, to the right */
    REAL *energy;         /* T of each result's tile */
    REAL *marks;          /* of each tile of a row: not zero where sums of squares say nothing */
    REAL *far;            /* S and Q of the pixels of such a tile */
} NAME(guard_space);

/* From row `base` on: an item with tiles of several images keeps the rows of one after those of another. */
INLINE NAME(guard_space) NAME(guard_space_of)(const NAME(guard) * d, REAL *scratch, ptrdiff_t base) {
    const ptrdiff_t rows = d->band * d->width;
    REAL *const s = scratch + d->in_scratch + base * d->width, *const marks =
                                                                   scratch + d->in_scratch + 6 * rows;
    return (NAME(guard_space)){s,     s + rows,        s + 2 * rows, s + 3 * rows, s + 4 * rows, s + 5 * rows,
                               marks, marks + d->width};
}

/* The sum of a lane's column over rows of numbers. */
INLINE vec NAME(sum_down)(const NAME(guard) * d, const REAL *from, ptrdiff_t rows) {
    vec sum = NAME(load)(from);
    for (ptrdiff_t i = 1; i < rows; i++) sum += NAME(load)(from + i * d->width);
    return sum;
}

INLINE vec NAME(sum_across)(const REAL *from, ptrdiff_t columns) {
    vec sum = NAME(load)(from);
    for (ptrdiff_t j = 1; j < columns; j++) sum += NAME(load)(from + j);
    return sum;
}

INLINE int NAME(guard_near)(REAL energy) {
    return energy > GUARD_TINY && energy < GUARD_HUGE;
}

/* A tile whose squares are too small or too large: its sums are made again of scaled numbers. Returns 1 and
   leaves them in `far`, 0 if the tile is zero, -1 if a number is not finite. */
static int NAME(guard_scaled)(const NAME(guard) * d, const REAL *image, ptrdiff_t y, ptrdiff_t x, REAL *far) {
    REAL most = 0;
    for (ptrdiff_t i = max_of(y, 0); i < min_of(y + d->eh, d->ih); i++)
        for (ptrdiff_t j = max_of(x, 0); j < min_of(x + d->ew, d->iw); j++)
            for (ptrdiff_t c = 0; c < d->c; c++) {
                const REAL value = image[(i * d->iw + j) * d->from + c], size = value < 0 ? -value : value;
                if (!(size < (REAL)INFINITY)) return -1;
                if (size > most) most = size;
            }
    if (most == 0) return 0;
    const int limit = sizeof(REAL) == 4 ? 120 : 1000; /* the scale is a normal number */
    int power;
    frexp((double)most, &power);
    const REAL scale = (REAL)ldexp(1., power > limit ? -limit : -power);
    for (ptrdiff_t i = 0; i < d->eh; i++)
        NAME(sums_of_row)(d, image, y + i, x, d->ew, scale, far + i * d->ew, far + (d->eh + i) * d->ew);
    return 1;
}

/* The sum of `rows` by `columns` numbers. */
INLINE REAL NAME(sum_within)(const REAL *from, ptrdiff_t row, ptrdiff_t rows, ptrdiff_t columns) {
    REAL sum = 0;
    for (ptrdiff_t i = 0; i < rows; i++)
        for (ptrdiff_t j = 0; j < columns; j++) sum += from[i * row + j];
    return sum;
}

/* All windows of such a tile; `s` are S of the band's rows, from the tile's first pixel on. */
static void NAME(guard_far_tile)(const plan *p, const NAME(guard_place) * at, const REAL *image,
                                 ptrdiff_t row, ptrdiff_t tile, const REAL *s, REAL *far, REAL area,
                                 NAME(guard_queue) * queue) {
    const NAME(guard) *d = (const void *)(p->own + NAME(GUARD_OWN));
    const ptrdiff_t y = row * d->mh, x = tile * d->mw, all = d->eh * d->ew;
    const int scaled = NAME(guard_scaled)(d, image, y - d->top, x - d->left, far);
    if (scaled == 0) return;
    const REAL energy = area * NAME(sum_within)(far + all, d->ew, d->eh, d->ew);
    for (ptrdiff_t i = 0; i < min_of(d->mh, d->oh - y); i++)
        for (ptrdiff_t j = 0; j < min_of(d->mw, d->ow - x); j++) {
            const REAL *const own = far + i * d->ew + j;
            const REAL sum = NAME(sum_within)(own, d->ew, p->g.kh, p->g.kw);
            const REAL square = NAME(sum_within)(own + all, d->ew, p->g.kh, p->g.kw);
            if (NAME(sum_within)(s + i * d->width + j, d->width, p->g.kh, p->g.kw) == 0)
                NAME(guard_zero)(p, at, y + i, x + j);
            else if (scaled < 0)
                NAME(guard_pixel)(p, at, y + i, x + j, (REAL)NAN, queue);
            else
                NAME(guard_pixel)(p, at, y + i, x + j,
                                  GUARD_LEAST * (square > energy ? square : energy) / (sum * sum), queue);
        }
}

/* Where tiles first ... end - 1 of an image lie. If they fill several rows, all columns are summed. */
typedef struct NAME(guard_tiling) {
    ptrdiff_t row0, row1, t0, t1;
} NAME(guard_tiling);

INLINE NAME(guard_tiling) NAME(guard_tiling_of)(const NAME(guard) * d, ptrdiff_t first, ptrdiff_t end) {
    const ptrdiff_t row0 = first / d->across, row1 = (end - 1) / d->across;
    if (row0 < row1) return (NAME(guard_tiling)){row0, row1, 0, d->across};
    return (NAME(guard_tiling)){row0, row1, first % d->across, (end - 1) % d->across + 1};
}

/* S and Q of the pixels that tiles first ... end - 1 of an image read, to rows from `base` on; returns the
   row after them. An item does this before it transforms them: neighbouring pixels are read in their order,
   which processors foresee. */
static ptrdiff_t NAME(guard_pixels)(const plan *p, ptrdiff_t group, ptrdiff_t image, ptrdiff_t first,
                                    ptrdiff_t end, ptrdiff_t base, REAL *scratch) {
    const NAME(guard) *d = (const void *)(p->own + NAME(GUARD_OWN));
    const NAME(guard_space) space = NAME(guard_space_of)(d, scratch, base);
    const REAL *const pixels = (const REAL *)p->a + image * d->ih * d->iw * d->from + group * d->c;
    const NAME(guard_tiling) at = NAME(guard_tiling_of)(d, first, end);
    const ptrdiff_t rows = (at.row1 - at.row0) * d->mh + d->eh;
    const ptrdiff_t x0 = at.t0 * d->mw, count = (at.t1 - at.t0 - 1) * d->mw + d->ew;
    for (ptrdiff_t i = 0; i < rows; i++) {
        REAL *const s = space.s + i * d->width + x0, *const q = space.q + i * d->width + x0;
        NAME(sums_of_row)(d, pixels, at.row0 * d->mh + i - d->top, x0 - d->left, count, 1, s, q);
        for (ptrdiff_t j = count; j < count + d->mw + LANES; j++) s[j] = q[j] = 0; /* read, and not used */
    }
    return base + rows;
}

/* Sums across, and T. */
static void NAME(guard_sums)(const plan *p, const NAME(guard_space) * space, NAME(guard_tiling) t,
                             REAL area) {
    const NAME(guard) *d = (const void *)(p->own + NAME(GUARD_OWN));
    const ptrdiff_t rows = (t.row1 - t.row0) * d->mh + d->eh, kw = p->g.kw;
    const ptrdiff_t x0 = t.t0 * d->mw, x1 = min_of(t.t1 * d->mw, d->ow);
    for (ptrdiff_t i = 0; i < rows; i++)
        for (ptrdiff_t x = x0, at = i * d->width + x0; x < x1; x += LANES, at += LANES) {
            NAME(store)(space->ws + at, NAME(sum_across)(space->s + at, kw));
            const vec window = NAME(sum_across)(space->q + at, kw);
            NAME(store)(space->wq + at, window);
            NAME(store)(space->tile + at, window + NAME(sum_across)(space->q + at + kw, d->ew - kw));
        }
    for (ptrdiff_t row = 0; row <= t.row1 - t.row0; row++)
        for (ptrdiff_t x = x0; x < x1; x += LANES) {
            const vec sum = NAME(sum_down)(d, space->tile + row * d->mh * d->width + x, d->eh);
            NAME(store)(space->energy + row * d->width + x, area * sum);
        }
    for (ptrdiff_t row = 0; row <= t.row1 - t.row0; row++)
        for (ptrdiff_t x = x0; x < x1; x += d->mw) {
            REAL *const energy = space->energy + row * d->width + x;
            for (ptrdiff_t j = 1; j < d->mw; j++) energy[j] = energy[0];
        }
}

/* Looks at the windows of x0 <= x < x1 of result row y, whose numbers are at `at` in the arrays. */
INLINE void NAME(guard_row)(const plan *p, const NAME(guard_place) * place, const NAME(guard_space) * space,
                            ptrdiff_t y, ptrdiff_t at, const REAL *energy, ptrdiff_t x0, ptrdiff_t x1, REAL v,
                            NAME(guard_queue) * queue) {
    const NAME(guard) *d = (const void *)(p->own + NAME(GUARD_OWN));
    for (ptrdiff_t x = x0; x < x1; x += LANES) {
        const vec sum = NAME(sum_down)(d, space->ws + at + x, p->g.kh);
        const vec own = NAME(sum_down)(d, space->wq + at + x, p->g.kh), of_tile = NAME(load)(energy + x);
        const vec needed = GUARD_LEAST * NAME(select)(own > of_tile, own, of_tile) / (sum * sum);
        const ivec bad = ~((v >= needed) & (of_tile > GUARD_TINY) & (of_tile < GUARD_HUGE)) &
                         ((sum != 0) | (of_tile != 0));
        ivec any = bad;
        UNROLL
        for (int half = LANES / 2; half >= 1; half /= 2) any |= (ivec)NAME(turned_by)((vec)any, half);
        if (any[0] == 0) continue;
        REAL least[LANES] __attribute__((aligned(VECTOR_BYTES))),
            sums[LANES] __attribute__((aligned(VECTOR_BYTES)));
        INTEGER wrong[LANES] __attribute__((aligned(VECTOR_BYTES)));
        *(vec *)least = needed, *(vec *)sums = sum, *(ivec *)wrong = bad;
        for (ptrdiff_t l = 0; l < min_of(LANES, x1 - x); l++) {
            if (!wrong[l]) continue;
            if (!NAME(guard_near)(energy[x + l]))
                space->marks[(x + l) / d->mw] = 1;
            else if (sums[l] == 0)
                NAME(guard_zero)(p, place, y, x + l);
            else
                NAME(guard_pixel)(p, place, y, x + l, least[l], queue);
        }
    }
}

/* Looks at tiles first ... end - 1 of an image, for some vectors of output channels. They are written, and
   guard_pixels has summed their pixels to rows from `base` on. Returns the row after those. */
static ptrdiff_t NAME(guard_tiles)(const plan *p, ptrdiff_t group, ptrdiff_t image, ptrdiff_t first,
                                   ptrdiff_t end, ptrdiff_t vector, ptrdiff_t vectors, ptrdiff_t base,
                                   const REAL *shared, REAL *scratch) {
    const NAME(guard) *d = (const void *)(p->own + NAME(GUARD_OWN));
    const NAME(guard_space) space = NAME(guard_space_of)(d, scratch, base);
    const REAL *const pixels = (const REAL *)p->a + image * d->ih * d->iw * d->from + group * d->c;
    const NAME(guard_place) place = {group,
                                     image,
                                     vector,
                                     vector + vectors,
                                     shared + d->in_shared + group * d->vectors,
                                     space.far + 2 * d->eh * d->ew};
    NAME(guard_queue) queue = {.count = 0};
    REAL least = (REAL)INFINITY;
    for (ptrdiff_t v = place.vector; v < place.end; v++)
        if (place.spread[v] < least) least = place.spread[v];
    const REAL area = (REAL)(p->g.kh * p->g.kw) / (REAL)(d->eh * d->ew);
    const NAME(guard_tiling) at = NAME(guard_tiling_of)(d, first, end);
    NAME(guard_sums)(p, &space, at, area);
    for (ptrdiff_t row = at.row0; row <= at.row1; row++) {
        const ptrdiff_t t0 = row == at.row0 ? first % d->across : 0, above = (row - at.row0) * d->mh;
        const ptrdiff_t t1 = row == at.row1 ? (end - 1) % d->across + 1 : d->across;
        for (ptrdiff_t t = t0; t < t1; t++) space.marks[t] = 0;
        for (ptrdiff_t r = 0; r < min_of(d->mh, d->oh - row * d->mh); r++)
            NAME(guard_row)(p, &place, &space, row * d->mh + r, (above + r) * d->width,
                            space.energy + (row - at.row0) * d->width, t0 * d->mw, min_of(t1 * d->mw, d->ow),
                            least, &queue);
        for (ptrdiff_t t = t0; t < t1; t++)
            if (space.marks[t] != 0)
                NAME(guard_far_tile)(p, &place, pixels, row, t, space.s + above * d->width + t * d->mw,
                                     space.far, area, &queue);
    }
    NAME(guard_flush)(p, &place, &queue);
    return base + (at.row1 - at.row0) * d->mh + d->eh;
}
