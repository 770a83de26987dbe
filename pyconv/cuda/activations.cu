#include "common.cuh"
// Activations other than ReLU, each with its gradient computed from the result y; and moving images for
// padding. One thread for each number. LEAKY_RELU ... are numbered as in activations.py.

//    leaky_relu   y = x > 0 ? x : first x            dx = y > 0 ? dy : first dy
//    clip         y = min(max(x, first), second)     dx = first < y < second ? dy : 0
//    sigmoid      y = 1 / (1 + exp(-x))              dx = dy y (1 - y)
//    tanh         y = tanh(x)                        dx = dy (1 - y y)
// NaN stays NaN. y may be x, dx may be dy.

enum { LEAKY_RELU, CLIP, SIGMOID, TANH };

extern "C" __global__ void activate(const REAL *x, REAL *y, long long size, int kind, REAL first,
                                    REAL second) {
    long long e = element();
    if (e >= size) return;
    REAL v = x[e];
    if (kind == LEAKY_RELU)
        y[e] = v <= 0 ? v * first : v;
    else if (kind == CLIP)
        y[e] = v < first ? first : v > second ? second : v;
    else if (kind == SIGMOID)
        y[e] = REAL(1) / (REAL(1) + exp(-v));
    else
        y[e] = tanh(v);
}

extern "C" __global__ void activate_grad(const REAL *dy, const REAL *y, REAL *dx, long long size, int kind,
                                         REAL first, REAL second) {
    long long e = element();
    if (e >= size) return;
    REAL v = y[e], g = dy[e];
    if (kind == LEAKY_RELU)
        dx[e] = v > 0 ? g : g * first;
    else if (kind == CLIP)
        dx[e] = first < v && v < second ? g : REAL(0);
    else if (kind == SIGMOID)
        dx[e] = g * (v * (1 - v));
    else
        dx[e] = g * (1 - v * v);
}

// y (N, Y_H, Y_W, C): the images x (N, X_H, X_W, C) moved down by top and right by left; the rest is zeros.
// Negative numbers move them up and left: y is then a part of x.
extern "C" __global__ void move(const REAL *__restrict__ x, REAL *__restrict__ y, long long size, int x_h,
                                int x_w, int y_h, int y_w, int channels, int top, int left) {
    long long e = element();
    if (e >= size) return;
    long long pixel = e / channels, row = pixel / y_w;
    int c = (int)(e % channels), s = (int)(pixel % y_w) - left, r = (int)(row % y_h) - top;
    bool inside = r >= 0 && r < x_h && s >= 0 && s < x_w;
    y[e] = inside ? x[((row / y_h * x_h + r) * x_w + s) * channels + c] : REAL(0);
}
