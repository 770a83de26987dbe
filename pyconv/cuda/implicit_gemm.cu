#include "conv.cuh"
// Convolution as a product of matrices, whose large left matrix is never written to memory.
//
//   y[pixel, k] = sum over d of A[pixel, d] w[d, k],      d = (i, j, c),      A[pixel, d] = x[pixel moved by
//   (i, j), c]
//
// A block computes TILE_M pixels x TILE_N filters; a thread computes PER_M x PER_N of them in registers.
// DEPTH rows of the sum at a time (a slice) are in shared memory, which has room for two slices: while the
// threads work on one, the next is fetched from global memory through registers into the other. So one
// barrier a slice is enough, and its wait is short.
//
// Splitting d into (i, j, c) would cost a division for each number. Instead it is looked up in a table (Tap)
// that the host makes. So the same kernel computes any stride, padding and dilation. It also computes the
// input gradient of a strided convolution, phase by phase: the pixels (FIRST_H + a STEP_H, FIRST_W + b
// STEP_W) need the same part of the kernel, and a phase is a convolution over them with that part. VECTOR_X
// numbers along c, and VECTOR_W along k, are read at once.
//
// If there are too few tiles to fill the GPU, the sum is divided among blockIdx.z as well (split-K): each
// part writes its own result, and sum_partials adds the parts in order.

#define THREADS  ((TILE_M / PER_M) * (TILE_N / PER_N))
#define PAD      4
#define STRIDE_A (TILE_M + PAD)
#define STRIDE_B (TILE_N + PAD)

struct __align__(16) Tap {
    int offset, row, column, unused; // distances from a pixel's first input: in memory, down, across
};

// Where the output pixels of this launch lie in y, and which part of the sum a block computes.
struct Place {
    int rows, columns, step_h, step_w, first_h, first_w; // pixels computed; where they lie in the output
    int depth, depth_per_share, weight_row, shares; // rows of the sum; rows of a part; first row of w; parts
};

// Multiplies one slice in shared memory into the sums of this thread.
__device__ __forceinline__ void multiply(const REAL *a, const REAL *b, int tm, int tn,
                                         REAL (&sum)[PER_M][PER_N]) {
#pragma unroll
    for (int d = 0; d < DEPTH; d++) {
        REAL left[PER_M], right[PER_N];
        // Groups of four, far apart, so that neighbouring threads read neighbouring 16 bytes.
#pragma unroll
        for (int q = 0; q < PER_M / 4; q++) {
            Pack<4> pack = load<4>(a + d * STRIDE_A + q * (TILE_M / (PER_M / 4)) + tm * 4);
#pragma unroll
            for (int e = 0; e < 4; e++) left[q * 4 + e] = pack.v[e];
        }
#pragma unroll
        for (int q = 0; q < PER_N / 4; q++) {
            Pack<4> pack = load<4>(b + d * STRIDE_B + q * (TILE_N / (PER_N / 4)) + tn * 4);
#pragma unroll
            for (int e = 0; e < 4; e++) right[q * 4 + e] = pack.v[e];
        }
#pragma unroll
        for (int m = 0; m < PER_M; m++)
#pragma unroll
            for (int n = 0; n < PER_N; n++) sum[m][n] += left[m] * right[n];
    }
}

// The row or column of the tile that belongs to a thread's m-th or n-th sum.
#define ROW_OF(tm, m)    ((m) / 4 * (TILE_M / (PER_M / 4)) + (tm) * 4 + (m) % 4)
#define COLUMN_OF(tn, n) ((n) / 4 * (TILE_N / (PER_N / 4)) + (tn) * 4 + (n) % 4)

