#include "conv.cuh"
// The paper's third refinement, "advanced block setting": tile and block shapes chosen for each layer, and
// several outputs a thread.
//
// A block computes TILE_K filters for TILE_N images x TILE_H rows x TILE_W columns. A thread computes OUT_P
// pixels of a row, THREADS_W apart, times OUT_K filters, and keeps the OUT_P x OUT_K sums in registers. For
// each kernel position and channel it reads OUT_P inputs and OUT_K weights from shared memory and does OUT_P
// x OUT_K multiply-adds: with 8 x 8 that is 4 for each number read, where one output a thread has one half.
// This makes the kernel fast; the other refinements only prepare it.
//
// Shared memory holds the input tile for TILE_C channels and the weights of one kernel row. STEP_C channels
// (4, or 1 where there are few) are read at once, and filters four at a time: 16 bytes is the widest read.

#define SPAN_H    ((TILE_H - 1) * STRIDE_H + (KERNEL_H - 1) * DILATION_H + 1)
#define SPAN_W    ((TILE_W - 1) * STRIDE_W + (KERNEL_W - 1) * DILATION_W + 1)
#define THREADS_K (TILE_K / OUT_K)
#define THREADS_W (TILE_W / OUT_P)
#define THREADS   (THREADS_K * THREADS_W * TILE_H * TILE_N)
#define PACKS     (OUT_K / 4)

// One block a multiprocessor is enough: without the 1, nvcc spills registers to make room for two.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    convolve(const REAL *__restrict__ x, const REAL *__restrict__ w, const REAL *__restrict__ bias,
             REAL *__restrict__ y, int relu, Shape shape) {
    DYNAMIC_SHARED(REAL, weights);                     // [KERNEL_W][TILE_C][TILE_K], and after it
    REAL *tile = weights + KERNEL_W * TILE_C * TILE_K; // [TILE_N][SPAN_H][SPAN_W][TILE_C]

    int tiles_w = (OUT_W + TILE_W - 1) / TILE_W, tiles_h = (OUT_H + TILE_H - 1) / TILE_H;
    int s0 = blockIdx.x % tiles_w * TILE_W, r0 = blockIdx.x / tiles_w % tiles_h * TILE_H;
    int n0 = blockIdx.x / tiles_w / tiles_h * TILE_N;
    int blocks_k = (GROUP_FILTERS + TILE_K - 1) / TILE_K;
    int group = blockIdx.y / blocks_k, k0 = blockIdx.y % blocks_k * TILE_K;

    int thread = threadIdx.x;
    int tk = thread % THREADS_K, tw = thread / THREADS_K % THREADS_W;
    int th = thread / (THREADS_K * THREADS_W) % TILE_H, tn = thread / (THREADS_K * THREADS_W * TILE_H);

    REAL sum[OUT_P][OUT_K];
#pragma unroll
    for (int p = 0; p < OUT_P; p++)
#pragma unroll
        for (int k = 0; k < OUT_K; k++) sum[p][k] = 0;

    for (int c0 = 0; c0 < GROUP_CHANNELS; c0 += TILE_C) {
        __syncthreads(); // all threads have read the last tile
        for (int e = thread; e < TILE_N * SPAN_H * SPAN_W * TILE_C; e += THREADS) {
            int c = c0 + e % TILE_C, column = e / TILE_C % SPAN_W, row = e / TILE_C / SPAN_W % SPAN_H;
            int n = n0 + e / TILE_C / SPAN_W / SPAN_H;
            row = pixel_at(r0 * STRIDE_H - PAD_TOP + row, UP_H, HEIGHT);
            column = pixel_at(s0 * STRIDE_W - PAD_LEFT + column, UP_W, WIDTH);
            bool there = row >= 0 && column >= 0 && c < GROUP_CHANNELS && n < IMAGES;
            tile[e] = there ? x[PIXEL(n, row, column) + group * GROUP_CHANNELS + c] : REAL(0);
        }
        for (int i = 0; i < KERNEL_H; i++) {
            if (i) __syncthreads(); // all threads have read the weights of the last kernel row
            for (int e = thread; e < KERNEL_W * TILE_C * TILE_K; e += THREADS) {
                int k = k0 + e % TILE_K, c = c0 + e / TILE_K % TILE_C, j = e / TILE_K / TILE_C;
                bool there = k < GROUP_FILTERS && c < GROUP_CHANNELS;
                long long row = (long long)(i * KERNEL_W + j) * GROUP_CHANNELS + c;
                weights[e] = there ? w[row * FILTERS + group * GROUP_FILTERS + k] : REAL(0);
            }
            __syncthreads(); // tile and weights are complete
            const REAL *row =
                tile + ((tn * SPAN_H + th * STRIDE_H + i * DILATION_H) * SPAN_W + tw * STRIDE_W) * TILE_C;
            for (int j = 0; j < KERNEL_W; j++) {
                const REAL *in = row + j * DILATION_W * TILE_C,
                           *weight = weights + j * TILE_C * TILE_K + tk * 4;
#pragma unroll 1 // a step is long enough; unrolling would take registers that the sums need
                for (int c = 0; c < TILE_C; c += STEP_C) {
                    Pack<STEP_C> a[OUT_P];
#pragma unroll
                    for (int p = 0; p < OUT_P; p++)
                        a[p] = load<STEP_C>(in + p * THREADS_W * STRIDE_W * TILE_C + c);
#pragma unroll
                    for (int e = 0; e < STEP_C; e++)
#pragma unroll
                        for (int q = 0; q < PACKS; q++) {
                            Pack<4> b = load<4>(weight + (c + e) * TILE_K + q * THREADS_K * 4);
#pragma unroll
                            for (int p = 0; p < OUT_P; p++)
#pragma unroll
                                for (int k = 0; k < 4; k++) sum[p][q * 4 + k] += a[p].v[e] * b.v[k];
                        }
                }
            }
        }
    }

    int n = n0 + tn, r = r0 + th;
    if (n >= IMAGES || r >= OUT_H) return;
#pragma unroll
    for (int p = 0; p < OUT_P; p++) {
        int s = s0 + tw + p * THREADS_W;
        if (s >= OUT_W) continue;
        REAL *out = y + OUT_PIXEL(n, r, s) + group * GROUP_FILTERS;
#pragma unroll
        for (int q = 0; q < OUT_K; q++) {
            int k = k0 + tk * 4 + q / 4 * THREADS_K * 4 + q % 4;
            if (k >= GROUP_FILTERS) continue;
            REAL value = sum[p][q];
            if (bias) value += bias[group * GROUP_FILTERS + k];
            out[k] = relu ? relu_of(value) : value;
        }
    }
}

