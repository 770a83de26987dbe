/* bodies.h: includes every kernel of one instruction set and precision. */
#include "vector.h"
#include "winograd_numbers.h" /* how to cut */
#include "transpose.h"

#include "direct/tile.h"
#include "direct/dot.h"
#include "region.h"
#include "apart.h"
#include "axis.h"
#include "weight_grad/literal.h"
#include "depthwise/depthwise.h"
#include "depthwise/depthwise_few.h"
#include "depthwise/depthwise_weight_grad.h"
#include "direct/plane.h"
#include "direct/direct_filters.h"
#include "direct/direct_inside.h"
#include "direct/direct.h"
#if HAS_GROUPED
#include "direct/grouped.h"
#endif
#include "direct/spread.h"
#include "weight_grad/outer.h"
#include "weight_grad/shifted.h"
#include "weight_grad/run_weight_grad.h"
#include "weight_grad/plane_weight_grad.h"
#include "weight_grad/direct_weight_grad.h"
#include "winograd/winograd.h"
#include "table.h"

#if CONVOLUTION_ONLY
const kernels NAME(kernels) = {.table = NAME(table)};
#else
#include "weight_grad/pooled_weight_grad.h"
#include "dense/sparse_lists.h"
#include "dense/sparse_dense.h"
#include "dense/few_examples.h"

#include "rows/elementwise.h"
#include "pooling/pool.h"
#include "pooling/max_pool.h"
#include "rows/softmax.h"
#include "rows/batch_norm.h"

const kernels NAME(kernels) = {
    .table = NAME(table),
    .max_pool = NAME(max_pool),
    .max_pool_grad = NAME(max_pool_grad),
    .avg_pool = NAME(avg_pool),
    .avg_pool_grad = NAME(avg_pool_grad),
    .relu = NAME(relu),
    .relu_grad = NAME(relu_grad),
    .scale_shift = NAME(scale_shift),
    .add = NAME(add),
    .bias_grad = NAME(bias_grad),
    .softmax = NAME(softmax),
    .batch_norm = NAME(batch_norm),
    .batch_norm_grad = NAME(batch_norm_grad),
    .batch_norm_inference = NAME(batch_norm_inference),
    .pooled_weight_grad = NAME(pooled_weight_grad),
    .few_examples = NAME(few_examples),
    .sparse_forward = NAME(sparse_forward),
    .sparse_input_grad = NAME(sparse_input_grad),
    .sparse_weight_grad = NAME(sparse_weight_grad),
};
#endif

#undef vec
#undef ivec
#undef uvec