// Writes a thread's sums of one row, with bias and ReLU if the sum is not divided.
__device__ __forceinline__ void write_row(REAL *out, const REAL (&sum)[PER_N], const REAL *bias, int relu,
                                          int k0, int tn, int filters) {
#pragma unroll
    for (int q = 0; q < PER_N; q += VECTOR_W) {
        int k = k0 + COLUMN_OF(tn, q);
        if (k >= filters) continue;
        Pack<VECTOR_W> pack;
#pragma unroll
        for (int e = 0; e < VECTOR_W; e++) {
            REAL value = sum[q + e];
            if (bias) value += bias[k + e];
            pack.v[e] = relu ? relu_of(value) : value;
        }
        store<VECTOR_W>(out + k, pack);
    }
}

#define UNITS_A (TILE_M * DEPTH / VECTOR_X) // reads of a slice
#define LOADS_A ((UNITS_A + THREADS - 1) / THREADS)
#define UNITS_B (DEPTH * TILE_N / VECTOR_W)
#define LOADS_B ((UNITS_B + THREADS - 1) / THREADS)
#define PACKS_D (DEPTH / VECTOR_X) // reads of one pixel in a slice

extern "C" __global__ void __launch_bounds__(THREADS)
    convolve(const REAL *__restrict__ x, const REAL *__restrict__ w, const REAL *__restrict__ bias,
             REAL *__restrict__ y, const Tap *__restrict__ taps, int relu, Place place, Shape shape) {
    __shared__ __align__(16) REAL a[2][DEPTH * STRIDE_A];
    __shared__ __align__(16) REAL b[2][DEPTH * STRIDE_B];

    int thread = threadIdx.x, tn = thread % (TILE_N / PER_N), tm = thread / (TILE_N / PER_N);
    int m0 = blockIdx.x * TILE_M, k0 = blockIdx.y * TILE_N;
    int group = blockIdx.z / place.shares, share = blockIdx.z % place.shares;
    int begin = share * place.depth_per_share, end = min(begin + place.depth_per_share, place.depth);
    int pixels = IMAGES * place.rows * place.columns;
    w += (long long)place.weight_row * FILTERS + group * GROUP_FILTERS;

    // Each thread reads the same place of every slice, for LOADS_A pixels.
    const REAL *from[LOADS_A];
    int row[LOADS_A], column[LOADS_A];
#pragma unroll
    for (int l = 0; l < LOADS_A; l++) {
        int unit = thread + l * THREADS, m = m0 + unit / PACKS_D;
        bool there = unit < UNITS_A && m < pixels;
        int n = m / (place.rows * place.columns), r = m / place.columns % place.rows, s = m % place.columns;
        row[l] = there ? r * STRIDE_H : -(1 << 30); // so far outside that no tap reaches the image
        column[l] = s * STRIDE_W;
        from[l] = x + (there ? PIXEL(n, r * STRIDE_H, s * STRIDE_W) + group * GROUP_CHANNELS : 0);
    }

    Pack<VECTOR_X> next_a[LOADS_A];
    Pack<VECTOR_W> next_b[LOADS_B];
    REAL sum[PER_M][PER_N];
#pragma unroll
    for (int m = 0; m < PER_M; m++)
#pragma unroll
        for (int n = 0; n < PER_N; n++) sum[m][n] = 0;

    // Reads slice `d0` from global memory into registers. The table is as long as the sum, rounded up to a
    // whole slice.
    auto fetch = [&](int d0) {
#pragma unroll
        for (int l = 0; l < LOADS_A; l++) {
            int d = d0 + (thread + l * THREADS) % PACKS_D * VECTOR_X;
            Tap tap = taps[d / VECTOR_X];
            bool there = d < end && (unsigned)(row[l] + tap.row) < (unsigned)HEIGHT &&
                         (unsigned)(column[l] + tap.column) < (unsigned)WIDTH;
            if (there)
                next_a[l] = load<VECTOR_X>(from[l] + tap.offset);
            else
#pragma unroll
                for (int e = 0; e < VECTOR_X; e++) next_a[l].v[e] = 0;
        }
#pragma unroll
        for (int l = 0; l < LOADS_B; l++) {
            int unit = thread + l * THREADS, d = d0 + unit / (TILE_N / VECTOR_W);
            int k = k0 + unit % (TILE_N / VECTOR_W) * VECTOR_W;
            if (unit < UNITS_B && d < end && k < GROUP_FILTERS)
                next_b[l] = load<VECTOR_W>(w + (long long)d * FILTERS + k);
            else
#pragma unroll
                for (int e = 0; e < VECTOR_W; e++) next_b[l].v[e] = 0;
        }
    };
    // Writes registers to one half of shared memory; the pixels' numbers are transposed, so that pixels are
    // neighbours.
    auto keep = [&](int half) {
#pragma unroll
        for (int l = 0; l < LOADS_A; l++) {
            int unit = thread + l * THREADS, m = unit / PACKS_D, d = unit % PACKS_D * VECTOR_X;
            if (unit >= UNITS_A) continue;
#pragma unroll
            for (int e = 0; e < VECTOR_X; e++) a[half][(d + e) * STRIDE_A + m] = next_a[l].v[e];
        }
#pragma unroll
        for (int l = 0; l < LOADS_B; l++) {
            int unit = thread + l * THREADS, d = unit / (TILE_N / VECTOR_W),
                k = unit % (TILE_N / VECTOR_W) * VECTOR_W;
            if (unit < UNITS_B) store<VECTOR_W>(&b[half][d * STRIDE_B + k], next_b[l]);
        }
    };

    int half = 0;
    if (begin < end) {
        fetch(begin);
        keep(0);
    }
    __syncthreads();
    for (int d0 = begin; d0 < end; d0 += DEPTH) {
        bool more = d0 + DEPTH < end;
        if (more) fetch(d0 + DEPTH);
        multiply(a[half], b[half], tm, tn, sum);
        half ^= 1;
        if (more) keep(half);
        __syncthreads();
    }

    bool whole = place.shares == 1;
    REAL *out = whole ? y : y + (long long)share * IMAGES * OUT_H * OUT_W * FILTERS;
    const REAL *add = whole && bias ? bias + group * GROUP_FILTERS : nullptr;
#pragma unroll
    for (int i = 0; i < PER_M; i++) {
        int m = m0 + ROW_OF(tm, i);
        if (m >= pixels) continue;
        int n = m / (place.rows * place.columns), r = m / place.columns % place.rows, s = m % place.columns;
        long long pixel = OUT_PIXEL(n, place.first_h + r * place.step_h, place.first_w + s * place.step_w);
        write_row(out + pixel + group * GROUP_FILTERS, sum[i], add, whole && relu, k0, tn, GROUP_FILTERS);
    }
}

