/* transpose.h: transposes a matrix of `count` vectors in registers.

   A zip of vectors i and i + count / 2 rotates the bits of a number's position by one. As many zips as
   `count` has bits turn rows into columns. */
#undef ZIP_LOW
#undef ZIP_HIGH
#if LANES == 16
#define ZIP_LOW  0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define ZIP_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif LANES == 8
#define ZIP_LOW  0, 8, 1, 9, 2, 10, 3, 11
#define ZIP_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#elif LANES == 4
#define ZIP_LOW  0, 4, 1, 5
#define ZIP_HIGH 2, 6, 3, 7
#else
#define ZIP_LOW  0, 2
#define ZIP_HIGH 1, 3
#endif

/* [count][LANES] to [LANES][count]; count: a power of two, up to 16. */
INLINE void NAME(transpose)(vec *v, const int count) {
    UNROLL
    for (int turn = 1; turn < count; turn *= 2) {
        vec from[16];
        UNROLL
        for (int i = 0; i < count; i++) from[i] = v[i];
        UNROLL
        for (int i = 0; i < count / 2; i++) {
            v[2 * i] = SHUFFLE(from[i], from[i + count / 2], ZIP_LOW);
            v[2 * i + 1] = SHUFFLE(from[i], from[i + count / 2], ZIP_HIGH);
        }
    }
}

/* from[rows][columns] to to[columns][rows]; rows are from_step and to_step apart. */
static void NAME(transpose_matrix)(const REAL *from, ptrdiff_t from_step, ptrdiff_t rows, ptrdiff_t columns,
                                   REAL *to, ptrdiff_t to_step) {
    if (rows < LANES || columns < LANES) {
        for (ptrdiff_t i = 0; i < rows; i++)
            for (ptrdiff_t j = 0; j < columns; j++) to[j * to_step + i] = from[i * from_step + j];
        return;
    }
    for (ptrdiff_t block = 0; block < rows; block += LANES)
        for (ptrdiff_t other = 0; other < columns; other += LANES) {
            /* The last blocks end where the matrix does, and repeat some numbers. */
            const ptrdiff_t i = min_of(block, rows - LANES), j = min_of(other, columns - LANES);
            vec v[LANES];
            UNROLL
            for (int l = 0; l < LANES; l++) v[l] = NAME(load)(from + (i + l) * from_step + j);
            NAME(transpose)(v, LANES);
            UNROLL
            for (int l = 0; l < LANES; l++) NAME(store)(to + (j + l) * to_step + i, v[l]);
        }
}
