"""Mistakes in the kernels of the GPU, which the tests compile for the CPU."""

from __future__ import annotations

from .mutation import Mutation

MUTATIONS = [
    Mutation(
        "cuda/pooling.cu",
        "if (value > best || (value != value && best == best))",
        "if (value > best)",
        "NaN does not win a maximum",
        "cuda_layers",
    ),
    Mutation(
        "cuda/channels.cu",
        "    __syncthreads(); // all threads have written\n",
        "",
        "numbers are added up before all are there",
        "cuda_layers cuda_harness",
        "batch_norm or channel_sums",
    ),
    Mutation(
        "cuda/channels.cu",
        "double moved = (double)value - (double)x[c];",
        "double moved = (double)value;",
        "the variance of numbers far from zero cancels away",
        "cuda_layers",
    ),
    Mutation(
        "cuda/shared_input.cu",
        "        __syncthreads(); // all threads have read the last tile\n",
        "",
        "a tile is written over while others read it",
        "cuda_convolution cuda_harness",
        "more_channels",
    ),
    Mutation(
        "cuda/pooling.cu",
        "s1 = min((column + p.pad_left) / p.stride_w, p.out_w - 1);\n    Sum sum;",
        "s1 = min(column / p.stride_w, p.out_w - 1);\n    Sum sum;",
        "the mean's gradient leaves out a window beside padding",
        "cuda_layers",
    ),
]
