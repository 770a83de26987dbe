/* isa_avx512vl.c: AVX-512 with 32 registers of 256 bits, for arrays too narrow for 512:
   docs/decisions/0013-half-as-wide-vectors.md. */
#if defined(__x86_64__)
#define ISA              avx512vl
#define VECTOR_BYTES     32
#define REGISTERS        32
#define MASKS            1
#define CONVOLUTION_ONLY 1
#define SINGLE_ONLY      1
#include <immintrin.h> /* as in isa_avx512.c */
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl"))),         \
                             apply_to = function)
#else
#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=256")
#endif
#include "isa.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int pyconv_nothing_to_compile; /* ISO C forbids an empty translation unit */
#endif
