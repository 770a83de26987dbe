/* bodies.h: the kernels, and the table of them. */
#include "vector.h"

static const algorithm NAME(algorithms)[] = {
    {NULL, {NULL, NULL, NULL}},
};

const kernels NAME(kernels) = {NAME(algorithms)};

#undef vec
#undef ivec
#undef uvec
