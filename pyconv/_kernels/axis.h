/* axis.h: one axis of a correlation, as positions in its input. It is included once per precision, though its
   code is the same for both.

   The forward pass is the correlation of x with w. The input gradient is the correlation of grad_out with the
   flipped filters, one for each phase a of the stride: the pixels a, a + s, a + 2 s ... of the result meet
   only the kernel positions i with (a + p - i d) divisible by s,

       dx[a + s r] = sum over those i of dy[r + (a + p - i d) / s] w[i]

   This is a correlation of stride 1. Its kernel positions are s / gcd(s, d) apart. They are taken from the
   last to the first, so that the positions in dy ascend, d / gcd(s, d) apart. */

typedef struct NAME(axis) {
    ptrdiff_t count, out0, out_step; /* result positions out0 + r out_step, r < count */
    ptrdiff_t in0, in_step;          /* input position of result r and tap 0: in0 + r in_step */
    ptrdiff_t taps, tap_step;        /* taps, and their distance in the input */
    ptrdiff_t kernel0, kernel_step;  /* kernel position of tap t: kernel0 + t kernel_step */
} NAME(axis);

INLINE NAME(axis)
    NAME(axis_forward)(ptrdiff_t outputs, ptrdiff_t kernel, ptrdiff_t s, ptrdiff_t p, ptrdiff_t d) {
    return (NAME(axis)){outputs, 0, 1, -p, s, kernel, d, 0, 1};
}

INLINE ptrdiff_t NAME(common_divisor)(ptrdiff_t a, ptrdiff_t b) {
    while (b) {
        const ptrdiff_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static NAME(axis)
    NAME(axis_grad)(ptrdiff_t size, ptrdiff_t kernel, ptrdiff_t s, ptrdiff_t p, ptrdiff_t d, ptrdiff_t a) {
    const ptrdiff_t divisor = NAME(common_divisor)(s, d), every = s / divisor;
    ptrdiff_t first = 0;
    while (first < every && first < kernel && (a + p - first * d) % s != 0) first++;
    const ptrdiff_t taps = first < every && first < kernel ? (kernel - 1 - first) / every + 1 : 0;
    const ptrdiff_t last = first + (taps - 1) * every;
    NAME(axis) x = {a < size ? (size - a - 1) / s + 1 : 0, a, s, 0, 1, taps, d / divisor, last, -every};
    if (taps) x.in0 = (a + p - last * d) / s;
    return x;
}

/* One axis of a whole convolution, down (axis_down) or across: of the forward pass, or of one phase of the
 * input gradient. */
INLINE NAME(axis) NAME(axis_down)(const conv *g, ptrdiff_t grad, ptrdiff_t results, ptrdiff_t phase) {
    return grad ? NAME(axis_grad)(results, g->kh, g->sh, g->pt, g->dh, phase)
                : NAME(axis_forward)(results, g->kh, g->sh, g->pt, g->dh);
}

INLINE NAME(axis) NAME(axis_across)(const conv *g, ptrdiff_t grad, ptrdiff_t results, ptrdiff_t phase) {
    return grad ? NAME(axis_grad)(results, g->kw, g->sw, g->pl, g->dw, phase)
                : NAME(axis_forward)(results, g->kw, g->sw, g->pl, g->dw);
}

/* The taps first ... last - 1 that meet the input, for the result position r of a phase. */
INLINE ptrdiff_t NAME(taps_inside)(const NAME(axis) * a, ptrdiff_t r, ptrdiff_t size, ptrdiff_t *first) {
    const ptrdiff_t at = a->in0 + r * a->in_step;
    if (at >= 0 && at + (a->taps - 1) * a->tap_step < size) { /* saves a division */
        *first = 0;
        return a->taps;
    }
    const ptrdiff_t from = at < 0 ? (-at + a->tap_step - 1) / a->tap_step : 0;
    const ptrdiff_t until = at < size ? (size - 1 - at) / a->tap_step + 1 : 0;
    *first = from;
    return until < a->taps ? until : a->taps;
}

/* Given that all taps of result r of a phase are inside, counts the results from r to last - 1 for which the
 * same is true: at least one. */
INLINE ptrdiff_t NAME(rows_inside)(const NAME(axis) * a, ptrdiff_t r, ptrdiff_t last, ptrdiff_t size) {
    const ptrdiff_t spare = size - 1 - (a->in0 + r * a->in_step + (a->taps - 1) * a->tap_step);
    const ptrdiff_t rows = spare / a->in_step + 1;
    return rows < last - r ? rows : last - r;
}

/* The outputs first ... last - 1 of an axis that see input through kernel position k. */
INLINE ptrdiff_t NAME(outputs_inside)(ptrdiff_t k, ptrdiff_t stride, ptrdiff_t before, ptrdiff_t dilation,
                                      ptrdiff_t size, ptrdiff_t outputs, ptrdiff_t *first) {
    const ptrdiff_t at = k * dilation - before;
    if (stride == 1) { /* saves a division */
        *first = at < 0 ? -at : 0;
        return max_of(min_of(size - at, outputs), 0);
    }
    const ptrdiff_t until = at < size ? (size - 1 - at) / stride + 1 : 0;
    *first = at < 0 ? (-at + stride - 1) / stride : 0;
    return until < outputs ? until : outputs;
}

/* How many pairs of a kernel position and an output of an axis meet the input. */
static ptrdiff_t NAME(pairs_inside)(ptrdiff_t kernel, ptrdiff_t stride, ptrdiff_t before, ptrdiff_t dilation,
                                    ptrdiff_t size, ptrdiff_t outputs) {
    ptrdiff_t pairs = 0;
    for (ptrdiff_t k = 0; k < kernel; k++) {
        ptrdiff_t first;
        pairs += max_of(NAME(outputs_inside)(k, stride, before, dilation, size, outputs, &first) - first, 0);
    }
    return pairs;
}

INLINE ptrdiff_t NAME(row_pairs)(const conv *g) {
    return NAME(pairs_inside)(g->kh, g->sh, g->pt, g->dh, g->h, g->oh);
}

INLINE ptrdiff_t NAME(column_pairs)(const conv *g) {
    return NAME(pairs_inside)(g->kw, g->sw, g->pl, g->dw, g->w, g->ow);
}
