/* winograd_points.h: the points of interpolation and the one-dimensional transforms; included once per TILE =
   m.

   The points decide the rounding error. These were found by a search over small fractions for the least error
   of the worst pixel at 512 channels, forward and weight gradient. (The customary points for m = 4, 0, +-1,
   +-2, err 2.2 times as much.)

       m = 2     0, +-1, inf             relative error (rms) 0.7e-6 in float32
       m = 3     +-1/2, +-5/4, inf                            1.1e-6
       m = 4     0, +-5/8, +-3/2, inf                         1.9e-6

   Every constant below is exact in float32. A pair +-a shares its even and odd parts, which makes a transform
   cheap: m = 4 takes 12 multiply-adds from 6 values to 6. In the notation of winograd.h, with P = m + 2
   points:

       inputs    P -> P    B'
       filters   3 -> P    G         and its transpose, for (4):    P -> 3    G'
       outputs   P -> m    A'        and its transpose, for (4):    m -> P    A

   Row p of B' is the polynomial that is zero at every other point. The number N_p that would make it 1 at p
   divides row p of G instead, which is computed least often. For m = 3 the rows of -a are negated in B' and
   in G, so that the pair shares N.
*/
#undef POINTS
#define POINTS (TILE + 2)

#undef PAIR_A
#undef PAIR_B
#undef NORM_A
#undef NORM_B
#undef NORM_0
#if TILE == 4
#define PAIR_A ((REAL)0.625)
#define PAIR_B ((REAL)1.5)
#define NORM_0 (PAIR_A * PAIR_A * PAIR_B * PAIR_B)
#define NORM_A (2 * PAIR_A * PAIR_A * (PAIR_A * PAIR_A - PAIR_B * PAIR_B))
#define NORM_B (2 * PAIR_B * PAIR_B * (PAIR_B * PAIR_B - PAIR_A * PAIR_A))
#elif TILE == 3
#define PAIR_A ((REAL)0.5)
#define PAIR_B ((REAL)1.25)
#define NORM_A (2 * PAIR_A * (PAIR_A * PAIR_A - PAIR_B * PAIR_B))
#define NORM_B (2 * PAIR_B * (PAIR_B * PAIR_B - PAIR_A * PAIR_A))
#endif

#undef AA
#undef BB
#define AA (PAIR_A * PAIR_A)
#define BB (PAIR_B * PAIR_B)

#if TILE == 4

INLINE void TILED(inputs_1d)(const vec *d, vec *v) {
    vec even_a = d[4] - BB * d[2], odd_a = d[3] - BB * d[1];
    vec even_b = d[4] - AA * d[2], odd_b = d[3] - AA * d[1];
    v[0] = (d[4] - (AA + BB) * d[2]) + AA * BB * d[0];
    v[1] = even_a + PAIR_A * odd_a;
    v[2] = even_a - PAIR_A * odd_a;
    v[3] = even_b + PAIR_B * odd_b;
    v[4] = even_b - PAIR_B * odd_b;
    v[5] = (d[5] - (AA + BB) * d[3]) + AA * BB * d[1];
}

INLINE void TILED(filters_1d)(const vec *g, vec *u) {
    vec even_a = (g[0] + AA * g[2]) * (1 / NORM_A), odd_a = g[1] * (PAIR_A / NORM_A);
    vec even_b = (g[0] + BB * g[2]) * (1 / NORM_B), odd_b = g[1] * (PAIR_B / NORM_B);
    u[0] = g[0] * (1 / NORM_0);
    u[1] = even_a + odd_a;
    u[2] = even_a - odd_a;
    u[3] = even_b + odd_b;
    u[4] = even_b - odd_b;
    u[5] = g[2];
}

INLINE void TILED(outputs_1d)(const vec *m, vec *y) {
    vec even_a = m[1] + m[2], odd_a = m[1] - m[2];
    vec even_b = m[3] + m[4], odd_b = m[3] - m[4];
    y[0] = m[0] + even_a + even_b;
    y[1] = PAIR_A * odd_a + PAIR_B * odd_b;
    y[2] = AA * even_a + BB * even_b;
    y[3] = (m[5] + AA * PAIR_A * odd_a) + BB * PAIR_B * odd_b;
}

INLINE void TILED(outputs_transposed_1d)(const vec *y, vec *w) {
    vec even_a = y[0] + AA * y[2], odd_a = y[1] + AA * y[3];
    vec even_b = y[0] + BB * y[2], odd_b = y[1] + BB * y[3];
    w[0] = y[0];
    w[1] = even_a + PAIR_A * odd_a;
    w[2] = even_a - PAIR_A * odd_a;
    w[3] = even_b + PAIR_B * odd_b;
    w[4] = even_b - PAIR_B * odd_b;
    w[5] = y[3];
}

