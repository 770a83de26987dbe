#include "conv.cuh"
// The first layer in one kernel: convolution, bias, ReLU and max pooling, for images of few channels.
//
//   y[n, r, s, k] = max over the window's (a, b) of relu(b[k] + sum over i, j, c of x[...] w[i, j, c, k])
//
// With one or three channels a convolution computes little for each number that it writes, so memory takes
// most of the time. Only the largest number of each pooling window is needed. So a thread computes all POOL_H
// x POOL_W points of a window for OUT_K filters in registers, and writes one number for each filter, with its
// position for the backward pass. The convolution's result is never in memory. With a window of one pixel
// this is a plain convolution.
//
// A block computes TILE_H x TILE_W windows for TILE_K filters; their input tile (all channels of the group)
// and the filters are in shared memory. Windows do not overlap and have no padding; rows and columns that
// fill no window are left out.

#define THREADS_K (TILE_K / OUT_K)
#define THREADS   (THREADS_K * TILE_H * TILE_W)
#define PACKS     (OUT_K / 4)
#define SPAN_H    ((TILE_H * POOL_H - 1) * STRIDE_H + (KERNEL_H - 1) * DILATION_H + 1)
#define SPAN_W    ((TILE_W * POOL_W - 1) * STRIDE_W + (KERNEL_W - 1) * DILATION_W + 1)
#define WINDOWS_H (OUT_H / POOL_H)
#define WINDOWS_W (OUT_W / POOL_W)

extern "C" __global__ void __launch_bounds__(THREADS)
    convolve(const REAL *__restrict__ x, const REAL *__restrict__ w, const REAL *__restrict__ bias,
             REAL *__restrict__ y, int *__restrict__ indices, int relu, Shape shape) {
    DYNAMIC_SHARED(REAL, weights);                                        // [KERNEL_H][KERNEL_W][C][TILE_K]
    REAL *tile = weights + KERNEL_H * KERNEL_W * GROUP_CHANNELS * TILE_K; // [SPAN_H][SPAN_W][C]

    int tiles_w = (WINDOWS_W + TILE_W - 1) / TILE_W, tiles_h = (WINDOWS_H + TILE_H - 1) / TILE_H;
    int s0 = blockIdx.x % tiles_w * TILE_W, r0 = blockIdx.x / tiles_w % tiles_h * TILE_H;
    int n = blockIdx.x / tiles_w / tiles_h;
    int blocks_k = (GROUP_FILTERS + TILE_K - 1) / TILE_K;
    int group = blockIdx.y / blocks_k, k0 = blockIdx.y % blocks_k * TILE_K;
    int thread = threadIdx.x, tk = thread % THREADS_K, tw = thread / THREADS_K % TILE_W,
        th = thread / THREADS_K / TILE_W;

    for (int e = thread; e < KERNEL_H * KERNEL_W * GROUP_CHANNELS * TILE_K; e += THREADS) {
        int k = k0 + e % TILE_K;
        weights[e] =
            k < GROUP_FILTERS ? w[(long long)(e / TILE_K) * FILTERS + group * GROUP_FILTERS + k] : REAL(0);
    }
    for (int e = thread; e < SPAN_H * SPAN_W * GROUP_CHANNELS; e += THREADS) {
        int c = e % GROUP_CHANNELS, column = e / GROUP_CHANNELS % SPAN_W, row = e / GROUP_CHANNELS / SPAN_W;
        row = pixel_at(r0 * POOL_H * STRIDE_H - PAD_TOP + row, UP_H, HEIGHT);
        column = pixel_at(s0 * POOL_W * STRIDE_W - PAD_LEFT + column, UP_W, WIDTH);
        bool there = row >= 0 && column >= 0;
        tile[e] = there ? x[PIXEL(n, row, column) + group * GROUP_CHANNELS + c] : REAL(0);
    }
    __syncthreads(); // tile and weights are complete

    REAL sum[POOL_H][POOL_W][OUT_K];
#pragma unroll
    for (int a = 0; a < POOL_H; a++)
#pragma unroll
        for (int b = 0; b < POOL_W; b++)
#pragma unroll
            for (int k = 0; k < OUT_K; k++) sum[a][b][k] = 0;

    const REAL *corner = tile + (th * POOL_H * STRIDE_H * SPAN_W + tw * POOL_W * STRIDE_W) * GROUP_CHANNELS;
    for (int i = 0; i < KERNEL_H; i++)
#pragma unroll 5
        for (int j = 0; j < KERNEL_W; j++)
            for (int c = 0; c < GROUP_CHANNELS; c++) {
                REAL weight[OUT_K];
#pragma unroll
                for (int q = 0; q < PACKS; q++) {
                    Pack<4> pack = load<4>(weights + ((i * KERNEL_W + j) * GROUP_CHANNELS + c) * TILE_K +
                                           q * THREADS_K * 4 + tk * 4);
#pragma unroll
                    for (int e = 0; e < 4; e++) weight[q * 4 + e] = pack.v[e];
                }
#pragma unroll
                for (int a = 0; a < POOL_H; a++)
#pragma unroll
                    for (int b = 0; b < POOL_W; b++) {
                        int row = a * STRIDE_H + i * DILATION_H, column = b * STRIDE_W + j * DILATION_W;
                        REAL in = corner[(row * SPAN_W + column) * GROUP_CHANNELS + c];
#pragma unroll
                        for (int k = 0; k < OUT_K; k++) sum[a][b][k] += in * weight[k];
                    }
            }

    int r = r0 + th, s = s0 + tw;
    if (r >= WINDOWS_H || s >= WINDOWS_W) return;
    long long window = (((long long)n * WINDOWS_H + r) * WINDOWS_W + s) * FILTERS + group * GROUP_FILTERS;
#pragma unroll
    for (int q = 0; q < OUT_K; q++) {
        int k = k0 + q / 4 * THREADS_K * 4 + tk * 4 + q % 4;
        if (k >= GROUP_FILTERS) continue;
        REAL add = bias ? bias[group * GROUP_FILTERS + k] : REAL(0), best = 0;
        int where = 0;
#pragma unroll
        for (int a = 0; a < POOL_H; a++)
#pragma unroll
            for (int b = 0; b < POOL_W; b++) {
                REAL value = sum[a][b][q] + add;
                if (relu) value = relu_of(value);
                // The first of equal numbers wins, and NaN beats every number.
                if ((a == 0 && b == 0) || value > best || (value != value && best == best)) {
                    best = value;
                    where = (r * POOL_H + a) * OUT_W + s * POOL_W + b;
                }
            }
        y[window + k] = best;
        if (indices) indices[window + k] = where;
    }
}

