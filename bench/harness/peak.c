/* peak.c: the most multiply-adds that one thread of this machine can do.

       a[i] = a[i] * m + c      for 12 independent vectors a[i], all in registers

   Nothing is loaded or stored in the loop: its rate is the machine's fused multiply-add peak in float32, and
   a kernel's share of it says how far the kernel is from the machine rather than from another library.
   Compiled and called by peak.py; GCC and Clang contract the expression to one FMA by default. */

/* Named vectors, not an array: an array that is indexed at the end would live in memory throughout. */
#define EACH(DO) DO(a0) DO(a1) DO(a2) DO(a3) DO(a4) DO(a5) DO(a6) DO(a7) DO(a8) DO(a9) DO(a10) DO(a11)
#define START(a) vector a = shift + (start += 1);
#define STEP(a)  a = a * scale + shift;
#define KEEP(a)  __asm__ volatile("" : "+" REGISTER(a)); /* the compiler may not foresee the value */
#define ADD(a)   total += a;

#define PEAK(NAME, BYTES, TARGET)                                                                            \
    TARGET double NAME(long rounds, float m, float c) {                                                      \
        typedef float vector __attribute__((vector_size(BYTES)));                                            \
        vector scale = (vector){0} + m, shift = (vector){0} + c, total = {0};                                \
        float start = 0;                                                                                     \
        EACH(START)                                                                                          \
        for (long round = 0; round < rounds; round++) {                                                      \
            EACH(STEP)                                                                                       \
            EACH(KEEP)                                                                                       \
        }                                                                                                    \
        EACH(ADD)                                                                                            \
        return (double)total[0];                                                                             \
    }                                                                                                        \
    const long NAME##_flops_a_round = 2L * 12 * (BYTES / sizeof(float));

#if defined(__x86_64__)
#define REGISTER "v"
PEAK(peak_avx512, 64, __attribute__((target("avx512f"))))
#undef REGISTER
#define REGISTER "x"
PEAK(peak_avx2, 32, __attribute__((target("avx2,fma"))))
PEAK(peak_baseline, 16, )
int peak_available(int isa) {
    __builtin_cpu_init();
    return isa == 2   ? __builtin_cpu_supports("avx512f") != 0
           : isa == 1 ? __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")
                      : 1;
}
#else
#define REGISTER "w"
PEAK(peak_baseline, 16, )
int peak_available(int isa) {
    return isa == 0;
}
#endif
