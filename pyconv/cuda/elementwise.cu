#include "common.cuh"
// Operations on each number by itself: one thread for each number.

// y = max(x, 0); NaN stays NaN. y may be x.
extern "C" __global__ void relu(const REAL *x, REAL *y, long long size) {
    long long e = element();
    if (e < size) y[e] = relu_of(x[e]);
}

// dx = dy where y > 0, else 0. dx may be dy.
extern "C" __global__ void relu_grad(const REAL *dy, const REAL *y, REAL *dx, long long size) {
    long long e = element();
    if (e < size) dx[e] = y[e] > 0 ? dy[e] : REAL(0);
}

// y = scale[c] x + shift[c], c the last axis. y may be x.
extern "C" __global__ void scale_shift(const REAL *x, const REAL *scale, const REAL *shift, REAL *y,
                                       long long size, int channels) {
    long long e = element();
    if (e < size) y[e] = x[e] * scale[e % channels] + shift[e % channels];
}

// y = factor x. y may be x.
extern "C" __global__ void scale(const REAL *x, REAL *y, long long size, REAL factor) {
    long long e = element();
    if (e < size) y[e] = x[e] * factor;
}

// y = a x, number by number. y may be either.
extern "C" __global__ void multiply(const REAL *a, const REAL *x, REAL *y, long long size) {
    long long e = element();
    if (e < size) y[e] = a[e] * x[e];
}

// y = a + x, number by number. y may be either.
extern "C" __global__ void add(const REAL *a, const REAL *x, REAL *y, long long size) {
    long long e = element();
    if (e < size) y[e] = a[e] + x[e];
}

// y[r, start + c] = x[r, first + c] for c < channels: rows of x_channels to rows of y_channels numbers.
extern "C" __global__ void copy_channels(const REAL *__restrict__ x, REAL *__restrict__ y, long long size,
                                         int channels, int x_channels, int first, int y_channels, int start) {
    long long e = element();
    if (e >= size) return;
    long long row = e / channels;
    long long c = e % channels;
    y[row * y_channels + start + c] = x[row * x_channels + first + c];
}

// Normalises images of bytes, as they enter the network: y = (x - mean[c]) inverse[c].
extern "C" __global__ void normalise_bytes(const unsigned char *__restrict__ x, const REAL *__restrict__ mean,
                                           const REAL *__restrict__ inverse, REAL *__restrict__ y,
                                           long long size, int channels) {
    long long e = element();
    if (e < size) y[e] = (REAL(x[e]) - mean[e % channels]) * inverse[e % channels];
}

// The same for images of REAL. y may be x.
extern "C" __global__ void normalise(const REAL *x, const REAL *__restrict__ mean,
                                     const REAL *__restrict__ inverse, REAL *y, long long size,
                                     int channels) {
    long long e = element();
    if (e < size) y[e] = (x[e] - mean[e % channels]) * inverse[e % channels];
}
