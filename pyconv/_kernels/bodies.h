/* bodies.h: includes every kernel of one instruction set and precision. */
#include "vector.h"
#include "winograd_numbers.h" /* how to cut */
#include "transpose.h"

#include "tile.h"
#include "dot.h"
#include "region.h"
#include "apart.h"
#include "axis.h"
#include "literal.h"
#include "depthwise.h"
#include "depthwise_few.h"
#include "depthwise_weight_grad.h"
#include "plane.h"
#include "direct_filters.h"
#include "direct_inside.h"
#include "direct.h"
#include "grouped.h"
#include "spread.h"
#include "outer.h"
#include "shifted.h"
#include "run_weight_grad.h"
#include "plane_weight_grad.h"
#include "direct_weight_grad.h"
#include "winograd.h"
#include "pooled_weight_grad.h"
#include "sparse_lists.h"
#include "sparse_dense.h"

#include "elementwise.h"
#include "pool.h"
#include "max_pool.h"
#include "softmax.h"
#include "batch_norm.h"

#include "table.h"

const kernels NAME(kernels) = {
    .table = NAME(table),
    .max_pool = NAME(max_pool),
    .max_pool_grad = NAME(max_pool_grad),
    .avg_pool = NAME(avg_pool),
    .avg_pool_grad = NAME(avg_pool_grad),
    .relu = NAME(relu),
    .relu_grad = NAME(relu_grad),
    .scale_shift = NAME(scale_shift),
    .bias_grad = NAME(bias_grad),
    .softmax = NAME(softmax),
    .batch_norm = NAME(batch_norm),
    .batch_norm_grad = NAME(batch_norm_grad),
    .pooled_weight_grad = NAME(pooled_weight_grad),
    .sparse_forward = NAME(sparse_forward),
    .sparse_input_grad = NAME(sparse_input_grad),
    .sparse_weight_grad = NAME(sparse_weight_grad),
};

#undef vec
#undef ivec
#undef uvec
