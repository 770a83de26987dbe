#pragma once
// What every kernel file uses. REAL, float or double, comes from the compiler's command line.

// Dynamic shared memory, aligned to 16 bytes, because that many are read from it at once.
#ifndef DYNAMIC_SHARED
#define DYNAMIC_SHARED(type, name) extern __shared__ __align__(16) type name[]
#endif

// Several consecutive numbers that are read or written at once, up to 16 bytes: a thread's widest access.
template <int COUNT> struct __align__(COUNT * sizeof(REAL) < 16 ? COUNT * sizeof(REAL) : 16) Pack {
    REAL v[COUNT];
};

template <int COUNT> __device__ __forceinline__ Pack<COUNT> load(const REAL *from) {
    return *(const Pack<COUNT> *)from;
}

template <int COUNT> __device__ __forceinline__ void store(REAL *to, const Pack<COUNT> &pack) {
    *(Pack<COUNT> *)to = pack;
}

// max(x, 0); NaN stays NaN, as in the reference.
__device__ __forceinline__ REAL relu_of(REAL x) {
    return x < 0 ? REAL(0) : x;
}

// Number of this thread over the whole grid, for kernels with one thread an element.
__device__ __forceinline__ long long element() {
    return (long long)blockIdx.x * blockDim.x + threadIdx.x;
}