// The filters' gradient from the pooled errors. The convolution's own gradient is not written to memory: it
// is zero except at one point of each window.
//
//   dw[i, j, c, k] = sum over windows of dy[window, k] x[pixel of indices[window, k] moved by (i, j), c]
//
// Thread (k, t) does filter k and every GRAD_T-th of the kernel's positions and channels, GRAD_D of them. The
// windows are divided among blockIdx.x. Without indices, y is the convolution's own result.
extern "C" __global__ void __launch_bounds__(GRAD_K *GRAD_T)
    weight_grad(const REAL *__restrict__ x, const REAL *__restrict__ dy, const int *__restrict__ indices,
                REAL *__restrict__ partial, long long windows_per_share, Shape shape) {
    int blocks_k = (GROUP_FILTERS + GRAD_K - 1) / GRAD_K;
    int group = blockIdx.y / blocks_k, k_in_group = blockIdx.y % blocks_k * GRAD_K + threadIdx.x;
    int depth = KERNEL_H * KERNEL_W * GROUP_CHANNELS, d0 = blockIdx.z * GRAD_T * GRAD_D + threadIdx.y;
    if (k_in_group >= GROUP_FILTERS) return;
    int k = group * GROUP_FILTERS + k_in_group;
    long long windows = (long long)IMAGES * WINDOWS_H * WINDOWS_W;
    long long begin = blockIdx.x * windows_per_share, end = min(begin + windows_per_share, windows);

    int down[GRAD_D], across[GRAD_D], offset[GRAD_D];
    REAL sum[GRAD_D];
#pragma unroll
    for (int t = 0; t < GRAD_D; t++) {
        int d = d0 + t * GRAD_T, c = d % GROUP_CHANNELS, tap = d / GROUP_CHANNELS;
        down[t] = d < depth ? tap / KERNEL_W * DILATION_H - PAD_TOP : -(1 << 30); // outside every image
        across[t] = tap % KERNEL_W * DILATION_W - PAD_LEFT;
        offset[t] = d < depth ? (down[t] * WIDTH + across[t]) * CHANNELS + c : 0;
        sum[t] = 0;
    }
    for (long long p = begin; p < end; p++) {
        REAL error = dy[p * FILTERS + k];
        if (error == 0) continue; // ReLU let nothing through
        int image = (int)(p / (WINDOWS_H * WINDOWS_W));
        int at = indices ? indices[p * FILTERS + k] : (int)(p % (WINDOWS_H * WINDOWS_W));
        int row = at / OUT_W * STRIDE_H, column = at % OUT_W * STRIDE_W;
        const REAL *from = x + PIXEL(image, row, column) + group * GROUP_CHANNELS;
#pragma unroll
        for (int t = 0; t < GRAD_D; t++)
            if ((unsigned)(row + down[t]) < (unsigned)HEIGHT &&
                (unsigned)(column + across[t]) < (unsigned)WIDTH)
                sum[t] += from[offset[t]] * error;
    }
#pragma unroll
    for (int t = 0; t < GRAD_D; t++) {
        int d = d0 + t * GRAD_T;
        if (d < depth) partial[(blockIdx.x * (long long)depth + d) * FILTERS + k] = sum[t];
    }
}
