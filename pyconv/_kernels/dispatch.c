/* dispatch.c: finds out which compiled instruction sets this processor runs, and gives the kernels of one. */
#include "plan.h"

#include <string.h>

extern const kernels kernels_baseline_f32, kernels_baseline_f64;
#if defined(__x86_64__)
extern const kernels kernels_avx2_f32, kernels_avx2_f64;
extern const kernels kernels_avx512vl_f32, kernels_avx512vl_f64;
extern const kernels kernels_avx512_f32, kernels_avx512_f64;
#endif

const char *pyconv_isa_name(int isa) {
    static const char *const names[ISA_COUNT] = {"baseline", "avx2", "avx512vl", "avx512"};
    return names[isa];
}

/* Every feature that the pragma of the isa_*.c names. libgcc's check includes the operating system's support.
 */
int pyconv_isa_available(int isa) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (isa == ISA_AVX2) return avx2;
    if (isa == ISA_AVX512 || isa == ISA_AVX512VL)
        return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#endif
    return isa == ISA_BASELINE;
}

/* Whether this is Zen 4: AMD's family 25 with AVX-512. */
int pyconv_halves_vectors(void) {
#if defined(__x86_64__) &&                                                                                   \
    ((defined(__clang__) && __clang_major__ >= 13) || (!defined(__clang__) && __GNUC__ >= 11))
    return pyconv_isa_available(ISA_AVX512) && __builtin_cpu_is("amdfam19h");
#else
    return 0;
#endif
}

int pyconv_isa_best(void) {
    int isa = ISA_COUNT - 1;
    while (!pyconv_isa_available(isa)) isa--;
    return isa;
}

const kernels *pyconv_kernels(int isa, int is_double) {
#if defined(__x86_64__)
    if (isa == ISA_AVX512) return is_double ? &kernels_avx512_f64 : &kernels_avx512_f32;
    if (isa == ISA_AVX512VL) return is_double ? &kernels_avx512vl_f64 : &kernels_avx512vl_f32;
    if (isa == ISA_AVX2) return is_double ? &kernels_avx2_f64 : &kernels_avx2_f32;
#endif
    (void)isa;
    return is_double ? &kernels_baseline_f64 : &kernels_baseline_f32;
}

const algorithm *pyconv_algorithm(const kernels *table, const char *name) {
    const algorithm *found = table->algorithms;
    while (found->name && strcmp(found->name, name) != 0) found++;
    return found->name ? found : NULL;
}
