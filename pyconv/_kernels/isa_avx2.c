/* isa_avx2.c: AVX2 with FMA, 16 registers of 256 bits. */
#if defined(__x86_64__)
#define ISA          avx2
#define VECTOR_BYTES 32
#define REGISTERS    16
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
#include "isa.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int pyconv_nothing_to_compile; /* ISO C forbids an empty translation unit */
#endif
