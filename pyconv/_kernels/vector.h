/* vector.h: one vector of LANES numbers, in GCC and Clang vector extensions. */
typedef REAL NAME(vec) __attribute__((vector_size(VECTOR_BYTES)));
typedef INTEGER NAME(ivec) __attribute__((vector_size(VECTOR_BYTES)));
typedef REAL NAME(uvec) __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));
#define vec  NAME(vec) /* undefined at the end of bodies.h */
#define ivec NAME(ivec)
#define uvec NAME(uvec) /* a vector in memory, aligned to one element only */

/* Arguments and results are pointers or scalars, or the function is inlined: a vector in a call would be
   passed in a way that depends on the instruction set. */

INLINE vec NAME(load)(const REAL *from) {
    return *(const uvec *)from;
}

INLINE void NAME(store)(REAL *to, vec v) {
    *(uvec *)to = v;
}

/* Stores past the caches, to an address that is a multiple of the vector's size. A result larger than the
   caches then need not be read first. Call fence() before another thread reads it. */
INLINE void NAME(stream)(REAL *to, vec v) {
#if defined(__x86_64__) && VECTOR_BYTES == 16
    __asm__("movntps %1, %0" : "=m"(*(uvec *)to) : "x"(v));
#elif defined(__x86_64__)
    __asm__("vmovntps %1, %0" : "=m"(*(uvec *)to) : "v"(v));
#else
    NAME(store)(to, v);
#endif
}

/* Whether a result of so many pixels is stored past the caches. It must be larger than the caches and made of
   whole vectors, and cache lines must fill up at once: the `vectors` of a pixel that are stored at about the
   same time are whole lines, or are all of a pixel whose neighbour (`adjacent`) is stored next. Parts of
   lines would go to memory one by one, and take several times as long as usual stores. The result must also
   begin with a line: `begins_a_line`. */
INLINE int NAME(is_streamed)(ptrdiff_t pixels, ptrdiff_t channels, ptrdiff_t vectors, int adjacent) {
    const ptrdiff_t pixel = channels * (ptrdiff_t)sizeof(REAL), together = vectors * VECTOR_BYTES;
    return pixels * pixel >= LARGE && channels % LANES == 0 &&
           ((pixel % 64 == 0 && together % 64 == 0) || (adjacent && pixel <= together));
}

INLINE int NAME(begins_a_line)(const void *array) {
    return ((uintptr_t)array & 63) == 0;
}

/* Fetches `count` numbers into the L2 cache, to be read or written. */
INLINE void NAME(fetch)(const REAL *from, ptrdiff_t count, const int write) {
    for (ptrdiff_t i = 0; i < count; i += 64 / (ptrdiff_t)sizeof(REAL))
        if (write)
            __builtin_prefetch(from + i, 1, 2);
        else
            __builtin_prefetch(from + i, 0, 2);
}

/* The same by reading them. The thread waits, but memory comes twice as fast, since processors foresee reads
   and do not foresee prefetches. */
INLINE void NAME(touch)(const REAL *from, ptrdiff_t count) {
    for (ptrdiff_t i = 0; i < count; i += 64 / (ptrdiff_t)sizeof(REAL)) {
        int read;
        memcpy(&read, from + i, sizeof read);
        __asm__ volatile("" : : "r"(read));
    }
}

INLINE void NAME(fence)(void) {
#if defined(__x86_64__)
    __asm__ volatile("sfence" ::: "memory");
#endif
}

/* Copies `count` numbers, fewer than LANES: two pieces that overlap, instead of one number after the other.
 */
INLINE void NAME(copy_some)(REAL *to, const REAL *from, ptrdiff_t count) {
#define PIECES(n)                                                                                            \
    if (LANES > (n) && count >= (n)) {                                                                       \
        REAL last[n];                                                                                        \
        memcpy(last, from + count - (n), sizeof last);                                                       \
        memcpy(to, from, sizeof last);                                                                       \
        memcpy(to + count - (n), last, sizeof last);                                                         \
        return;                                                                                              \
    }
    PIECES(8)
    PIECES(4)
    PIECES(2)
#undef PIECES
    if (count > 0) to[0] = from[0];
}

/* Loads the first `count` lanes, 0 or more; the others are zero. AVX-512 has masks. Elsewhere the numbers go
   through the stack, in pieces which all processors forward to the load. */
