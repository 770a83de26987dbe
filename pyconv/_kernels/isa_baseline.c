/* isa_baseline.c: the vectors that every processor of an architecture has: SSE2 on x86-64, NEON on 64-bit
 * ARM. */
#define ISA          baseline
#define VECTOR_BYTES 16
#if defined(__aarch64__)
#define REGISTERS 32
#else
#define REGISTERS 16
#endif
#include "isa.h"
