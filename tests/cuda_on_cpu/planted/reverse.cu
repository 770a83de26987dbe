// A correct kernel, and what the harness must find when a line of it is wrong. Each block reverses THREADS
// numbers through shared memory; BUG plants one mistake.
extern "C" __global__ void reverse(const float *x, float *y, int size) {
    __shared__ float tile[THREADS];
    int t = threadIdx.x, first = blockIdx.x * THREADS;
#if BUG == 2 // an off-by-one tile: the last thread writes one past its end
    int at = t + 1;
#else
    int at = t;
#endif
#if BUG == 3 // no bound on the last block
    tile[at] = x[first + t];
#else
    tile[at] = first + t < size ? x[first + t] : 0.0f;
#endif
#if BUG != 1 // a missing barrier
    __syncthreads();
#endif
    float value = tile[THREADS - 1 - t];
#if BUG == 4 // a race: neighbours write the same place without a barrier between
    tile[0] = value;
    __syncthreads();
    value = t == 0 ? tile[0] : value;
#endif
#if BUG == 5 // a barrier that only some threads reach
    if (t >= THREADS / 2) return;
    __syncthreads();
#endif
#if BUG == 6 // a signed overflow
    int large = 2147483647 - THREADS + t + 2;
    value += large < 0 ? 1.0f : 0.0f;
#endif
    if (first + THREADS - 1 - t < size || BUG == 7) y[first + t] = value; // 7: writes past the output
}
