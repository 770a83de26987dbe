"""The declarations of the kernels in C (`_kernels/plan.h` explains them), and of the functions that run them."""

cdef extern from "plan.h" nogil:
    ctypedef struct conv:
        ptrdiff_t n, h, w, c, k, kh, kw, sh, sw, pt, pb, pl, pr, dh, dw, groups, oh, ow

    ctypedef struct pool:
        ptrdiff_t n, h, w, c, kh, kw, sh, sw, pt, pb, pl, pr, oh, ow

    enum:
        MAX_STAGES
        ISA_AVX512VL
        ISA_AVX512
        ISA_COUNT

    ctypedef struct plan
    ctypedef struct kernel
    ctypedef void (*run_fn)(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch) noexcept nogil
    ctypedef struct plan:
        conv g
        pool q
        ptrdiff_t rows, channels
        double eps
        int relu, reused, narrow, guarded, keep
        int stages, prepared
        ptrdiff_t items[4]
        size_t shared_bytes, scratch_bytes
        double cycles
        run_fn run
        const kernel *kernel
        const void *a
        const void *b
        const void *bias
        const void *c
        const void *d
        const void *e
        void *out
        void *out2
        void *out3
        ptrdiff_t[96] own

    ctypedef int (*plan_fn)(plan *p) noexcept nogil

    enum:
        DIRECT

    ctypedef enum operation:
        FORWARD
        INPUT_GRAD
        WEIGHT_GRAD

    ctypedef struct kernel:
        const char *name
        int algorithm, operations
        int (*can)(const plan *p, int what) noexcept nogil
        void (*estimate)(plan *p, int what) noexcept nogil
        double worth
        const char *instead
        void (*tile)(const plan *p, ptrdiff_t *size) noexcept nogil
        const char *unit
        const char *lanes
        const char *does
        const char *file

    ctypedef struct kernels:
        const kernel *table
        plan_fn max_pool, max_pool_grad, avg_pool, avg_pool_grad
        plan_fn relu, relu_grad, scale_shift, add, bias_grad
        plan_fn softmax, batch_norm, batch_norm_grad, batch_norm_inference
        plan_fn pooled_weight_grad
        plan_fn few_examples
        plan_fn sparse_forward, sparse_input_grad, sparse_weight_grad

    const char *pyconv_isa_name(int isa)
    int pyconv_isa_available(int isa)
    int pyconv_isa_best()
    int pyconv_vector_bytes(int isa)
    int pyconv_halves_vectors()
    const kernels *pyconv_kernels(int isa, int is_double)
    const char *pyconv_algorithm(int number)
    int pyconv_kernels_of(const char *algorithm)
    const kernel *pyconv_choose(const kernels *all, const char *algorithm, int what, plan *p, double *cycles)

cdef extern from "subnormals.h" nogil:
    ctypedef unsigned long long float_control
    float_control pyconv_flush_subnormals()
    void pyconv_set_control(float_control control)

cdef int settings_number() noexcept
cdef void count_settings() noexcept
cdef const kernels *kernels_for(array)
cdef const kernels *narrower_kernels_for(array)
cdef double narrower_limit(const plan *p, int what, array) noexcept
cdef const kernel *choose(const kernels *among, const char *algorithm, int what, plan *p, double *cycles) noexcept
cdef void *take_workspace(size_t size, size_t *got) except? NULL
cdef void give_back(void *memory, size_t size) noexcept
cdef int threads_for(double cycles, ptrdiff_t items, int threads) noexcept nogil
cdef int threads_worth(double cycles, ptrdiff_t items, int threads) noexcept nogil
cdef int run_plan(const plan *p, int threads) except -1
cdef void *pointer(array) except? NULL
cdef result(out, shape, dtype)
