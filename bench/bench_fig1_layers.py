"""The paper's Fig. 1: forward and backward time of a convolutional and of a fully connected layer, against image
size."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
from harness import cuda_columns
from harness.layers import Layer, layer
from harness.prediction import predicted_dense_seconds, predicted_seconds
from harness.verify import relative_error

import pyconv
from pyconv import threads

EXPERIMENT = "fig1"
SIZES = (16, 24, 32, 48, 64, 96, 128)
QUICK_SIZES = (16, 32)
BATCH, CHANNELS, FILTERS, KERNEL, UNITS = 16, 16, 32, 5, 128


def backends() -> dict[str, dict]:
    """Columns that can run here: backend and threads."""
    found = {"serial": {"backend": "serial"}}
    if threads.usable_cpus() > 1:
        found[f"multicore, {threads.usable_cpus()} threads"] = {"backend": "multicore"}
    return found


def pairs(candidates: dict, expected: tuple) -> list[tuple]:
    """Every array that a candidate computes, with the expected one."""
    return [pair for call in candidates.values() for pair in zip(call(), expected, strict=True)]


def on_gpu(run: functools.partial, arrays: tuple, expected: tuple, candidates: dict) -> float:
    """Add the GPU's column if there is a GPU; returns its largest error."""
    if cuda_columns.unavailable() is not None:
        return 0.0
    candidates["cuda"] = cuda_columns.alone(run, *arrays)
    return max(relative_error(part.get(), whole) for part, whole in zip(candidates["cuda"](), expected, strict=True))


def say_what_cannot(measure, what: dict, on_gpu: tuple[str, ...] = ("cuda",)) -> None:
    """Record the columns that cannot run here; `on_gpu` are those that need a GPU."""
    if threads.usable_cpus() < 2:
        measure.cannot("this process may use one CPU only", **what, column="multicore")
    reason = cuda_columns.unavailable()
    for column in on_gpu if reason is not None else ():
        measure.cannot(reason, **what, column=column)


@pytest.mark.parametrize("operation", ["forward", "backward"])
@pytest.mark.parametrize("size", SIZES)
def test_convolution(size: int, operation: str, measure, rng, quick: bool, calibration) -> None:
    if quick and size not in QUICK_SIZES:
        pytest.skip("left out by --quick")
    one: Layer = layer(BATCH, size, CHANNELS, FILTERS, KERNEL)
    x, weight, bias, grad = one.arrays(rng)

    def run(x, weight, bias, grad, **how):
        how = {**one.arguments, **how}
        if operation == "forward":
            return (pyconv.conv2d(x, weight, bias, **how),)
        gx = pyconv.conv2d_input_grad(grad, weight, one.shape, **how)
        return gx, pyconv.conv2d_weight_grad(x, grad, one.kernel, **how)

    what = {"experiment": EXPERIMENT, "case": f"convolution {CHANNELS}→{FILTERS} {KERNEL}×{KERNEL}, batch {BATCH}",
            "operation": operation, "x": size}  # fmt: skip
    candidates = {name: functools.partial(run, x, weight, bias, grad, **how) for name, how in backends().items()}
    wide = (array.astype(np.float64) for array in (x, weight, bias, grad))
    expected = run(*wide, backend="reference")
    error = max(itertools.starmap(relative_error, pairs(candidates, expected)))
    error = max(error, on_gpu(functools.partial(run, backend="cuda"), (x, weight, bias, grad), expected, candidates))
    say_what_cannot(measure, what)
    flops = one.geometry.flops * (1 if operation == "forward" else 2)
    calls = 1 if operation == "forward" else 2
    predicted = {name: predicted_seconds(calibration, name, one.geometry, flops, calls) for name in candidates}
    measure(candidates, **what, flops=flops, relative_error=error, predicted=predicted)


@pytest.mark.parametrize("operation", ["forward", "backward"])
@pytest.mark.parametrize("size", SIZES)
def test_fully_connected(size: int, operation: str, measure, rng, quick: bool, calibration) -> None:
    if quick and size not in QUICK_SIZES:
        pytest.skip("left out by --quick")
    inputs = size * size * CHANNELS
    x, weight, bias, grad = (
        rng.standard_normal(shape, dtype=np.float32)
        for shape in ((BATCH, inputs), (inputs, UNITS), (UNITS,), (BATCH, UNITS))
    )

    def run(x, weight, bias, grad, **how):
        if operation == "forward":
            return (pyconv.dense(x, weight, bias, **how),)
        return pyconv.dense_input_grad(grad, weight, **how), pyconv.dense_weight_grad(x, grad, **how)

    what = {"experiment": EXPERIMENT, "case": f"fully connected, {CHANNELS} channels to {UNITS} units, batch {BATCH}",
            "operation": operation, "x": size}  # fmt: skip
    candidates = {name: functools.partial(run, x, weight, bias, grad, **how) for name, how in backends().items()}
    wide, errors = x.astype(np.float64), grad.astype(np.float64)
    expected = (wide @ weight + bias,) if operation == "forward" else (errors @ weight.T, wide.T @ errors)
    error = max(itertools.starmap(relative_error, pairs(candidates, expected)))
    error = max(error, on_gpu(functools.partial(run, backend="cuda"), (x, weight, bias, grad), expected, candidates))
    say_what_cannot(measure, what)
    calls = 1 if operation == "forward" else 2
    flops = calls * 2 * BATCH * inputs * UNITS
    predicted = {name: predicted_dense_seconds(calibration, name, flops, weight.nbytes, calls) for name in candidates}
    measure(candidates, **what, flops=flops, relative_error=error, predicted=predicted)
