/* isa.h: compiles every kernel body for one instruction set, in both precisions.

   The including isa_*.c defines ISA (the suffix of every name), VECTOR_BYTES and REGISTERS (how many vector
   registers there are), MASKS where a load or store can be masked, and switches the compiler to the
   instruction set. Bodies see

       REAL            float or double
       LANES           how many of them a vector holds
       vec, ivec       the vector, and the integer vector that its comparisons give
       NAME(f)         f with the suffix of instruction set and precision, as in f_avx2_f32

   and are included once per precision, so they have no include guards and name everything static through
   NAME. README.md says what a new kernel needs.

   Where a set needs less than everything, its isa_*.c says so before (docs/decisions/0051):

       CONVOLUTION_ONLY   1: the kernels of the table alone
       SINGLE_ONLY        1: float32 alone
       HAS_ROWS           0: without winograd_1d/
*/
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "cost.h"
#include "plan.h"

#ifndef MASKS
#define MASKS 0
#endif
#ifndef CONVOLUTION_ONLY
#define CONVOLUTION_ONLY 0
#endif
#ifndef SINGLE_ONLY
#define SINGLE_ONLY 0
#endif
#ifndef HAS_ROWS
#define HAS_ROWS 1
#endif
#if VECTOR_BYTES >= 32 /* SSE and NEON do not permute by an index, which is slow then */
#define HAS_GROUPED 1
#else
#define HAS_GROUPED 0
#endif

#define PASTE3(a, b, c) a##_##b##_##c
#define PASTE(a, b, c)  PASTE3(a, b, c)
#define NAME(f)         PASTE(f, ISA, PRECISION)
#define INLINE          static inline __attribute__((always_inline))
/* SHUFFLE: picks lanes of a and b by number; the lanes of b are counted on from those of a. */
#if defined(__clang__)
#define UNROLL             _Pragma("unroll")
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define UNROLL             _Pragma("GCC unroll 16")
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (ivec){__VA_ARGS__})
#endif

#define LARGE   (8 << 20) /* a result of so many bytes does not fit in a core's share of the caches */
#define FETCHED (2 << 20) /* an input of so many bytes is fetched before it is read */
#define APART(pointer)                                                                                       \
    __asm__("" : "+r"(pointer)) /* no instruction: the compiler no longer knows where the value came from */

/* No instruction either: the compiler must have the vector in a register here. */
#if defined(__x86_64__)
#define IN_REGISTER(vector) __asm__("" : "+v"(vector))
#elif defined(__aarch64__)
#define IN_REGISTER(vector) __asm__("" : "+w"(vector))
#else
#define IN_REGISTER(vector)
#endif

#define REAL      float
#define INTEGER   int
#define PRECISION f32
#define LANES     (VECTOR_BYTES / 4)
#include "bodies.h"
#undef REAL
#undef INTEGER
#undef PRECISION
#undef LANES

#if !SINGLE_ONLY
#define REAL      double
#define INTEGER   long long
#define PRECISION f64
#define LANES     (VECTOR_BYTES / 8)
#include "bodies.h"
#endif
