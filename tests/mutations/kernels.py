"""Mistakes in the C kernels of the CPU."""

from __future__ import annotations

from .mutation import Mutation

MUTATIONS = [
    Mutation(
        "_kernels/direct_filters.h",
        "lane[l] = source[c * inner + l * next];",
        "lane[l] = source[c * inner];",
        "few filters are all packed as the first",
        "cpu ops",
    ),
    Mutation(
        "_kernels/direct_inside.h",
        "t.y = sums + s0 * width;",
        "t.y = sums;",
        "a kernel column adds to the first results, not to those that see the image through it",
        "cpu ops",
    ),
    Mutation(
        "_kernels/direct.h",
        "const ptrdiff_t last = first + d->rows < y.count ? first + d->rows : y.count;",
        "const ptrdiff_t last = first + d->rows <= y.count ? first + d->rows : y.count - (d->row_blocks > 1);",
        "the last row of the last block of rows is left out",
        "cpu ops",
    ),
    Mutation(
        "_kernels/direct_weight_grad.h",
        "t.fresh = fresh && phase == 0;",
        "t.fresh = fresh;",
        "a dilated gradient keeps the last phase's sums only",
        "cpu ops",
    ),
    Mutation(
        "_kernels/direct_weight_grad.h",
        "for (ptrdiff_t part = 1; part < d->parts; part++)",
        "for (ptrdiff_t part = 2; part < d->parts; part++)",
        "the second part of a long sum over pixels is not added",
        "cpu ops",
    ),
    Mutation(
        "_kernels/depthwise.h",
        "t->columns == 5 ? 2 : 0;",
        "t->columns == 5 ? 1 : 0;",
        "a depthwise kernel of five columns is taken for one of three",
        "cpu ops",
    ),
    Mutation(
        "_kernels/depthwise.h",
        "until = end < high ? end : high;",
        "until = end;",
        "at the right edge a depthwise kernel reads the next row",
        "cpu ops",
    ),
    Mutation(
        "_kernels/max_pool.h",
        "const ivec take = ~(v <= most) & (most == most),",
        "const ivec take = ~(v < most) & (most == most),",
        "the last of equal pixels is taken for the maximum",
        "cpu ops",
    ),
    Mutation(
        "_kernels/max_pool.h",
        "if (y) take &= NAME(load)(y + at) > (vec){0};",
        "if (y) take &= NAME(load)(y + at) >= (vec){0};",
        "ReLU's gradient is let through where the result is 0",
        "cpu nn_gradients nn_sequential",
    ),
    Mutation(
        "_kernels/pool.h",
        "    return 1 / (double)(rows * (NAME(window)(ox, q->sw, q->pl, q->kw, q->w, &x0) - x0));",
        "    (void)rows, (void)NAME(window)(ox, q->sw, q->pl, q->kw, q->w, &x0);\n"
        "    return 1 / (double)(q->kh * q->kw);",
        "padded pixels count in the gradient of a mean",
        "cpu ops",
    ),
    Mutation(
        "_kernels/batch_norm.h",
        "variance = sums[n + i] / m - shift * shift;",
        "variance = (sums[n + i] - m * shift * shift) / (m > 1 ? m - 1 : 1);",
        "batches are normalised by the unbiased variance",
        "cpu nn_gradients",
    ),
    Mutation(
        "_kernels/softmax.h",
        "top = (double)z[j] > top ? (double)z[j] : top;",
        "top = (double)z[j] > top + 400 ? (double)z[j] : top;",
        "the softmax of large logits overflows",
        "cpu ops",
    ),
    Mutation(
        "_kernels/winograd_points.h",
        "    vec even_b = m[2] + m[3], odd_b = m[2] - m[3];\n    y[0] = even_a + even_b;",
        "    vec even_b = m[2] + m[3], odd_b = m[3] - m[2];\n    y[0] = even_a + even_b;",
        "a sign in a transform of the 3×3 tile",
        "winograd",
    ),
    Mutation(
        "_kernels/winograd_conv.h",
        "TILED(multiply)(p, panel, count, end - c, v + block * v_block + c, u, c > 0, m);",
        "TILED(multiply)(p, panel, count, end - c, v + block * v_block + c, u, 0, m);",
        "of very many channels over few pixels the last ones only are summed",
        "winograd",
    ),
    Mutation(
        "_kernels/winograd_1d_few_conv.h",
        "out[j] = NAME(select)(out[j] < least, least, out[j]);",
        "out[j] = NAME(select)(out[j] > least, out[j], least);",
        "ReLU makes a number of NaN",
        "winograd_1d",
    ),
    Mutation(
        "_kernels/sparse_dense.h",
        "if (any && p->out2)",
        "if (any > 0 && p->out2)",
        "NaN behind a zero is hidden where its sign bit is set",
        "cpu",
    ),
    Mutation(
        "_kernels/run_weight_grad.h",
        "(t.rows - 1) * g->sh + (g->kh - 1) * g->dh + 1, -g->pl, d->region_columns,",
        "(t.rows - 1) * g->sh + (g->kh - 1) * g->dh + 1, -g->pr, d->region_columns,",
        "padding left and right change places",
        "cpu ops",
    ),
    Mutation(
        "_kernels/plane.h",
        "for (int v = 0; v < 2; v++) {\n        vec *const sum = (vec *)(sums + v * LANES);",
        "for (int v = 0; v < 1; v++) {\n        vec *const sum = (vec *)(sums + v * LANES);",
        "bias and ReLU are left out in every second vector of pixels",
        "cpu ops",
    ),
    Mutation(
        "_kernels/elementwise.h",
        "y[i] = x[i] < 0 ? 0 : x[i];",
        "y[i] = x[i] > 0 ? x[i] : 0;",
        "ReLU makes 0 of NaN",
        "ops cpu",
    ),
]
