"""All planted mistakes."""

from __future__ import annotations

from . import (
    commands,
    cython,
    data,
    gpu,
    kernels,
    layers,
    operations,
    optimizers,
    pipelines,
    rules,
    runs,
    splits,
    tracing,
)
from .mutation import Mutation

MUTATIONS: list[Mutation] = [
    mutation
    for part in (
        kernels,
        cython,
        operations,
        layers,
        optimizers,
        rules,
        data,
        runs,
        commands,
        pipelines,
        splits,
        tracing,
        gpu,
    )
    for mutation in part.MUTATIONS
]
