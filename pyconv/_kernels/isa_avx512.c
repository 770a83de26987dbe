/* isa_avx512.c: AVX-512 F, BW, DQ and VL (every server since Skylake and Zen 4), 32 registers of 512 bits. */
#if defined(__x86_64__)
#define ISA          avx512
#define VECTOR_BYTES 64
#define REGISTERS    32
#define MASKS        1
#include <immintrin.h> /* masked loads and stores, which the vector extensions cannot express */
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl"))),         \
                             apply_to = function)
#else
#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")
#endif
#include "isa.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int pyconv_nothing_to_compile; /* ISO C forbids an empty translation unit */
#endif
