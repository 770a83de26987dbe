#include "conv.cuh"
// The paper's first refinement: the input tile in shared memory.
//
// A block computes TILE_H x TILE_W output pixels of one image for TILE_K filters, one output a thread.
// Neighbouring pixels and all filters need the same inputs, so the block first copies the tile of input
// pixels that it needs, TILE_C channels at a time, into shared memory:
//
//     rows    (TILE_H - 1) sh + (KERNEL_H - 1) dh + 1
//     columns (TILE_W - 1) sw + (KERNEL_W - 1) dw + 1
//
// Then it reads each of these numbers up to KERNEL_H x KERNEL_W x TILE_K times from there. The weights still
// come from global memory. Padding, and the zeros between pixels, are stored as zeros, so the inner loop has
// no conditions.

#define SPAN_H  ((TILE_H - 1) * STRIDE_H + (KERNEL_H - 1) * DILATION_H + 1)
#define SPAN_W  ((TILE_W - 1) * STRIDE_W + (KERNEL_W - 1) * DILATION_W + 1)
#define THREADS (TILE_H * TILE_W * TILE_K)

extern "C" __global__ void __launch_bounds__(THREADS)
    convolve(const REAL *__restrict__ x, const REAL *__restrict__ w, const REAL *__restrict__ bias,
             REAL *__restrict__ y, int relu, Shape shape) {
    DYNAMIC_SHARED(REAL, tile); // [SPAN_H][SPAN_W][TILE_C]

    int tiles_w = (OUT_W + TILE_W - 1) / TILE_W, tiles_h = (OUT_H + TILE_H - 1) / TILE_H;
    int s0 = blockIdx.x % tiles_w * TILE_W, r0 = blockIdx.x / tiles_w % tiles_h * TILE_H;
    int n = blockIdx.x / tiles_w / tiles_h;
    int blocks_k = (GROUP_FILTERS + TILE_K - 1) / TILE_K;
    int group = blockIdx.y / blocks_k, k_in_group = blockIdx.y % blocks_k * TILE_K + threadIdx.x;

    int thread = threadIdx.x + TILE_K * (threadIdx.y + TILE_W * threadIdx.z);
    int s = s0 + threadIdx.y, r = r0 + threadIdx.z, k = group * GROUP_FILTERS + k_in_group;
    bool inside = r < OUT_H && s < OUT_W && k_in_group < GROUP_FILTERS;

    REAL sum = 0;
    for (int c0 = 0; c0 < GROUP_CHANNELS; c0 += TILE_C) {
        __syncthreads(); // all threads have read the last tile
        for (int e = thread; e < SPAN_H * SPAN_W * TILE_C; e += THREADS) {
            int c = c0 + e % TILE_C, column = e / TILE_C % SPAN_W, row = e / TILE_C / SPAN_W;
            row = pixel_at(r0 * STRIDE_H - PAD_TOP + row, UP_H, HEIGHT);
            column = pixel_at(s0 * STRIDE_W - PAD_LEFT + column, UP_W, WIDTH);
            bool there = row >= 0 && column >= 0 && c < GROUP_CHANNELS;
            tile[e] = there ? x[PIXEL(n, row, column) + group * GROUP_CHANNELS + c] : REAL(0);
        }
        __syncthreads(); // the tile is complete
        if (!inside) continue;
        int channels = min(TILE_C, GROUP_CHANNELS - c0);
        for (int i = 0; i < KERNEL_H; i++)
            for (int j = 0; j < KERNEL_W; j++) {
                int row = threadIdx.z * STRIDE_H + i * DILATION_H,
                    column = threadIdx.y * STRIDE_W + j * DILATION_W;
                const REAL *in = tile + (row * SPAN_W + column) * TILE_C;
                const REAL *weight = w + ((long long)(i * KERNEL_W + j) * GROUP_CHANNELS + c0) * FILTERS + k;
                for (int c = 0; c < channels; c++) sum += in[c] * weight[(long long)c * FILTERS];
            }
    }
    if (!inside) return;
    if (bias) sum += bias[k];
    y[OUT_PIXEL(n, r, s) + k] = relu ? relu_of(sum) : sum;
}

// One thread for each weight of one kernel position (blockIdx.z), TILE_C channels and TILE_K filters. The
// pixels are divided among blockIdx.x. The inputs of TILE_P pixels at a time are in shared memory, from which
// all TILE_K filters read them.
//
// Each part writes its own sum, and sum_partials adds the parts in order, so that every run gives the same
// bits.
extern "C" __global__ void __launch_bounds__(TILE_C *TILE_K)
    weight_grad(const REAL *__restrict__ x, const REAL *__restrict__ dy, REAL *__restrict__ partial,
                long long pixels_per_share, Shape shape) {
    DYNAMIC_SHARED(REAL, inputs); // [TILE_P][TILE_C]

    int blocks_k = (GROUP_FILTERS + TILE_K - 1) / TILE_K, blocks_c = (GROUP_CHANNELS + TILE_C - 1) / TILE_C;
    int k_in_group = blockIdx.y % blocks_k * TILE_K + threadIdx.x;
    int c = blockIdx.y / blocks_k % blocks_c * TILE_C, group = blockIdx.y / blocks_k / blocks_c;
    int i = blockIdx.z / KERNEL_W, j = blockIdx.z % KERNEL_W;
    int k = group * GROUP_FILTERS + k_in_group;
    bool inside = k_in_group < GROUP_FILTERS && c + (int)threadIdx.y < GROUP_CHANNELS;
    long long pixels = (long long)IMAGES * OUT_H * OUT_W;
    long long begin = blockIdx.x * pixels_per_share, end = min(begin + pixels_per_share, pixels);

    REAL sum = 0;
    for (long long p0 = begin; p0 < end; p0 += TILE_P) {
        __syncthreads();
        for (int e = threadIdx.x + TILE_K * threadIdx.y; e < TILE_P * TILE_C; e += TILE_C * TILE_K) {
            long long p = p0 + e / TILE_C;
            int row = (int)(p / OUT_W % OUT_H) * STRIDE_H + i * DILATION_H - PAD_TOP;
            int column = (int)(p % OUT_W) * STRIDE_W + j * DILATION_W - PAD_LEFT;
            bool there = p < end && row >= 0 && row < HEIGHT && column >= 0 && column < WIDTH &&
                         c + e % TILE_C < GROUP_CHANNELS;
            inputs[e] =
                there ? x[PIXEL(p / OUT_W / OUT_H, row, column) + group * GROUP_CHANNELS + c + e % TILE_C]
                      : REAL(0);
        }
        __syncthreads();
        if (!inside) continue;
        int count = (int)min((long long)TILE_P, end - p0);
        for (int p = 0; p < count; p++) sum += inputs[p * TILE_C + threadIdx.y] * dy[(p0 + p) * FILTERS + k];
    }
    if (!inside) return;
    long long weights = (long long)KERNEL_H * KERNEL_W * GROUP_CHANNELS * FILTERS;
    partial[blockIdx.x * weights + ((long long)blockIdx.z * GROUP_CHANNELS + c + threadIdx.y) * FILTERS + k] =
        sum;
}
