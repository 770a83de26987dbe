/* elementwise.h: operations on each number by itself, and the sum over pixels. The arrays are matrices (rows,
   channels).

       relu          out = max(0, a), NaN stays NaN
       relu_grad     out = a where b > 0, else 0              (a: grad_out, b: the result of relu)
       add           out = a + b
       scale_shift   out = a b + c, one b and one c for each channel
       batch_norm_inference   out = a scale + shift, with scale = b / sqrt(d + eps), shift = c - e scale
       bias_grad     out[channel] = sum over rows of a; with `relu`, of a where b > 0, else 0, and
                     out2 receives those numbers (out2 may be a)

   The compiler vectorises these loops; memory bounds their speed. */

/* Numbers that one item handles: enough to hide its start, few enough to divide the work among threads. */
enum { NAME(CHUNK) = 1 << 14 };

INLINE ptrdiff_t NAME(chunk_rows)(const plan *p) {
    ptrdiff_t rows = NAME(CHUNK) / p->channels;
    return rows < 1 ? 1 : rows;
}

/* The rows first ... last - 1 of a chunk. */
INLINE ptrdiff_t NAME(chunk)(const plan *p, ptrdiff_t item, ptrdiff_t *first) {
    ptrdiff_t rows = NAME(chunk_rows)(p), last = (item + 1) * rows;
    *first = item * rows;
    return last < p->rows ? last : p->rows;
}

INLINE int NAME(by_chunks)(plan *p, run_fn run) {
    ptrdiff_t rows = NAME(chunk_rows)(p);
    p->stages = 1;
    p->items[0] = (p->rows + rows - 1) / rows;
    p->shared_bytes = p->scratch_bytes = 0;
    p->cycles = (double)(p->rows * p->channels) * (double)sizeof(REAL) / 8; /* bytes, at 8 a cycle */
    p->run = run;
    return 1;
}

static void NAME(relu_run)(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) {
    ptrdiff_t first, last = NAME(chunk)(p, item, &first);
    const REAL *x = p->a;
    REAL *y = p->out;
    (void)stage, (void)shared, (void)scratch;
    for (ptrdiff_t i = first * p->channels; i < last * p->channels; i++) y[i] = x[i] < 0 ? 0 : x[i];
}

static int NAME(relu)(plan *p) {
    return NAME(by_chunks)(p, NAME(relu_run));
}

static void NAME(relu_grad_run)(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) {
    ptrdiff_t first, last = NAME(chunk)(p, item, &first);
    const REAL *grad = p->a, *y = p->b;
    REAL *out = p->out; /* may be grad itself */
    (void)stage, (void)shared, (void)scratch;
    for (ptrdiff_t i = first * p->channels; i < last * p->channels; i++) out[i] = y[i] > 0 ? grad[i] : 0;
}

static int NAME(relu_grad)(plan *p) {
    return NAME(by_chunks)(p, NAME(relu_grad_run));
}

static void NAME(scale_rows)(const plan *p, ptrdiff_t item, const REAL *scale, const REAL *shift) {
    ptrdiff_t first, last = NAME(chunk)(p, item, &first), n = p->channels;
    const REAL *x = p->a;
    REAL *y = p->out;
    for (ptrdiff_t row = first; row < last; row++)
        for (ptrdiff_t i = 0; i < n; i++) y[row * n + i] = x[row * n + i] * scale[i] + shift[i];
}

static void NAME(scale_shift_run)(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) {
    (void)stage, (void)shared, (void)scratch;
    NAME(scale_rows)(p, item, p->b, p->c);
}

static int NAME(scale_shift)(plan *p) {
    return NAME(by_chunks)(p, NAME(scale_shift_run));
}

static void NAME(add_run)(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) {
    ptrdiff_t first, last = NAME(chunk)(p, item, &first);
    const REAL *a = p->a, *b = p->b;
    REAL *out = p->out; /* may be either */
    (void)stage, (void)shared, (void)scratch;
    for (ptrdiff_t i = first * p->channels; i < last * p->channels; i++) out[i] = a[i] + b[i];
}

static int NAME(add)(plan *p) {
    return NAME(by_chunks)(p, NAME(add_run));
}

/* a: numbers, b: gamma, c: beta, d: running variance, e: running mean. Stage 0: scale and shift. */
static void NAME(inference_run)(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) {
    const ptrdiff_t n = p->channels;
    REAL *const scale = shared, *const shift = scale + n;
    (void)scratch;
    if (stage == 0) {
        const REAL *gamma = p->b, *beta = p->c, *variance = p->d, *mean = p->e;
        for (ptrdiff_t i = 0; i < n; i++)
            scale[i] = gamma[i] / (REAL)sqrt((double)(variance[i] + (REAL)p->eps));
        for (ptrdiff_t i = 0; i < n; i++) shift[i] = beta[i] - mean[i] * scale[i];
        return;
    }
    NAME(scale_rows)(p, item, scale, shift);
}

static int NAME(batch_norm_inference)(plan *p) {
    NAME(by_chunks)(p, NAME(inference_run));
    p->stages = 2;
    p->prepared = 1;
    p->items[1] = p->items[0];
    p->items[0] = 1;
    p->shared_bytes = (size_t)(2 * p->channels) * sizeof(REAL);
    return 1;
}

/* Stage 0: a sum for each chunk, in `shared`. Stage 1: the sum of those, in order. They are in float64: the
   rounding of a float32 sum of millions would show in the gradient. */
static void NAME(bias_grad_run)(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) {
    ptrdiff_t n = p->channels;
    double *sums = shared;
    (void)scratch;
    if (stage == 0) {
        ptrdiff_t first, last = NAME(chunk)(p, item, &first);
        const REAL *grad = p->a, *y = p->b;
        REAL *masked = p->out2;
        double *sum = sums + item * n;
        for (ptrdiff_t i = 0; i < n; i++) sum[i] = 0;
        for (ptrdiff_t row = first; row < last; row++)
            if (p->relu)
                for (ptrdiff_t i = 0; i < n; i++) {
                    const REAL g = y[row * n + i] > 0 ? grad[row * n + i] : 0;
                    masked[row * n + i] = g;
                    sum[i] += (double)g;
                }
            else
                for (ptrdiff_t i = 0; i < n; i++) sum[i] += (double)grad[row * n + i];
    } else {
        REAL *out = p->out;
        for (ptrdiff_t chunk = 1; chunk < p->items[0]; chunk++)
            for (ptrdiff_t i = 0; i < n; i++) sums[i] += sums[chunk * n + i];
        for (ptrdiff_t i = 0; i < n; i++) out[i] = (REAL)sums[i];
    }
}

static int NAME(bias_grad)(plan *p) {
    NAME(by_chunks)(p, NAME(bias_grad_run));
    p->stages = 2;
    p->items[1] = 1;
    p->shared_bytes = (size_t)(p->items[0] * p->channels) * sizeof(double);
    return 1;
}
