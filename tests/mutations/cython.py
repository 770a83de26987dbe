"""Mistakes in the Cython modules."""

from __future__ import annotations

from .mutation import Mutation

MUTATIONS = [
    Mutation(
        "optim/_fused.pyx",
        "d = nesterov ? velocity * momentum + d : velocity;",
        "d = nesterov ? velocity * momentum : velocity;",
        "Nesterov's step leaves out the gradient",
        "optim_formulas optim",
    ),
    Mutation(
        "parallel/_atomics.pyx",
        "if (weights[w] == 0) continue;",
        "if (weights[w] < 0) continue;",
        "NaN in a slot that does not count spoils the mean",
        "parallel_sums parallel_protocol",
    ),
    Mutation(
        "_elementwise.pyx",
        "dx[i] = dy[i] if first < y[i] and y[i] < second else zero",
        "dx[i] = dy[i] if first <= y[i] and y[i] <= second else zero",
        "Clip lets gradients through at its bounds",
        "activations",
    ),
    Mutation(
        "_dense.pyx", "p.add or from_k > 0", "p.add", "of a very long sum the last part only is left", "long_sums cpu"
    ),
    Mutation(
        "_rows.pyx",
        "p.relu = 1\n    p.a, p.b, p.out, p.out2",
        "p.relu = 0\n    p.a, p.b, p.out, p.out2",
        "the bias's gradient is summed without ReLU's mask",
        "cpu nn_gradients",
    ),
]
