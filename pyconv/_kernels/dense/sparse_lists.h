/* sparse_lists.h: a matrix product that multiplies nothing by zero.

       out[row][...] += sum over i with factors[row, i] not zero of factors[row, i] panel[i][...]

   Each row has a list of its factors that are not zero. For each of them there is one broadcast and, for
   every vector of the panel's width, a load and a multiply-add; the row's sums are in registers, and the
   panel is in the L1 cache. */

enum {
    NAME(PANEL_BYTES) = 40 << 10,
    NAME(SHORTEST) = 32, /* fewer terms in a sum, or */
    NAME(FEWEST) = 8     /* fewer rows: too few multiply-adds to pay for the lists and the panel */
};

typedef struct NAME(factors) {
    const REAL *from; /* [row][i]: */
    ptrdiff_t rows, row_step, step;
} NAME(factors);

typedef struct NAME(lists) {
    ptrdiff_t *start; /* list r is at[start[r]] ... at[start[r + 1] - 1] */
    unsigned short *at;
} NAME(lists);

/* Bytes of `rows` lists of up to `inner` numbers. */
INLINE ptrdiff_t NAME(list_bytes)(ptrdiff_t rows, ptrdiff_t inner) {
    /* One more than there can be: a zero at the very end is written to the list, but not counted. */
    const ptrdiff_t places = (rows * inner + 1) * (ptrdiff_t)sizeof(unsigned short);
    return round_up((rows + 1) * (ptrdiff_t)sizeof(ptrdiff_t) + places, 64);
}

INLINE NAME(lists) NAME(lists_in)(void *memory, ptrdiff_t rows) {
    ptrdiff_t *const start = memory;
    return (NAME(lists)){start, (void *)(start + rows + 1)};
}

/* Lists where the first `inner` factors of each row are not zero. They are compared as integers, which is
   faster: a zero has no bit set but its sign. */
static void NAME(make_lists)(const NAME(lists) * to, const NAME(factors) * f, ptrdiff_t inner) {
    typedef unsigned INTEGER bits __attribute__((may_alias));
    unsigned short *const at = to->at;
    ptrdiff_t used = 0;
    for (ptrdiff_t row = 0; row < f->rows; row++) {
        const bits *const from = (const bits *)(f->from + row * f->row_step);
        to->start[row] = used;
        for (ptrdiff_t i = 0; i < inner; i++) { /* without a branch, which could not be predicted */
            at[used] = (unsigned short)i;
            used += from[i * f->step] << 1 != 0;
        }
    }
    to->start[f->rows] = used;
}

/* Rows of a matrix that are needed next. Those of a large layer lie in memory, or in a cache that neighbours
   share. No hardware prefetcher foresees them: so they are fetched during the multiply-adds, a share with
   each row. */
typedef struct NAME(ahead) {
    const REAL *from;
    ptrdiff_t rows, width, step;
} NAME(ahead);

typedef struct NAME(sparse) {
    NAME(factors) factors;
    NAME(lists) lists;
    ptrdiff_t first, last; /* rows */
    const REAL *panel;     /* [i][V LANES] */
    REAL *out;             /* of the first of the rows */
    ptrdiff_t step;        /* from row to row of out */
    int fresh;             /* out holds garbage: start from zero */
    NAME(ahead) to_read, to_write;
} NAME(sparse);

INLINE void NAME(fetch_share)(const NAME(ahead) * ahead, ptrdiff_t part, ptrdiff_t parts, const int write) {
    const ptrdiff_t last = even_cut(ahead->rows, parts, part + 1);
    for (ptrdiff_t row = even_cut(ahead->rows, parts, part); row < last; row++)
        NAME(fetch)(ahead->from + row * ahead->step, ahead->width, write);
}

INLINE void NAME(add_lists_body)(const NAME(sparse) * t, const int V) {
    const REAL *const panel = t->panel;
    const unsigned short *const at = t->lists.at;
    const ptrdiff_t step = t->factors.step;
    REAL *out = t->out;
    for (ptrdiff_t row = t->first; row < t->last; row++, out += t->step) {
        const REAL *const factors = t->factors.from + row * t->factors.row_step;
        NAME(fetch_share)(&t->to_read, row - t->first, t->last - t->first, 0);
        NAME(fetch_share)(&t->to_write, row - t->first, t->last - t->first, 1);
        vec sum[8];
        UNROLL
        for (int v = 0; v < V; v++) sum[v] = t->fresh ? (vec){0} : NAME(load)(out + v * LANES);
        const ptrdiff_t end = t->lists.start[row + 1];
        for (ptrdiff_t i = t->lists.start[row]; i < end; i++) {
            const ptrdiff_t place = at[i];
            const vec factor = factors[place * step] - (vec){0};
            const vec *const by = (const vec *)(panel + place * (V * LANES));
            UNROLL
            for (int v = 0; v < V; v++) sum[v] += factor * by[v];
        }
        UNROLL
        for (int v = 0; v < V; v++) NAME(store)(out + v * LANES, sum[v]);
    }
}

#define ADD_LISTS(V)                                                                                         \
    static void NAME(add_lists_##V)(const NAME(sparse) * t) {                                                \
        NAME(add_lists_body)(t, V);                                                                          \
    }
/* clang-format off */
ADD_LISTS(1) ADD_LISTS(2) ADD_LISTS(3) ADD_LISTS(4) ADD_LISTS(5) ADD_LISTS(6) ADD_LISTS(7) ADD_LISTS(8)
/* clang-format on */
#undef ADD_LISTS

    static void (*const NAME(add_lists)[8])(const NAME(sparse) *) = {
        NAME(add_lists_1), NAME(add_lists_2), NAME(add_lists_3), NAME(add_lists_4),
        NAME(add_lists_5), NAME(add_lists_6), NAME(add_lists_7), NAME(add_lists_8)};
