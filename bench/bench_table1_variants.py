"""The paper's Table I: five convolutional layers, from the serial loop to the tuned kernel, beside PyTorch.

The layers are the five convolutions of the model `fer`; the paper does not give its own. Time is that of the forward
pass of a batch. GPU columns are of the kernel alone, and with the copies.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest
from harness import cuda_columns, torch_peer
from harness.layers import FER, Layer
from harness.verify import relative_error

import pyconv
from pyconv import threads
from pyconv.errors import InputError

EXPERIMENT = "table1"


@pytest.mark.parametrize("number", range(len(FER)))
def test_layer(number: int, measure, rng, quick: bool) -> None:
    one: Layer = FER[number].cut(2) if quick else FER[number]
    x, weight, bias, _ = arrays = one.arrays(rng)
    what = {"experiment": EXPERIMENT, "case": f"{number + 1}: {one.name}", "operation": "forward"}
    run = functools.partial(pyconv.conv2d, **one.arguments)
    algorithms, refusal = ["naive", "direct"], ""
    try:
        run(x, weight, bias, backend="serial", algorithm="winograd")
        algorithms.append("winograd")
    except InputError as error:  # not every algorithm takes every layer
        refusal = str(error)
    candidates = {
        f"serial {name}": functools.partial(run, x, weight, bias, backend="serial", algorithm=name)
        for name in algorithms
    }
    candidates["serial best"] = lambda: run(x, weight, bias, backend="serial")
    count = threads.usable_cpus()
    if count > 1:
        candidates[f"multicore naive, {count} threads"] = lambda: run(
            x, weight, bias, backend="multicore", algorithm="naive"
        )
        candidates[f"multicore best, {count} threads"] = lambda: run(x, weight, bias, backend="multicore")
    else:
        measure.cannot("this process may use one CPU only", **what, column="multicore best")
    expected = run(*(array.astype(np.float64) for array in (x, weight, bias)), backend="reference")
    error = max(relative_error(call(), expected) for call in candidates.values())
    reason = cuda_columns.unavailable()
    for variant in cuda_columns.VARIANTS:
        if reason is not None:
            for column in (f"cuda {variant}", f"cuda {variant} with copies"):
                measure.cannot(reason, **what, column=column)
            continue
        on_gpu = functools.partial(run, backend="cuda", algorithm=variant)
        candidates[f"cuda {variant}"] = cuda_columns.alone(on_gpu, x, weight, bias)
        candidates[f"cuda {variant} with copies"] = cuda_columns.with_copies(on_gpu, x, weight, bias)
        error = max(error, relative_error(candidates[f"cuda {variant} with copies"](), expected))
    add_torch(candidates, one, arrays, measure, what)
    measure(candidates, **what, flops=one.geometry.flops, relative_error=error)
    if refusal:
        measure.cannot(refusal, **what, column="serial winograd")


def add_torch(candidates: dict, one: Layer, arrays: tuple, measure, what: dict) -> None:
    """PyTorch on one thread, in both layouts."""
    try:
        import torch
    except ModuleNotFoundError:
        measure.cannot("PyTorch is not installed", **what, column="torch")
        return
    torch.set_num_threads(1)
    for layout in torch_peer.LAYOUTS:
        call = torch_peer.convolution(torch, one, "forward", layout, arrays)
        relative_error(torch_peer.result_of("forward", call()), candidates["serial best"]())
        candidates[f"torch {layout}"] = call