INLINE vec NAME(load_some)(const REAL *from, ptrdiff_t count) {
    if (count >= LANES) return NAME(load)(from);
#if MASKS && LANES == 16
    return (vec)_mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), from);
#elif MASKS && LANES == 8 && VECTOR_BYTES == 64
    return (vec)_mm512_maskz_loadu_pd((__mmask8)((1u << count) - 1), from);
#elif MASKS && LANES == 8 && VECTOR_BYTES == 32
    return (vec)_mm256_maskz_loadu_ps((__mmask8)((1u << count) - 1), from);
#elif MASKS
    return (vec)_mm256_maskz_loadu_pd((__mmask8)((1u << count) - 1), from);
#else
    REAL lanes[LANES] __attribute__((aligned(VECTOR_BYTES))) = {0};
    NAME(copy_some)(lanes, from, count);
    return *(const vec *)lanes;
#endif
}

/* Stores the first `count` lanes. */
INLINE void NAME(store_some)(REAL *to, vec v, ptrdiff_t count) {
    if (count >= LANES) {
        NAME(store)(to, v);
        return;
    }
#if MASKS && LANES == 16
    _mm512_mask_storeu_ps(to, (__mmask16)((1u << count) - 1), (__m512)v);
#elif MASKS && LANES == 8 && VECTOR_BYTES == 64
    _mm512_mask_storeu_pd(to, (__mmask8)((1u << count) - 1), (__m512d)v);
#elif MASKS && LANES == 8 && VECTOR_BYTES == 32
    _mm256_mask_storeu_ps(to, (__mmask8)((1u << count) - 1), (__m256)v);
#elif MASKS
    _mm256_mask_storeu_pd(to, (__mmask8)((1u << count) - 1), (__m256d)v);
#else
    REAL lanes[LANES] __attribute__((aligned(VECTOR_BYTES)));
    *(vec *)lanes = v;
    NAME(copy_some)(to, lanes, count);
#endif
}

/* The sum of the lanes: one half is added to the other, then quarters, and so on. */
INLINE REAL NAME(total)(vec v) {
#if LANES == 16
    v += SHUFFLE(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
    v += SHUFFLE(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
    v += SHUFFLE(v, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
    v += SHUFFLE(v, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
#elif LANES == 8
    v += SHUFFLE(v, v, 4, 5, 6, 7, 0, 1, 2, 3);
    v += SHUFFLE(v, v, 2, 3, 0, 1, 6, 7, 4, 5);
    v += SHUFFLE(v, v, 1, 0, 3, 2, 5, 4, 7, 6);
#elif LANES == 4
    v += SHUFFLE(v, v, 2, 3, 0, 1);
    v += SHUFFLE(v, v, 1, 0, 3, 2);
#else
    v += SHUFFLE(v, v, 1, 0);
#endif
    return v[0];
}

/* a where `take` is set, b elsewhere; a comparison sets all bits of a lane or none. */
INLINE vec NAME(select)(ivec take, vec a, vec b) {
    return (vec)((take & (ivec)a) | (~take & (ivec)b));
}

/* Converts integers in memory, of one or four bytes each, from and to lanes. */
typedef unsigned char NAME(bytes) __attribute__((vector_size(LANES), aligned(1), may_alias));
typedef int NAME(words) __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

INLINE ivec NAME(load_numbers)(const void *from, ptrdiff_t at, const int narrow) {
    if (narrow)
        return __builtin_convertvector(*(const NAME(bytes) *)((const unsigned char *)from + at), ivec);
    return __builtin_convertvector(*(const NAME(words) *)((const int *)from + at), ivec);
}

INLINE void NAME(store_numbers)(void *to, ptrdiff_t at, ivec v, const int narrow) {
    if (narrow)
        *(NAME(bytes) *)((unsigned char *)to + at) = __builtin_convertvector(v, NAME(bytes));
    else
        *(NAME(words) *)((int *)to + at) = __builtin_convertvector(v, NAME(words));
}

/* Lane i becomes v[at[i]]; every at[i] is below LANES. */
INLINE vec NAME(permute)(vec v, ivec at) {
#if defined(__clang__)
    vec result;
    for (int i = 0; i < LANES; i++) result[i] = v[at[i]];
    return result;
#else
    return __builtin_shuffle(v, at);
#endif
}

/* max(0, v), lane by lane; NaN stays NaN. */
INLINE vec NAME(positive)(vec v) {
    ivec negative = v < (vec){0};
    return (vec)((ivec)v & ~negative);
}
