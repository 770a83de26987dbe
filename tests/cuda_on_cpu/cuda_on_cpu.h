// Enough of CUDA C++ for g++ to compile pyconv's .cu files unchanged and for a CPU to run them.
//
// Every CUDA thread of a block is a fiber with a stack of its own. Fibers run one at a time, each until it
// meets
// __syncthreads() or returns; the scheduler (runtime.cpp) then goes on with the next one, in natural,
// reversed or shuffled order. So a kernel that lacks a barrier reads what another thread has not written yet,
// which is NaN.
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct uint3 {
    unsigned x, y, z;
};
typedef uint3 dim3;

struct CudaThread {
    uint3 thread, block, block_dim, grid_dim;
};

extern "C" {
extern CudaThread *cuda_running;  // the fiber that runs now
extern void *cuda_dynamic_shared; // dynamic shared memory of the block that runs now
void cuda_barrier(void);
void cuda_failed(const char *what);
}

#if defined(__SANITIZE_THREAD__)
// The pointer changes hands without a lock, on purpose: the race detector must not look at it.
__attribute__((no_sanitize("thread"), noinline)) static CudaThread *cuda_now() {
    return cuda_running;
}
__attribute__((no_sanitize("thread"), noinline)) static void *cuda_shared_now() {
    return cuda_dynamic_shared;
}
#else
static inline CudaThread *cuda_now() {
    return cuda_running;
}
static inline void *cuda_shared_now() {
    return cuda_dynamic_shared;
}
#endif

#define threadIdx (cuda_now()->thread)
#define blockIdx  (cuda_now()->block)
#define blockDim  (cuda_now()->block_dim)
#define gridDim   (cuda_now()->grid_dim)

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __restrict__ __restrict
// One section of its own, so that the scheduler can fill all of it with NaN before each block.
#define __shared__                 static __attribute__((section("cuda_shared")))
#define DYNAMIC_SHARED(type, name) type *name = (type *)cuda_shared_now()
#ifndef PLANTED_NO_BARRIER
#define __syncthreads() cuda_barrier()
#else // without the barrier of that line, or of any line if it is 0
#define __syncthreads() (PLANTED_NO_BARRIER == 0 || PLANTED_NO_BARRIER == __LINE__ ? (void)0 : cuda_barrier())
#endif

template <class T> static inline T __ldg(const T *pointer) {
    return *pointer;
}
template <class T> static inline T min(T a, T b) {
    return b < a ? b : a;
}
template <class T> static inline T max(T a, T b) {
    return a < b ? b : a;
}
static inline uint64_t __umul64hi(uint64_t a, uint64_t b) {
    return (uint64_t)((unsigned __int128)a * b >> 64);
}

// A clock that ticks each time that it is read.
static inline long long clock64() {
    static long long ticks;
    return ticks += 100;
}

// ---- calling a kernel whose arguments are known as addresses only
// -----------------------------------------------

template <size_t... I> struct CudaIndices {};
template <size_t N, size_t... I> struct CudaCount : CudaCount<N - 1, N - 1, I...> {};
template <size_t... I> struct CudaCount<0, I...> {
    typedef CudaIndices<I...> type;
};
template <class T> struct CudaPlain {
    typedef T type;
};
template <class T> struct CudaPlain<const T> {
    typedef T type;
};

template <class... A, size_t... I>
static inline void cuda_spread(void (*kernel)(A...), void **args, CudaIndices<I...>) {
    kernel(*(typename CudaPlain<A>::type *)args[I]...);
}
template <class... A> static inline void cuda_apply(void (*kernel)(A...), void **args) {
    cuda_spread(kernel, args, typename CudaCount<sizeof...(A)>::type());
}
template <class... A> constexpr unsigned cuda_arity(void (*)(A...)) {
    return sizeof...(A);
}

// Sizes and alignments of a kernel's parameters, which tell how a driver packs them.
template <class... A> struct CudaLayout {
    static constexpr size_t size[sizeof...(A) + 1] = {sizeof(A)..., 0},
                                                align[sizeof...(A) + 1] = {alignof(A)..., 0};
};
template <class... A> constexpr const size_t *cuda_sizes(void (*)(A...)) {
    return CudaLayout<A...>::size;
}
template <class... A> constexpr const size_t *cuda_aligns(void (*)(A...)) {
    return CudaLayout<A...>::align;
}

// What the wrapper file around a .cu file exports for each of its kernels.
#define CUDA_EXPORT(name)                                                                                    \
    static void cuda_body_##name(void **args) {                                                              \
        cuda_apply(name, args);                                                                              \
    }                                                                                                        \
    __attribute__((constructor)) static void cuda_enter_##name() {                                           \
        cuda_register(#name, cuda_body_##name, cuda_arity(name), cuda_sizes(name), cuda_aligns(name));       \
    }
extern "C" void cuda_register(const char *name, void (*body)(void **), unsigned arguments,
                              const size_t *sizes, const size_t *aligns);
