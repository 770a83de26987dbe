#include "common.cuh"
// Softmax and cross-entropy; one block for each example:
//
//   loss = log(sum over j of exp(z[j] - max)) - (z[label] - max),     dz[j] = scale (softmax(z)[j] - (j ==
//   label))
//
// or, if `counts` holds rows (N), hits (N) and smooth (K), as nn/weighting.py makes them,
//
//   loss = hits loss + rows (sum over j of smooth[j] (log(sum) - (z[j] - max))),
//   dz[j] = (hits + rows (sum of smooth)) softmax(z)[j] - hits (j == label) - rows smooth[j]
#define THREADS 32

// The largest of all threads' values, or their sum; every thread gets it.
__device__ __forceinline__ REAL over_block(REAL value, bool largest, REAL *shared) {
    __syncthreads(); // nobody reads `shared` any more
    shared[threadIdx.x] = value;
    __syncthreads(); // all threads have written
    for (int step = THREADS / 2; step > 0; step /= 2) {
        if (threadIdx.x < step) {
            REAL a = shared[threadIdx.x], b = shared[threadIdx.x + step];
            shared[threadIdx.x] = !largest ? a + b : a > b || a != a ? a : b;
        }
        __syncthreads(); // this level is complete
    }
    return shared[0];
}

extern "C" __global__ void __launch_bounds__(THREADS)
    softmax_cross_entropy(const REAL *__restrict__ z, const long long *__restrict__ labels,
                          REAL *__restrict__ losses, REAL *__restrict__ dz, int classes, REAL scale,
                          const REAL *__restrict__ counts) {
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
    if (counts) {
        REAL rows = counts[blockIdx.x], hits = counts[gridDim.x + blockIdx.x];
        const REAL *smooth = counts + 2 * (long long)gridDim.x;
        REAL spread = 0, apart = 0;
        for (int j = threadIdx.x; j < classes; j += THREADS) {
            spread += smooth[j];
            if (smooth[j] != 0) apart += smooth[j] * (log(sum) - (row[j] - most));
        }
        spread = over_block(spread, false, shared);
        apart = over_block(apart, false, shared);
        REAL whole = hits + rows * spread; // 0: the example has no weight, whatever its logits are
        for (int j = threadIdx.x; j < classes; j += THREADS)
            out[j] = whole == 0 ? REAL(0)
                                : whole * (exp(row[j] - most) / sum) - (j == label ? hits : REAL(0)) -
                                      rows * smooth[j];
        if (threadIdx.x == 0)
            losses[blockIdx.x] =
                whole == 0 ? REAL(0) : hits * (log(sum) - (row[label] - most)) + rows * apart;
        return;
    }
    for (int j = threadIdx.x; j < classes; j += THREADS)
        out[j] = (exp(row[j] - most) / sum - (j == label ? REAL(1) : REAL(0))) * scale;
    if (threadIdx.x == 0) losses[blockIdx.x] = log(sum) - (row[label] - most);
}
