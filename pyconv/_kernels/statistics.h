/* statistics.h: softmax with cross-entropy, and batch normalisation, of matrices (rows, channels).

       softmax           a: logits, b: int64 labels
                         out[row] = log(sum_j exp(a[row, j])) - a[row, label]
                         out2[row, j] = exp(a[row, j]) / sum_j exp(a[row, j]) - (1 where j is the label)

       batch_norm        b: gamma, c: beta; per channel, over the M rows,
                         mean m, biased variance v, s = 1 / sqrt(v + eps)
                         out = (a - m) s b + c;  out2 = m;  out3 = s

       batch_norm_grad   b: gamma, c: m, d: s, e: grad_out g; with h = (a - m) s
                         out2 = sum g h;  out3 = sum g
                         out = b s (g - out3 / M - h out2 / M)

   Ioffe and Szegedy, Batch Normalization, arXiv:1502.03167. All sums are in float64 and their order is fixed.
 */

static void NAME(softmax_run)(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) {
    ptrdiff_t first, last = NAME(chunk)(p, item, &first), n = p->channels;
    const REAL *logits = p->a;
    const long long *labels = p->b;
    REAL *losses = p->out, *grad = p->out2;
    (void)stage, (void)shared, (void)scratch;
    for (ptrdiff_t row = first; row < last; row++) {
        const REAL *z = logits + row * n;
        REAL *g = grad + row * n;
        double top = (double)z[0], sum = 0;
        for (ptrdiff_t j = 1; j < n; j++) top = (double)z[j] > top ? (double)z[j] : top;
        for (ptrdiff_t j = 0; j < n; j++) sum += exp((double)z[j] - top); /* at most 1 each: no overflow */
        for (ptrdiff_t j = 0; j < n; j++) g[j] = (REAL)(exp((double)z[j] - top) / sum - (j == labels[row]));
        losses[row] = (REAL)(log(sum) + top - (double)z[labels[row]]);
    }
}

static int NAME(softmax)(plan *p) {
    NAME(by_chunks)(p, NAME(softmax_run));
    p->cycles = (double)(p->rows * p->channels) * 40; /* two exponentials each */
    return 1;
}

/* Sums of (a - o) and (a - o)^2 with the first row as origin o: large means do not cancel the variance away.
 */
static void NAME(batch_norm_run)(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) {
    ptrdiff_t first, last = NAME(chunk)(p, item, &first), n = p->channels;
    const REAL *x = p->a, *gamma = p->b, *beta = p->c;
    REAL *y = p->out, *mean = p->out2, *inv_std = p->out3;
    double *sums = shared;
    (void)scratch;
    if (stage == 0) {
        double *sum = sums + item * 2 * n, *square = sum + n;
        for (ptrdiff_t i = 0; i < 2 * n; i++) sum[i] = 0;
        for (ptrdiff_t row = first; row < last; row++)
            for (ptrdiff_t i = 0; i < n; i++) {
                double v = (double)x[row * n + i] - (double)x[i];
                sum[i] += v;
                square[i] += v * v;
            }
    } else if (stage == 1) {
        double m = (double)p->rows;
        for (ptrdiff_t chunk = 1; chunk < p->items[0]; chunk++)
            for (ptrdiff_t i = 0; i < 2 * n; i++) sums[i] += sums[chunk * 2 * n + i];
        for (ptrdiff_t i = 0; i < n; i++) {
            double shift = sums[i] / m, variance = sums[n + i] / m - shift * shift;
            mean[i] = (REAL)((double)x[i] + shift);
            inv_std[i] = (REAL)(1 / sqrt((variance > 0 ? variance : 0 * variance) + p->eps));
        }
    } else {
        for (ptrdiff_t row = first; row < last; row++)
            for (ptrdiff_t i = 0; i < n; i++)
                y[row * n + i] = (x[row * n + i] - mean[i]) * (inv_std[i] * gamma[i]) + beta[i];
    }
}

static int NAME(batch_norm)(plan *p) {
    NAME(by_chunks)(p, NAME(batch_norm_run));
    p->stages = 3;
    p->items[1] = 1;
    p->items[2] = p->items[0];
    p->shared_bytes = (size_t)(p->items[0] * 2 * p->channels) * sizeof(double);
    return 1;
}

static void NAME(batch_norm_grad_run)(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) {
    ptrdiff_t first, last = NAME(chunk)(p, item, &first), n = p->channels;
    const REAL *x = p->a, *gamma = p->b, *mean = p->c, *inv_std = p->d, *grad = p->e;
    REAL *gx = p->out, *ggamma = p->out2, *gbeta = p->out3;
    double *sums = shared;
    (void)scratch;
    if (stage == 0) {
        double *product = sums + item * 2 * n, *sum = product + n;
        for (ptrdiff_t i = 0; i < 2 * n; i++) product[i] = 0;
        for (ptrdiff_t row = first; row < last; row++)
            for (ptrdiff_t i = 0; i < n; i++) {
                double g = (double)grad[row * n + i];
                product[i] += g * (((double)x[row * n + i] - (double)mean[i]) * (double)inv_std[i]);
                sum[i] += g;
            }
    } else if (stage == 1) {
        for (ptrdiff_t chunk = 1; chunk < p->items[0]; chunk++)
            for (ptrdiff_t i = 0; i < 2 * n; i++) sums[i] += sums[chunk * 2 * n + i];
        for (ptrdiff_t i = 0; i < n; i++) {
            ggamma[i] = (REAL)sums[i];
            gbeta[i] = (REAL)sums[n + i];
        }
    } else {
        const double m = (double)p->rows;
        for (ptrdiff_t row = first; row < last; row++)
            for (ptrdiff_t i = 0; i < n; i++) {
                REAL h = (x[row * n + i] - mean[i]) * inv_std[i];
                REAL away = (REAL)(sums[n + i] / m) + h * (REAL)(sums[i] / m);
                gx[row * n + i] = gamma[i] * inv_std[i] * (grad[row * n + i] - away);
            }
    }
}

static int NAME(batch_norm_grad)(plan *p) {
    NAME(by_chunks)(p, NAME(batch_norm_grad_run));
    p->stages = 3;
    p->items[1] = 1;
    p->items[2] = p->items[0];
    p->shared_bytes = (size_t)(p->items[0] * 2 * p->channels) * sizeof(double);
    return 1;
}
