/* literal.h: one number of a weight gradient, as the equation says it. Where zeros between rows meet every
   pixel (plane_weight_grad.h, depthwise_few.h), zero times an infinite one is NaN in each element of the
   kernel, whether it sees the pixel or not. A sum that comes out as NaN is made again here, which costs
   nothing otherwise. */
static REAL NAME(literal_element)(const plan *p, ptrdiff_t i, ptrdiff_t j, ptrdiff_t c, ptrdiff_t k) {
    const conv *g = &p->g;
    const REAL *const x = p->a, *const dy = p->b;
    ptrdiff_t r0, s0;
    const ptrdiff_t r1 = NAME(outputs_inside)(i, g->sh, g->pt, g->dh, g->h, g->oh, &r0);
    const ptrdiff_t s1 = NAME(outputs_inside)(j, g->sw, g->pl, g->dw, g->w, g->ow, &s0);
    double total = 0;
    for (ptrdiff_t n = 0; n < g->n; n++)
        for (ptrdiff_t r = r0; r < r1; r++) {
            const ptrdiff_t row = n * g->h + r * g->sh + i * g->dh - g->pt;
            for (ptrdiff_t s = s0; s < s1; s++)
                total += (double)x[(row * g->w + s * g->sw + j * g->dw - g->pl) * g->c + c] *
                         (double)dy[((n * g->oh + r) * g->ow + s) * g->k + k];
        }
    return (REAL)total;
}