INLINE void TILED(filters_transposed_1d)(const vec *m, vec *g) {
    vec even_a = (m[1] + m[2]) * (1 / NORM_A), odd_a = (m[1] - m[2]) * (PAIR_A / NORM_A);
    vec even_b = (m[3] + m[4]) * (1 / NORM_B), odd_b = (m[3] - m[4]) * (PAIR_B / NORM_B);
    g[0] = m[0] * (1 / NORM_0) + even_a + even_b;
    g[1] = odd_a + odd_b;
    g[2] = (m[5] + AA * even_a) + BB * even_b;
}

#elif TILE == 3

INLINE void TILED(inputs_1d)(const vec *d, vec *v) {
    vec even_a = PAIR_A * (d[2] - BB * d[0]), odd_a = d[3] - BB * d[1];
    vec even_b = PAIR_B * (d[2] - AA * d[0]), odd_b = d[3] - AA * d[1];
    v[0] = even_a + odd_a;
    v[1] = even_a - odd_a;
    v[2] = even_b + odd_b;
    v[3] = even_b - odd_b;
    v[4] = (d[4] - (AA + BB) * d[2]) + AA * BB * d[0];
}

INLINE void TILED(filters_1d)(const vec *g, vec *u) {
    vec even_a = (g[0] + AA * g[2]) * (1 / NORM_A), odd_a = g[1] * (PAIR_A / NORM_A);
    vec even_b = (g[0] + BB * g[2]) * (1 / NORM_B), odd_b = g[1] * (PAIR_B / NORM_B);
    u[0] = even_a + odd_a;
    u[1] = even_a - odd_a;
    u[2] = even_b + odd_b;
    u[3] = even_b - odd_b;
    u[4] = g[2];
}

INLINE void TILED(outputs_1d)(const vec *m, vec *y) {
    vec even_a = m[0] + m[1], odd_a = m[0] - m[1];
    vec even_b = m[2] + m[3], odd_b = m[2] - m[3];
    y[0] = even_a + even_b;
    y[1] = PAIR_A * odd_a + PAIR_B * odd_b;
    y[2] = (m[4] + AA * even_a) + BB * even_b;
}

INLINE void TILED(outputs_transposed_1d)(const vec *y, vec *w) {
    vec even_a = y[0] + AA * y[2], odd_a = PAIR_A * y[1];
    vec even_b = y[0] + BB * y[2], odd_b = PAIR_B * y[1];
    w[0] = even_a + odd_a;
    w[1] = even_a - odd_a;
    w[2] = even_b + odd_b;
    w[3] = even_b - odd_b;
    w[4] = y[2];
}

INLINE void TILED(filters_transposed_1d)(const vec *m, vec *g) {
    vec even_a = (m[0] + m[1]) * (1 / NORM_A), odd_a = (m[0] - m[1]) * (PAIR_A / NORM_A);
    vec even_b = (m[2] + m[3]) * (1 / NORM_B), odd_b = (m[2] - m[3]) * (PAIR_B / NORM_B);
    g[0] = even_a + even_b;
    g[1] = odd_a + odd_b;
    g[2] = (m[4] + AA * even_a) + BB * even_b;
}

#elif TILE == 2

INLINE void TILED(inputs_1d)(const vec *d, vec *v) {
    v[0] = d[0] - d[2];
    v[1] = d[2] + d[1];
    v[2] = d[2] - d[1];
    v[3] = d[3] - d[1];
}

INLINE void TILED(filters_1d)(const vec *g, vec *u) {
    vec even = (g[0] + g[2]) * (REAL)0.5, odd = g[1] * (REAL)0.5;
    u[0] = g[0];
    u[1] = even + odd;
    u[2] = even - odd;
    u[3] = g[2];
}

INLINE void TILED(outputs_1d)(const vec *m, vec *y) {
    y[0] = m[0] + m[1] + m[2];
    y[1] = m[1] - m[2] + m[3];
}

INLINE void TILED(outputs_transposed_1d)(const vec *y, vec *w) {
    w[0] = y[0];
    w[1] = y[0] + y[1];
    w[2] = y[0] - y[1];
    w[3] = y[1];
}

INLINE void TILED(filters_transposed_1d)(const vec *m, vec *g) {
    vec even = (m[1] + m[2]) * (REAL)0.5;
    g[0] = m[0] + even;
    g[1] = (m[1] - m[2]) * (REAL)0.5;
    g[2] = m[3] + even;
}

#endif
