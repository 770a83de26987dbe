#include "common.cuh"
// Softmax and cross-entropy of one example a block:
//
//   loss = log(sum over j of exp(z[j] - max)) - (z[label] - max),     dz[j] = scale (softmax(z)[j] - (j ==
//   label))
#define THREADS 32

// The largest, or the sum, of every thread's value, for all of them.
__device__ __forceinline__ REAL over_block(REAL value, bool largest, REAL *shared) {
    __syncthreads(); // shared is free
    shared[threadIdx.x] = value;
    __syncthreads(); // all have written
    for (int step = THREADS / 2; step > 0; step /= 2) {
        if (threadIdx.x < step) {
            REAL a = shared[threadIdx.x], b = shared[threadIdx.x + step];
            shared[threadIdx.x] = !largest ? a + b : a > b || a != a ? a : b;
        }
        __syncthreads(); // this level is whole
    }
    return shared[0];
}

extern "C" __global__ void __launch_bounds__(THREADS)
    softmax_cross_entropy(const REAL *__restrict__ z, const long long *__restrict__ labels,
                          REAL *__restrict__ losses, REAL *__restrict__ dz, int classes, REAL scale) {
    __shared__ REAL shared[THREADS];
    const REAL *row = z + (long long)blockIdx.x * classes;
    REAL *out = dz + (long long)blockIdx.x * classes;
    int label = (int)labels[blockIdx.x];

    REAL most = row[0];
    for (int j = threadIdx.x; j < classes; j += THREADS)
        most = row[j] > most || row[j] != row[j] ? row[j] : most;
    most = over_block(most, true, shared);
    REAL sum = 0;
    for (int j = threadIdx.x; j < classes; j += THREADS) sum += exp(row[j] - most);
    sum = over_block(sum, false, shared);
    for (int j = threadIdx.x; j < classes; j += THREADS)
        out[j] = (exp(row[j] - most) / sum - (j == label ? REAL(1) : REAL(0))) * scale;
    if (threadIdx.x == 0) losses[blockIdx.x] = log(sum) - (row[label] - most);
}
