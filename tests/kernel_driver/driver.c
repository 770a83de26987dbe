/* driver.c: runs kernels without Python, so that they can run where it does not: under an emulator of another
   processor, under valgrind, or with sanitizers.

       driver REQUESTS RESULTS [poison]

   REQUESTS is a sequence of `request`, each followed by its inputs; RESULTS receives for each an int64, 1,
   and the outputs, or 0 where the algorithm does not do the geometry. Every array is an allocation of its own
   and exactly as large as it has to be: whatever reads or writes past one is seen by the tools above. With
   `poison`, memory that holds garbage at first holds NaN; without, valgrind knows that it was never written.
*/
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan.h"

enum { INPUTS = 6, OUTPUTS = 3, CONVOLUTIONS = 3 };

typedef struct request {
    char algorithm[24];                /* of a convolution, or one kernel of the table */
    int64_t isa, is_double, operation; /* `operation`: forward, input and weight gradient, then the others */
    conv g;
    pool q;
    int64_t rows, channels, relu, narrow, guarded;
    double eps;
    int64_t inputs[INPUTS], outputs[OUTPUTS]; /* bytes; 0: there is none, NULL */
} request;

static int poison;

static void fail(const char *what) {
    fprintf(stderr, "driver: %s\n", what);
    exit(1);
}

/* `alignment` is what the caller of a kernel promises, and no more: the address is no multiple of its double.
 */
static void *allocate(size_t bytes, size_t alignment, void **base) {
    void *memory = NULL;
    if (posix_memalign(&memory, 2 * alignment, bytes + alignment)) fail("out of memory");
    *base = memory;
    memory = (char *)memory + alignment;
    if (poison) memset(memory, 0xFF, bytes);
    return memory;
}

/* Completes the plan; 0 where it cannot be done. */
static int complete(const request *r, plan *p) {
    const kernels *table = pyconv_kernels((int)r->isa, (int)r->is_double);
    if (r->operation < CONVOLUTIONS)
        return pyconv_choose(table, r->algorithm, (int)r->operation, p, NULL) != NULL;
    const plan_fn others[] = {table->max_pool,
                              table->max_pool_grad,
                              table->avg_pool,
                              table->avg_pool_grad,
                              table->relu,
                              table->relu_grad,
                              table->scale_shift,
                              table->bias_grad,
                              table->softmax,
                              table->batch_norm,
                              table->batch_norm_grad,
                              table->pooled_weight_grad,
                              table->sparse_forward,
                              table->sparse_input_grad,
                              table->sparse_weight_grad,
                              table->add,
                              table->batch_norm_inference,
                              table->few_examples};
    return others[r->operation - CONVOLUTIONS](p);
}

/* The items of a stage in reverse, on two scratches in turn: they may run in any order on any thread. */
static void run(const plan *p) {
    void *bases[3], *shared = NULL, *scratch[2] = {NULL, NULL};
    shared = allocate(p->shared_bytes, 64, &bases[0]);
    for (int i = 0; i < 2; i++) scratch[i] = allocate(p->scratch_bytes, 64, &bases[1 + i]);
    for (int stage = 0; stage < p->stages; stage++)
        for (ptrdiff_t item = p->items[stage] - 1; item >= 0; item--)
            p->run(p, stage, item, shared, scratch[item % 2]);
    for (int i = 0; i < 3; i++) free(bases[i]);
}

static void handle(const request *r, FILE *requests, FILE *results) {
    void *inputs[INPUTS] = {NULL}, *outputs[OUTPUTS] = {NULL}, *bases[INPUTS + OUTPUTS] = {NULL};
    const size_t alignment = 8; /* of arrays: that of float64 */
    if (!pyconv_isa_available((int)r->isa)) fail("this processor does not have the instruction set");
    for (int i = 0; i < INPUTS; i++) {
        const size_t bytes = (size_t)r->inputs[i];
        if (bytes == 0) continue;
        inputs[i] = allocate(bytes, alignment, &bases[i]);
        if (fread(inputs[i], 1, bytes, requests) != bytes) fail("a request ends early");
    }
    for (int i = 0; i < OUTPUTS; i++)
        if (r->outputs[i]) outputs[i] = allocate((size_t)r->outputs[i], alignment, &bases[INPUTS + i]);
    plan p;
    memset(&p, 0, sizeof p);
    p.g = r->g, p.q = r->q;
    p.rows = r->rows, p.channels = r->channels, p.eps = r->eps;
    p.relu = (int)r->relu, p.narrow = (int)r->narrow;
    p.guarded = (int)r->guarded;
    p.out2 = outputs[1]; /* max_pool_grad asks for it when it plans */
    const int64_t done = complete(r, &p);
    fwrite(&done, sizeof done, 1, results);
    if (done) {
        p.a = inputs[0], p.b = inputs[1], p.bias = inputs[2];
        p.c = inputs[3], p.d = inputs[4], p.e = inputs[5];
        p.out = outputs[0], p.out2 = outputs[1], p.out3 = outputs[2];
        run(&p);
        for (int i = 0; i < OUTPUTS; i++)
            if (r->outputs[i]) fwrite(outputs[i], 1, (size_t)r->outputs[i], results);
    }
    for (int i = 0; i < INPUTS + OUTPUTS; i++) free(bases[i]);
}

int main(int count, char **arguments) {
    if (count == 2 && strcmp(arguments[1], "isas") == 0) {
        for (int isa = 0; isa < ISA_COUNT; isa++)
            if (pyconv_isa_available(isa)) printf("%s\n", pyconv_isa_name(isa));
        return 0;
    }
    if (count < 3) fail("usage: driver REQUESTS RESULTS [poison], or driver isas");
    poison = count > 3;
    FILE *requests = fopen(arguments[1], "rb"), *results = fopen(arguments[2], "wb");
    if (!requests || !results) fail("cannot open the files");
    request r;
    while (fread(&r, sizeof r, 1, requests) == 1) handle(&r, requests, results);
    fclose(requests);
    return fclose(results) != 0;
}
