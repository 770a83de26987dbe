/* plan.h: what every compiled algorithm looks like from outside.

   An algorithm is a plan: a few stages, each a number of independent items.

       fill the operands and the geometry of a plan p
       if (pyconv_choose(kernels, "auto", FORWARD, &p, NULL))   stages, items and memory are now known
           for stage = 0 .. p.stages - 1                  one after the other
               for item = 0 .. p.items[stage] - 1         in any order, on any thread
                   p.run(&p, stage, item, shared, scratch)

   `shared` (p.shared_bytes, one for all items) carries data from stage to stage; `scratch` (p.scratch_bytes)
   belongs to the thread. Both are aligned to a vector and hold garbage at first. Items of one stage never
   write the same memory, except vectors of filters that overlap, which write the same bits
   (direct_filters.h). Nothing else runs in threads: _plans.pyx runs the items under prange, and the serial
   backend is the same loop on one thread. How the work is divided depends on the shapes only, never on the
   number of threads; so the bits of the result do not depend on the threads either.

   Arrays are C-contiguous, NHWC; filters are (kh, kw, C / groups, K). `conv` has the fields of
   shapes.ConvGeometry.
*/
#ifndef PYCONV_PLAN_H
#define PYCONV_PLAN_H

#include <stddef.h>

typedef struct conv {
    ptrdiff_t n, h, w, c;     /* images, their height, width and channels */
    ptrdiff_t k, kh, kw;      /* filters, their height and width */
    ptrdiff_t sh, sw;         /* stride */
    ptrdiff_t pt, pb, pl, pr; /* zero padding: top, bottom, left, right */
    ptrdiff_t dh, dw;         /* dilation */
    ptrdiff_t groups;         /* divides c and k */
    ptrdiff_t oh, ow;         /* output height and width */
} conv;

typedef struct pool {
    ptrdiff_t n, h, w, c;
    ptrdiff_t kh, kw, sh, sw, pt, pb, pl, pr, oh, ow;
} pool;

enum { MAX_STAGES = 4, OWN_NUMBERS = 96 };

typedef struct plan plan;
typedef struct kernel kernel;
typedef void (*run_fn)(const plan *p, int stage, ptrdiff_t item, void *shared, void *scratch);

struct plan {
    /* Filled by the caller before the plan function is called; each operation reads those it needs. */
    conv g;
    pool q;
    ptrdiff_t rows, channels; /* the size of a matrix, for operations that are not on images */
    double eps;
    int relu;    /* forward: apply max(0, .) after the bias; max_pool_grad, bias_grad: apply its gradient */
    int reused;  /* the last stage runs for other images too, so the stages before it read the filters only */
    int narrow;  /* max pooling: indices are bytes (places in the window), not int32 (places in the image) */
    int guarded; /* convolution: results of transforms that may be off are summed again (guard/guard.h) */
    int keep; /* what is prepared stays in `shared` for other runs: then a kernel prepares all that it can */

    /* Filled by the plan function. */
    int stages;
    int prepared; /* so many of the first stages read parameters only: filters, bias, statistics */
    ptrdiff_t items[MAX_STAGES];
    size_t shared_bytes, scratch_bytes;
    double cycles; /* estimate of the work on one thread: by the kernel's plan function */
    run_fn run;
    const kernel *kernel;       /* of a convolution: the line of the table */
    ptrdiff_t own[OWN_NUMBERS]; /* the algorithm's numbers: a struct of ptrdiff_t, laid over it */

    /* Operands, needed by run only. Convolutions use
                      a           b           bias         out
       forward        x           weight      or NULL      y
       input grad     grad_out    weight      NULL         grad of x
       weight grad    x           grad_out    NULL         grad of weight
       The other operations say in their files what they use. */
    const void *a, *b, *bias, *c, *d, *e;
    void *out, *out2, *out3;
};

/* Returns 1 and completes the plan, or 0 if the algorithm does not do this geometry. It must not read the
 * operands. */
typedef int (*plan_fn)(plan *p);

typedef enum { FORWARD, INPUT_GRAD, WEIGHT_GRAD } operation;

/* The algorithms that a kernel belongs to; a user may ask for one by name (dispatch.c). */
enum { DIRECT = 1, WINOGRAD_2X2 = 2, WINOGRAD_3X3 = 4, WINOGRAD_4X4 = 8, WINOGRAD_1D = 16 };

/* One line of the table of convolution's kernels (table.h). */
struct kernel {
    const char *name;                    /* no other line has it */
    int algorithm;                       /* DIRECT ... */
    int operations;                      /* 1 << FORWARD, and so on, added up */
    int (*can)(const plan *p, int what); /* whether it does this geometry; `what` is the operation. NULL: the
                                            instruction set does without this kernel */
    void (*estimate)(plan *p, int what); /* completes the plan but for `run`, with its cycles */
    run_fn run;
    double worth; /* it replaces a line before it if so many times its cycles are fewer than that line's */
    const char *instead;                      /* the only line that it replaces; or NULL */
    void (*tile)(const plan *p, ptrdiff_t *); /* of a complete plan: the two sizes of a tile, `unit` */
    const char *unit, *lanes, *does, *file;   /* for readers: what is tiled, what the lanes hold, and so on */
};

/* Everything that is compiled once per instruction set and precision. */
typedef struct kernels {
    const kernel *table;                                           /* of convolution; ends with a NULL name */
    plan_fn max_pool, max_pool_grad, avg_pool, avg_pool_grad;      /* pool.h */
    plan_fn relu, relu_grad, scale_shift, add, bias_grad;          /* elementwise.h */
    plan_fn softmax, batch_norm, batch_norm_grad;                  /* softmax.h, batch_norm.h */
    plan_fn batch_norm_inference;                                  /* elementwise.h */
    plan_fn pooled_weight_grad;                                    /* pooled_weight_grad.h */
    plan_fn few_examples;                                          /* few_examples.h */
    plan_fn sparse_forward, sparse_input_grad, sparse_weight_grad; /* sparse_dense.h */
} kernels;

/* dispatch.c */
enum { ISA_BASELINE, ISA_AVX2, ISA_AVX512VL, ISA_AVX512, ISA_COUNT };
const char *pyconv_isa_name(int isa);
int pyconv_isa_available(int isa); /* compiled, and this processor has every feature that it needs */
int pyconv_isa_best(void);
int pyconv_vector_bytes(int isa);
int pyconv_halves_vectors(void); /* this processor takes two cycles for an operation of 512 bits */
const kernels *pyconv_kernels(int isa, int is_double);
const char *pyconv_algorithm(int number); /* the names of the algorithms, one after the other; then NULL */
int pyconv_kernels_of(
    const char *algorithm); /* DIRECT ..., added up; all for "auto"; 0 if there is no such */

/* Completes p with the kernel of `algorithm` ("auto": any; or the name of one line) that is estimated to take
   fewest cycles, and returns it; NULL if none can. `cycles`, unless it is NULL, receives the estimate of each
   line of the table, or -1. */
const kernel *pyconv_choose(const kernels *all, const char *algorithm, int what, plan *p, double *cycles);

#endif
