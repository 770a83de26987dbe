"""The paper's Fig. 2: the speed-up of a convolutional layer over the serial loop, against image size.

The paper's curve is of its GPU. On a machine without a GPU the CPU cores are measured, and the GPU's column says why
not.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest
from bench_fig1_layers import say_what_cannot
from harness import cuda_columns
from harness.layers import layer
from harness.prediction import predicted_seconds
from harness.verify import relative_error

import pyconv
from pyconv import threads

EXPERIMENT = "fig2"
SIZES = (16, 32, 48, 64, 96, 128, 192, 256)
QUICK_SIZES = (16, 64)


@pytest.mark.parametrize("size", SIZES)
def test_speedup(size: int, measure, rng, quick: bool, calibration) -> None:
    if quick and size not in QUICK_SIZES:
        pytest.skip("left out by --quick")
    one = layer(1, size, 16, 32, 5)
    x, weight, bias, _ = one.arrays(rng)
    run = functools.partial(pyconv.conv2d, **one.arguments)
    candidates = {
        "serial naive": lambda: run(x, weight, bias, backend="serial", algorithm="naive"),
        "serial best": lambda: run(x, weight, bias, backend="serial"),
    }
    count = threads.usable_cpus()
    if count > 1:
        candidates[f"multicore naive, {count} threads"] = lambda: run(
            x, weight, bias, backend="multicore", algorithm="naive"
        )
        candidates[f"multicore best, {count} threads"] = lambda: run(x, weight, bias, backend="multicore")
    wide = [array.astype(np.float64) for array in (x, weight, bias)]
    expected = run(*wide, backend="reference")
    error = max(relative_error(call(), expected) for call in candidates.values())
    if cuda_columns.unavailable() is None:
        on_gpu = functools.partial(run, backend="cuda")
        candidates["cuda"] = cuda_columns.alone(on_gpu, x, weight, bias)
        candidates["cuda with copies"] = cuda_columns.with_copies(on_gpu, x, weight, bias)
        error = max(error, relative_error(candidates["cuda with copies"](), expected))
    what = {"experiment": EXPERIMENT, "case": "convolution 16→32 5×5, one image", "operation": "forward", "x": size}
    say_what_cannot(measure, what, ("cuda", "cuda with copies"))
    flops = one.geometry.flops
    predicted = {name: predicted_seconds(calibration, name, one.geometry, flops) for name in candidates}
    measure(candidates, **what, flops=flops, relative_error=error, predicted=predicted)
