/* subnormals.h: makes numbers nearer to zero than the least normal one (1.2e-38 in float32, 2.2e-308 in
   float64) count as zero, as operands and as results.

   Processors compute with subnormal numbers in microcode, up to a hundred times slower. The control word
   belongs to the calling thread. It is set before every piece of work, on whichever thread that runs, and put
   back after it, exception flags included. So nothing changes for other libraries. */
#ifndef PYCONV_SUBNORMALS_H
#define PYCONV_SUBNORMALS_H

typedef unsigned long long float_control;

/* The memory clobbers keep loads and stores, and what is computed between them, on their side of this call.
 */
#if defined(__x86_64__)
static inline void pyconv_set_control(float_control control) {
    const unsigned word = (unsigned)control;
    __asm__ volatile("ldmxcsr %0" : : "m"(word) : "memory");
}

static inline float_control pyconv_flush_subnormals(void) {
    unsigned before;
    __asm__ volatile("stmxcsr %0" : "=m"(before) : : "memory");
    pyconv_set_control(before | 0x8040); /* flush to zero: results; denormals are zeros: operands */
    return before;
}
#elif defined(__aarch64__)
static inline void pyconv_set_control(float_control control) {
    __asm__ volatile("msr fpcr, %0" : : "r"(control) : "memory");
}

static inline float_control pyconv_flush_subnormals(void) {
    float_control before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before) : : "memory");
    pyconv_set_control(before | 1ull << 24); /* FZ: operands and results */
    return before;
}
#else /* the control word of this processor is not known here: subnormal numbers are kept */
static inline void pyconv_set_control(float_control control) {
    (void)control;
}

static inline float_control pyconv_flush_subnormals(void) {
    return 0;
}
#endif

#endif
