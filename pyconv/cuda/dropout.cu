#include "common.cuh"
// Dropout. Its mask is a function of (seed, step, layer, example) only, the same as on the CPU, bit for bit:
// NumPy's Philox 4x64 with 10 rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011),
// whose counter is set for each example. One count gives four 64-bit numbers, that is sixteen 16-bit numbers,
// one for each number of the layer.
struct Four {
    unsigned long long v[4];
};

__device__ __forceinline__ Four philox(Four counter, unsigned long long key0, unsigned long long key1) {
    for (int round = 0; round < 10; round++) {
        const unsigned long long m0 = 0xD2E7470EE14C6C93ull, m1 = 0xCA5A826395121157ull;
        unsigned long long high0 = __umul64hi(m0, counter.v[0]), low0 = m0 * counter.v[0];
        unsigned long long high1 = __umul64hi(m1, counter.v[2]), low1 = m1 * counter.v[2];
        counter = {{high1 ^ counter.v[1] ^ key0, low1, high0 ^ counter.v[3] ^ key1, low0}};
        key0 += 0x9E3779B97F4A7C15ull;
        key1 += 0xBB67AE8584CAA73Bull;
    }
    return counter;
}

// One thread for 16 numbers: factor = scale where the number is kept, else 0; y = factor x. y may be x.
extern "C" __global__ void dropout(const REAL *x, REAL *y, REAL *__restrict__ factor, unsigned long long seed,
                                   unsigned long long stream, unsigned long long step,
                                   unsigned long long layer, unsigned long long first_count, long long size,
                                   int examples, int threshold, REAL scale) {
    long long counts = (size + 15) / 16, e = element();
    if (e >= counts * examples) return;
    // NumPy increments the counter before it draws.
    Four counter = {{first_count + e + 1, 0, layer, step}};
    if (counter.v[0] == 0) counter.v[1] = 1;
    Four drawn = philox(counter, seed, stream);
    long long example = e / counts, start = e % counts * 16;
    for (int i = 0; i < 16 && start + i < size; i++) {
        int number = (int)(drawn.v[i / 4] >> (i % 4 * 16) & 0xffff);
        REAL keep = number >= threshold ? scale : REAL(0);
        long long at = example * size + start + i;
        factor[at] = keep;
        y[at] = x[at] * keep;
    }
}
