#include "conv.cuh"
// The paper's second refinement: the input tile and the filters in shared memory.
//
// As in shared_input.cu; but the weights of the TILE_K filters for the TILE_C channels are copied to shared
// memory too, from which all TILE_H x TILE_W pixels of the block read them. The gain is small where the cache
// already serves the weights. The cost is room: the more shared memory a block takes, the fewer blocks a
// multiprocessor holds.

#define SPAN_H  ((TILE_H - 1) * STRIDE_H + (KERNEL_H - 1) * DILATION_H + 1)
#define SPAN_W  ((TILE_W - 1) * STRIDE_W + (KERNEL_W - 1) * DILATION_W + 1)
#define THREADS (TILE_H * TILE_W * TILE_K)

extern "C" __global__ void __launch_bounds__(THREADS)
    convolve(const REAL *__restrict__ x, const REAL *__restrict__ w, const REAL *__restrict__ bias,
             REAL *__restrict__ y, int relu, Shape shape) {
    DYNAMIC_SHARED(REAL, tile);                      // [SPAN_H][SPAN_W][TILE_C], and after it
    REAL *weights = tile + SPAN_H * SPAN_W * TILE_C; // [KERNEL_H][KERNEL_W][TILE_C][TILE_K]

    int tiles_w = (OUT_W + TILE_W - 1) / TILE_W, tiles_h = (OUT_H + TILE_H - 1) / TILE_H;
    int s0 = blockIdx.x % tiles_w * TILE_W, r0 = blockIdx.x / tiles_w % tiles_h * TILE_H;
    int n = blockIdx.x / tiles_w / tiles_h;
    int blocks_k = (GROUP_FILTERS + TILE_K - 1) / TILE_K;
    int group = blockIdx.y / blocks_k, k0 = blockIdx.y % blocks_k * TILE_K;

    int thread = threadIdx.x + TILE_K * (threadIdx.y + TILE_W * threadIdx.z);
    int s = s0 + threadIdx.y, r = r0 + threadIdx.z, k = group * GROUP_FILTERS + k0 + threadIdx.x;
    bool inside = r < OUT_H && s < OUT_W && k0 + (int)threadIdx.x < GROUP_FILTERS;

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
        for (int e = thread; e < KERNEL_H * KERNEL_W * TILE_C * TILE_K; e += THREADS) {
            int kk = k0 + e % TILE_K, c = c0 + e / TILE_K % TILE_C, tap = e / TILE_K / TILE_C;
            bool there = kk < GROUP_FILTERS && c < GROUP_CHANNELS;
            weights[e] = there
                             ? w[((long long)tap * GROUP_CHANNELS + c) * FILTERS + group * GROUP_FILTERS + kk]
                             : REAL(0);
        }
        __syncthreads(); // tile and weights are complete
        for (int i = 0; i < KERNEL_H; i++)
            for (int j = 0; j < KERNEL_W; j++) {
                int row = threadIdx.z * STRIDE_H + i * DILATION_H,
                    column = threadIdx.y * STRIDE_W + j * DILATION_W;
                const REAL *in = tile + (row * SPAN_W + column) * TILE_C;
                const REAL *weight = weights + (i * KERNEL_W + j) * TILE_C * TILE_K + threadIdx.x;
                for (int c = 0; c < TILE_C; c++) sum += in[c] * weight[c * TILE_K];
            }
    }
    if (!inside) return;
    if (bias) sum += bias[k];
    y[OUT_PIXEL(n, r, s) + k] = relu ? relu_of(sum) : sum;
}

// As in shared_input.cu; the errors of the TILE_P pixels, which take the place of the filters, are in shared
// memory as well.
extern "C" __global__ void __launch_bounds__(TILE_C *TILE_K)
    weight_grad(const REAL *__restrict__ x, const REAL *__restrict__ dy, REAL *__restrict__ partial,
                long long pixels_per_share, Shape shape) {
    DYNAMIC_SHARED(REAL, inputs);            // [TILE_P][TILE_C], and after it
    REAL *errors = inputs + TILE_P * TILE_C; // [TILE_P][TILE_K]

    int blocks_k = (GROUP_FILTERS + TILE_K - 1) / TILE_K, blocks_c = (GROUP_CHANNELS + TILE_C - 1) / TILE_C;
    int k0 = blockIdx.y % blocks_k * TILE_K;
    int c0 = blockIdx.y / blocks_k % blocks_c * TILE_C, group = blockIdx.y / blocks_k / blocks_c;
    int i = blockIdx.z / KERNEL_W, j = blockIdx.z % KERNEL_W;
    int thread = threadIdx.x + TILE_K * threadIdx.y;
    long long pixels = (long long)IMAGES * OUT_H * OUT_W;
    long long begin = blockIdx.x * pixels_per_share, end = min(begin + pixels_per_share, pixels);

    REAL sum = 0;
    for (long long p0 = begin; p0 < end; p0 += TILE_P) {
        __syncthreads();
        for (int e = thread; e < TILE_P * TILE_C; e += TILE_C * TILE_K) {
            long long p = p0 + e / TILE_C;
            int c = c0 + e % TILE_C;
            int row = (int)(p / OUT_W % OUT_H) * STRIDE_H + i * DILATION_H - PAD_TOP;
            int column = (int)(p % OUT_W) * STRIDE_W + j * DILATION_W - PAD_LEFT;
            bool there =
                p < end && row >= 0 && row < HEIGHT && column >= 0 && column < WIDTH && c < GROUP_CHANNELS;
            inputs[e] =
                there ? x[PIXEL(p / OUT_W / OUT_H, row, column) + group * GROUP_CHANNELS + c] : REAL(0);
        }
        for (int e = thread; e < TILE_P * TILE_K; e += TILE_C * TILE_K) {
            long long p = p0 + e / TILE_K;
            int kk = k0 + e % TILE_K;
            errors[e] =
                p < end && kk < GROUP_FILTERS ? dy[p * FILTERS + group * GROUP_FILTERS + kk] : REAL(0);
        }
        __syncthreads();
        for (int p = 0; p < TILE_P; p++)
            sum += inputs[p * TILE_C + threadIdx.y] * errors[p * TILE_K + threadIdx.x];
    }
    int k = k0 + threadIdx.x, c = c0 + threadIdx.y;
    if (k >= GROUP_FILTERS || c >= GROUP_CHANNELS) return;
    long long weights = (long long)KERNEL_H * KERNEL_W * GROUP_CHANNELS * FILTERS;
    partial[blockIdx.x * weights + ((long long)blockIdx.z * GROUP_CHANNELS + c) * FILTERS +
            group * GROUP_FILTERS + k] = sum;
}
