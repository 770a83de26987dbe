#include "common.cuh"
// The optimizers' steps, one thread for each parameter: p parameter, g gradient; the other arrays are state,
// which is overwritten. pyconv/optim explains the formulas. Constants that depend on the step are computed on
// the host.

#define EACH                                                                                                 \
    long long e = element();                                                                                 \
    if (e >= size) return

extern "C" __global__ void sgd(REAL *p, const REAL *g, REAL *velocity, long long size, REAL lr, REAL momentum,
                               REAL decay, int nesterov) {
    EACH;
    REAL step = g[e] + decay * p[e];
    if (velocity) {
        REAL v = velocity[e] * momentum + step;
        velocity[e] = v;
        step = nesterov ? v * momentum + step : v;
    }
    p[e] -= lr * step;
}

extern "C" __global__ void adagrad(REAL *p, const REAL *g, REAL *sum, long long size, REAL lr, REAL eps,
                                   REAL decay) {
    EACH;
    REAL d = g[e] + decay * p[e], total = sum[e] + d * d;
    sum[e] = total;
    p[e] -= lr * (d / (sqrt(total) + eps));
}

extern "C" __global__ void adadelta(REAL *p, const REAL *g, REAL *square, REAL *delta, long long size,
                                    REAL lr, REAL rho, REAL rest, REAL eps, REAL decay) {
    EACH;
    REAL d = g[e] + decay * p[e], s = square[e] * rho + d * d * rest, a = delta[e];
    REAL step = sqrt(a + eps) / sqrt(s + eps) * d;
    square[e] = s;
    delta[e] = a * rho + step * step * rest;
    p[e] -= lr * step;
}

// Adam and AdamW: `shrink` is 1, or 1 - lr weight_decay for AdamW, which then has no decay in the gradient.
extern "C" __global__ void adam(REAL *p, const REAL *g, REAL *mean, REAL *square, long long size, REAL rate,
                                REAL correction, REAL beta1, REAL rest1, REAL beta2, REAL rest2, REAL eps,
                                REAL decay, REAL shrink) {
    EACH;
    REAL old = p[e], d = g[e] + decay * old;
    REAL m = mean[e] * beta1 + d * rest1, v = square[e] * beta2 + d * d * rest2;
    mean[e] = m;
    square[e] = v;
    p[e] = old * shrink - rate * (m / (sqrt(v) * correction + eps));
}

extern "C" __global__ void adamax(REAL *p, const REAL *g, REAL *mean, REAL *maximum, long long size,
                                  REAL rate, REAL beta1, REAL rest1, REAL beta2, REAL eps, REAL decay) {
    EACH;
    REAL d = g[e] + decay * p[e], m = mean[e] * beta1 + d * rest1;
    REAL size_of = (d < 0 ? -d : d) + eps, u = maximum[e] * beta2;
    u = u > size_of || u != u ? u : size_of;
    mean[e] = m;
    maximum[e] = u;
    p[e] -= rate * (m / u);
}