// The weight gradient is the product with the other matrix transposed:
//
//   dw[d, k] = sum over pixels of A[pixel, d] dy[pixel, k]
//
// It has few rows and columns and a very long sum, so the sum is always divided among blockIdx.z. The rows
// that a thread reads stay the same, and so does their tap; only the pixels change.
#define ROW_PACKS (TILE_M / VECTOR_X)

extern "C" __global__ void __launch_bounds__(THREADS)
    weight_grad(const REAL *__restrict__ x, const REAL *__restrict__ dy, REAL *__restrict__ partial,
                const Tap *__restrict__ taps, int depth, int pixels_per_share, int shares, Shape shape) {
    __shared__ __align__(16) REAL a[2][DEPTH * STRIDE_A];
    __shared__ __align__(16) REAL b[2][DEPTH * STRIDE_B];

    int thread = threadIdx.x, tn = thread % (TILE_N / PER_N), tm = thread / (TILE_N / PER_N);
    int m0 = blockIdx.x * TILE_M, k0 = blockIdx.y * TILE_N;
    int group = blockIdx.z / shares, share = blockIdx.z % shares;
    int pixels = IMAGES * OUT_H * OUT_W;
    int begin = share * pixels_per_share, end = min(begin + pixels_per_share, pixels);

    Tap tap[LOADS_A];
    bool row_there[LOADS_A];
#pragma unroll
    for (int l = 0; l < LOADS_A; l++) {
        int unit = thread + l * THREADS, d = m0 + unit % ROW_PACKS * VECTOR_X;
        row_there[l] = unit < UNITS_A && d < depth;
        tap[l] = taps[row_there[l] ? d / VECTOR_X : 0];
    }

    Pack<VECTOR_X> next_a[LOADS_A];
    Pack<VECTOR_W> next_b[LOADS_B];
    REAL sum[PER_M][PER_N];
#pragma unroll
    for (int m = 0; m < PER_M; m++)
#pragma unroll
        for (int n = 0; n < PER_N; n++) sum[m][n] = 0;

    auto fetch = [&](int p0) {
#pragma unroll
        for (int l = 0; l < LOADS_A; l++) {
            int p = p0 + (thread + l * THREADS) / ROW_PACKS;
            int n = p / (OUT_H * OUT_W), r = p / OUT_W % OUT_H * STRIDE_H, s = p % OUT_W * STRIDE_W;
            bool there = row_there[l] && p < end && (unsigned)(r + tap[l].row) < (unsigned)HEIGHT &&
                         (unsigned)(s + tap[l].column) < (unsigned)WIDTH;
            if (there)
                next_a[l] = load<VECTOR_X>(x + PIXEL(n, r, s) + group * GROUP_CHANNELS + tap[l].offset);
            else
#pragma unroll
                for (int e = 0; e < VECTOR_X; e++) next_a[l].v[e] = 0;
        }
#pragma unroll
        for (int l = 0; l < LOADS_B; l++) {
            int unit = thread + l * THREADS, p = p0 + unit / (TILE_N / VECTOR_W);
            int k = k0 + unit % (TILE_N / VECTOR_W) * VECTOR_W;
            if (unit < UNITS_B && p < end && k < GROUP_FILTERS)
                next_b[l] = load<VECTOR_W>(dy + (long long)p * FILTERS + group * GROUP_FILTERS + k);
            else
#pragma unroll
                for (int e = 0; e < VECTOR_W; e++) next_b[l].v[e] = 0;
        }
    };
    auto keep = [&](int half) {
#pragma unroll
        for (int l = 0; l < LOADS_A; l++) {
            int unit = thread + l * THREADS, d = unit / ROW_PACKS, m = unit % ROW_PACKS * VECTOR_X;
            if (unit < UNITS_A) store<VECTOR_X>(&a[half][d * STRIDE_A + m], next_a[l]);
        }
#pragma unroll
        for (int l = 0; l < LOADS_B; l++) {
            int unit = thread + l * THREADS, d = unit / (TILE_N / VECTOR_W),
                k = unit % (TILE_N / VECTOR_W) * VECTOR_W;
            if (unit < UNITS_B) store<VECTOR_W>(&b[half][d * STRIDE_B + k], next_b[l]);
        }
    };

    int half = 0;
    if (begin < end) {
        fetch(begin);
        keep(0);
    }
    __syncthreads();
    for (int p0 = begin; p0 < end; p0 += DEPTH) {
        bool more = p0 + DEPTH < end;
        if (more) fetch(p0 + DEPTH);
        multiply(a[half], b[half], tm, tn, sum);
        half ^= 1;
        if (more) keep(half);
        __syncthreads();
    }

#pragma unroll
    for (int i = 0; i < PER_M; i++) {
        int d = m0 + ROW_OF(tm, i);
        if (d >= depth) continue;
        REAL *out = partial + ((long long)share * depth + d) * FILTERS + group * GROUP_FILTERS;
        write_row(out, sum[i], nullptr, 0, k0, tn, GROUP_FILTERS);
    }
}
