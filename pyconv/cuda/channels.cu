#include "common.cuh"
// Sums over all but the last axis: the bias's gradient, and batch normalisation (Ioffe and Szegedy 2015).
//
// A block of LANES x ROWS threads adds up LANES channels over its part of the rows, in double; combine adds
// the parts in order. The variance comes from sums and sums of squares about a first guess of the mean, so a
// large mean costs no digits.
#define LANES 32
#define ROWS  8

// Adds `value` up over the ROWS threads of each lane; the first of these threads gets the sum.
__device__ __forceinline__ double over_rows(double value, double *shared) {
    __syncthreads(); // nobody reads `shared` any more
    shared[threadIdx.y * LANES + threadIdx.x] = value;
    __syncthreads(); // all threads have written
    for (int step = ROWS / 2; step > 0; step /= 2) {
        if (threadIdx.y < step)
            shared[threadIdx.y * LANES + threadIdx.x] += shared[(threadIdx.y + step) * LANES + threadIdx.x];
        __syncthreads(); // this level of the sum is complete
    }
    return shared[threadIdx.x];
}

// partial[part, 0, c] = sum of a, partial[part, 1, c] = sum of b, over the part's rows; a and b are, by MODE:
//   0: x, 0                       the bias's gradient
//   1: x - guess, (x - guess)^2   mean and variance; guess is the first row
//   2: dy, dy (x - mean) inv_std  the gradients of beta and gamma
extern "C" __global__ void sums(const REAL *__restrict__ x, const REAL *__restrict__ dy,
                                const REAL *__restrict__ mean, const REAL *__restrict__ inv_std,
                                double *__restrict__ partial, long long rows, long long rows_per_share,
                                int channels, int mode) {
    __shared__ double shared[ROWS * LANES];
    int c = blockIdx.y * LANES + threadIdx.x;
    long long begin = blockIdx.x * rows_per_share, end = min(begin + rows_per_share, rows);
    double first = 0, second = 0;
    if (c < channels)
        for (long long row = begin + threadIdx.y; row < end; row += ROWS) {
            REAL value = x[row * channels + c];
            if (mode == 0) {
                first += value;
            } else if (mode == 1) {
                double moved = (double)value - (double)x[c];
                first += moved;
                second += moved * moved;
            } else {
                double error = dy[row * channels + c];
                first += error;
                second += error * (double)((value - mean[c]) * inv_std[c]);
            }
        }
    first = over_rows(first, shared);
    second = over_rows(second, shared);
    if (threadIdx.y == 0 && c < channels) {
        partial[((long long)blockIdx.x * 2) * channels + c] = first;
        partial[((long long)blockIdx.x * 2 + 1) * channels + c] = second;
    }
}

// One thread for each channel adds the parts in order. The result is the first sum (mode 0); the mean and
// 1 / sqrt(variance + eps) (mode 1); the gradients of beta and gamma (mode 2).
extern "C" __global__ void combine(const double *__restrict__ partial, const REAL *__restrict__ x,
                                   REAL *__restrict__ result, REAL *__restrict__ other, long long rows,
                                   double eps, int shares, int channels, int mode) {
    int c = (int)element();
    if (c >= channels) return;
    double first = 0, second = 0;
    for (int share = 0; share < shares; share++) {
        first += partial[((long long)share * 2) * channels + c];
        second += partial[((long long)share * 2 + 1) * channels + c];
    }
    if (mode == 1) {
        double moved = first / rows, variance = second / rows - moved * moved;
        result[c] = (REAL)((double)x[c] + moved);
        other[c] = (REAL)(1 / sqrt((variance > 0 || variance != variance ? variance : 0) + eps));
    } else {
        result[c] = (REAL)first;
        if (mode == 2) other[c] = (REAL)second;
    }
}

// y = gamma (x - mean) inv_std + beta
extern "C" __global__ void batch_norm(const REAL *__restrict__ x, const REAL *__restrict__ gamma,
                                      const REAL *__restrict__ beta, const REAL *__restrict__ mean,
                                      const REAL *__restrict__ inv_std, REAL *__restrict__ y, long long size,
                                      int channels) {
    long long e = element();
    if (e >= size) return;
    int c = (int)(e % channels);
    y[e] = gamma[c] * ((x[e] - mean[c]) * inv_std[c]) + beta[c];
}

// dx = gamma inv_std (dy - dbeta / rows - normal dgamma / rows), normal = (x - mean) inv_std
extern "C" __global__ void batch_norm_grad(const REAL *__restrict__ x, const REAL *__restrict__ dy,
                                           const REAL *__restrict__ gamma, const REAL *__restrict__ mean,
                                           const REAL *__restrict__ inv_std, const REAL *__restrict__ dgamma,
                                           const REAL *__restrict__ dbeta, REAL *__restrict__ dx,
                                           long long size, int channels, REAL one_over_rows) {
    long long e = element();
    if (e >= size) return;
    int c = (int)(e % channels);
    REAL normal = (x[e] - mean[c]) * inv_std[c];
    dx[e] = gamma[c] * inv_std[c] * (dy[e] - dbeta[c] * one_over_rows - normal * (dgamma[c] * one_over_rows));
}

// y = gamma (x - running mean) / sqrt(running variance + eps) + beta, for inference. y may be x.
extern "C" __global__ void batch_norm_inference(const REAL *x, const REAL *__restrict__ gamma,
                                                const REAL *__restrict__ beta,
                                                const REAL *__restrict__ running_mean,
                                                const REAL *__restrict__ running_var, REAL *y, long long size,
                                                int channels, REAL eps) {
    long long e = element();
    if (e >= size) return;
    int c = (int)(e % channels);
    REAL scale = gamma[c] / sqrt(running_var[c] + eps);
    y[e] = x[e] * scale + (beta[c] - running_mean[c] * scale);
}

// running = (1 - momentum) running + momentum batch; the variance is made unbiased: times rows / (rows - 1).
extern "C" __global__ void running_statistics(REAL *__restrict__ running_mean, REAL *__restrict__ running_var,
                                              const REAL *__restrict__ mean, const REAL *__restrict__ inv_std,
                                              double eps, double momentum, double unbias, int channels) {
    int c = (int)element();
    if (c >= channels) return;
    double std = 1 / (double)inv_std[c], variance = (std * std - eps) * unbias;
    running_mean[c] = (REAL)(running_mean[c] * (REAL)(1 - momentum) + (REAL)(momentum * mean[c]));
    running_var[c] = (REAL)(running_var[c] * (REAL)(1 - momentum) + (REAL)(momentum * variance));
}
