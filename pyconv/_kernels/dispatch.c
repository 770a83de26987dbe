/* dispatch.c: finds out which compiled instruction sets this processor runs, gives the kernels of one, and
   chooses among them: the one loop that compares estimates. */
#include "plan.h"

#include <string.h>

extern const kernels kernels_baseline_f32, kernels_baseline_f64;
#if defined(__x86_64__)
extern const kernels kernels_avx2_f32, kernels_avx2_f64;
extern const kernels kernels_avx512vl_f32;
extern const kernels kernels_avx512_f32, kernels_avx512_f64;
#endif

#if defined(__x86_64__)
/* avx512vl has nothing but convolution in float32: the rest is AVX2's, whose vectors are as wide. */
static kernels narrow_f32;
__attribute__((constructor)) static void put_together(void) {
    narrow_f32 = kernels_avx2_f32;
    narrow_f32.table = kernels_avx512vl_f32.table;
}
#endif

const char *pyconv_isa_name(int isa) {
    static const char *const names[ISA_COUNT] = {"baseline", "avx2", "avx512vl", "avx512"};
    return names[isa];
}

int pyconv_vector_bytes(int isa) {
    return isa == ISA_AVX512 ? 64 : isa == ISA_BASELINE ? 16 : 32;
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
    if (isa == ISA_AVX512VL) return is_double ? &kernels_avx2_f64 : &narrow_f32;
    if (isa == ISA_AVX2) return is_double ? &kernels_avx2_f64 : &kernels_avx2_f32;
#endif
    (void)isa;
    return is_double ? &kernels_baseline_f64 : &kernels_baseline_f32;
}

static const struct {
    const char *name;
    int kernels; /* that belong to it: DIRECT ... */
} algorithms[] = {
    {"direct", DIRECT},
    {"winograd_2x2", WINOGRAD_2X2},
    {"winograd_3x3", WINOGRAD_3X3},
    {"winograd_4x4", WINOGRAD_4X4},
    {"winograd_1d", WINOGRAD_1D},
    {"winograd", WINOGRAD_2X2 | WINOGRAD_3X3 | WINOGRAD_4X4 | WINOGRAD_1D},
    {NULL, 0},
};

const char *pyconv_algorithm(int number) {
    return algorithms[number].name;
}

int pyconv_kernels_of(const char *algorithm) {
    if (strcmp(algorithm, "auto") == 0) return ~0;
    int i = 0;
    while (algorithms[i].name && strcmp(algorithms[i].name, algorithm) != 0) i++;
    return algorithms[i].kernels;
}

/* The operands and the geometry; not `own`, which every kernel fills anew, and which is most of a plan. */
static void begin(plan *p, const plan *from) {
    memcpy(p, from, offsetof(plan, own));
    p->prepared = p->keep = 0;
    memcpy(&p->a, &from->a, sizeof *p - offsetof(plan, a));
}

const kernel *pyconv_choose(const kernels *all, const char *algorithm, int what, plan *p, double *cycles) {
    const int wanted = pyconv_kernels_of(algorithm); /* 0: `algorithm` may be the name of one line */
    plan plans[2], *tried = &plans[0], *best = NULL;
    for (const kernel *k = all->table; k->name; k++) {
        double *const estimate = cycles ? &cycles[k - all->table] : NULL;
        if (estimate) *estimate = -1;
        if (wanted ? !(k->algorithm & wanted) : strcmp(k->name, algorithm) != 0) continue;
        if (!k->can || !(k->operations >> what & 1) || !k->can(p, what)) continue;
        begin(tried, p);
        k->estimate(tried, what);
        if (estimate) *estimate = tried->cycles;
        if (best && k->worth * tried->cycles >= best->cycles) continue;
        if (best && k->instead && strcmp(k->instead, best->kernel->name) != 0) continue;
        best = tried;
        best->kernel = k, best->run = k->run;
        tried = &plans[best == &plans[0]];
    }
    if (!best) return NULL;
    *p = *best;
    return p->kernel;
}
