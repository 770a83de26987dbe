"""Mistakes in the optimisers, schedules and clipping."""

from __future__ import annotations

from .mutation import Mutation

MUTATIONS = [
    Mutation(
        "optim/adam.py",
        "(1 - self.beta2**step) ** -0.5",
        "(1 - self.beta1**step) ** -0.5",
        "Adam corrects its second mean by the first one's share",
        "optim_formulas optim cuda_layers",
    ),
    Mutation(
        "optim/adam.py",
        "p *= 1 - constants[0] * self.weight_decay",
        "p *= 1 - self.weight_decay",
        "AdamW's decay leaves out the learning rate",
        "optim_formulas optim cuda_layers",
    ),
    Mutation(
        "optim/adamax.py",
        "np.maximum(maximum, t, out=maximum)",
        "np.minimum(maximum, t, out=maximum)",
        "AdaMax divides by the smallest gradient",
        "optim_formulas optim",
    ),
    Mutation(
        "optim/adadelta.py",
        "        t *= lr\n",
        "",
        "Adadelta leaves out the learning rate",
        "optim_formulas optim",
    ),
    Mutation(
        "optim/adagrad.py",
        "g = decayed(p, g, self.weight_decay, u)",
        "decayed(p, g, self.weight_decay, u)",
        "Adagrad leaves out the weight decay",
        "optim_formulas optim",
    ),
    Mutation(
        "optim/base.py",
        "block = slice(start, start + BLOCK)",
        "block = slice(start, start + BLOCK - 1)",
        "the last number of each block is not updated",
        "optim_formulas optim",
        "slices",
    ),
    Mutation(
        "optim/schedules.py",
        "if step <= warmup:",
        "if step < warmup:",
        "the warm-up ends a step early",
        "optim_formulas optim",
    ),
    Mutation(
        "optim/clipping.py",
        "return most / norm if math.isfinite(norm) and norm > most else 1.0",
        "return most / norm if norm > most else 1.0",
        "an infinite norm makes the gradient zero or NaN, and hides it",
        "training_clipping",
        "finite",
    ),
]