// Weights of one kernel position (blockIdx.z) for GRAD_C channels and GRAD_K filters, 4 x 4 of them a thread.
// The pixels are divided among blockIdx.x; GRAD_P of them at a time are in shared memory. sum_partials adds
// the parts in order.
#define GRAD_THREADS (GRAD_C / 4 * (GRAD_K / 4))

extern "C" __global__ void __launch_bounds__(GRAD_THREADS)
    weight_grad(const REAL *__restrict__ x, const REAL *__restrict__ dy, REAL *__restrict__ partial,
                long long pixels_per_share, Shape shape) {
    DYNAMIC_SHARED(REAL, inputs);            // [GRAD_P][GRAD_C], and after it
    REAL *errors = inputs + GRAD_P * GRAD_C; // [GRAD_P][GRAD_K]

    int blocks_k = (GROUP_FILTERS + GRAD_K - 1) / GRAD_K, blocks_c = (GROUP_CHANNELS + GRAD_C - 1) / GRAD_C;
    int k0 = blockIdx.y % blocks_k * GRAD_K;
    int c0 = blockIdx.y / blocks_k % blocks_c * GRAD_C, group = blockIdx.y / blocks_k / blocks_c;
    int i = blockIdx.z / KERNEL_W, j = blockIdx.z % KERNEL_W;
    int thread = threadIdx.x, tk = thread % (GRAD_K / 4), tc = thread / (GRAD_K / 4);
    long long pixels = (long long)IMAGES * OUT_H * OUT_W;
    long long begin = blockIdx.x * pixels_per_share, end = min(begin + pixels_per_share, pixels);

    REAL sum[4][4];
#pragma unroll
    for (int c = 0; c < 4; c++)
#pragma unroll
        for (int k = 0; k < 4; k++) sum[c][k] = 0;

    for (long long p0 = begin; p0 < end; p0 += GRAD_P) {
        __syncthreads(); // all threads have used the last pixels
        for (int e = thread; e < GRAD_P * GRAD_C; e += GRAD_THREADS) {
            long long p = p0 + e / GRAD_C;
            int c = c0 + e % GRAD_C;
            int row = (int)(p / OUT_W % OUT_H) * STRIDE_H + i * DILATION_H - PAD_TOP;
            int column = (int)(p % OUT_W) * STRIDE_W + j * DILATION_W - PAD_LEFT;
            bool there =
                p < end && row >= 0 && row < HEIGHT && column >= 0 && column < WIDTH && c < GROUP_CHANNELS;
            inputs[e] =
                there ? x[PIXEL(p / OUT_W / OUT_H, row, column) + group * GROUP_CHANNELS + c] : REAL(0);
        }
        for (int e = thread; e < GRAD_P * GRAD_K; e += GRAD_THREADS) {
            long long p = p0 + e / GRAD_K;
            int k = k0 + e % GRAD_K;
            errors[e] = p < end && k < GROUP_FILTERS ? dy[p * FILTERS + group * GROUP_FILTERS + k] : REAL(0);
        }
        __syncthreads(); // the pixels are complete
#pragma unroll 4
        for (int p = 0; p < GRAD_P; p++) {
            Pack<4> a = load<4>(inputs + p * GRAD_C + tc * 4), b = load<4>(errors + p * GRAD_K + tk * 4);
#pragma unroll
            for (int c = 0; c < 4; c++)
#pragma unroll
                for (int k = 0; k < 4; k++) sum[c][k] += a.v[c] * b.v[k];
        }
    }

    long long weights = (long long)KERNEL_H * KERNEL_W * GROUP_CHANNELS * FILTERS;
#pragma unroll
    for (int c = 0; c < 4; c++)
#pragma unroll
        for (int k = 0; k < 4; k++) {
            int cc = c0 + tc * 4 + c, kk = k0 + tk * 4 + k;
            if (cc >= GROUP_CHANNELS || kk >= GROUP_FILTERS) continue;
            long long row = (long long)blockIdx.z * GROUP_CHANNELS + cc;
            partial[blockIdx.x * weights + row * FILTERS + group * GROUP_FILTERS + kk] = sum[c][k];
        }
}
