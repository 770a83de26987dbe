/* softmax.h: softmax with cross-entropy, of matrices (rows, channels).

       softmax           a: logits, b: int64 labels
                         out[row] = log(sum_j exp(a[row, j])) - a[row, label]
                         out2[row, j] = exp(a[row, j]) / sum_j exp(a[row, j]) - (1 where j is the label)

   Sums are in float64, in a fixed order. */

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
