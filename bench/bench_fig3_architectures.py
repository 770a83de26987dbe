"""The paper's Fig. 3: training time of networks on 28×28 images, on CPU and GPU, by architecture.

Architectures are written kernel-filters-hidden-classes, as 5-50-100-10. A training step of 64 images is timed; the
report shows the time of an epoch of 60 000 images, as in MNIST.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest
from bench_fig1_layers import say_what_cannot
from harness import cuda_columns, torch_peer, training
from harness.torch_gradient import loss_and_gradient
from harness.torch_network import Twin
from harness.verify import relative_error

from pyconv import nn, threads
from pyconv.costmodel.network import estimated_seconds

EXPERIMENT = "fig3"
ARCHITECTURES = ("3-10-50-10", "5-10-50-10", "5-20-50-10", "5-20-100-10", "5-50-100-10", "5-100-200-10", "7-50-100-10")
QUICK = ("5-10-50-10", "5-50-100-10")
BATCH = 64


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architecture(name: str, measure, rng, quick: bool, calibration) -> None:
    if quick and name not in QUICK:
        pytest.skip("left out by --quick")
    what = {"experiment": EXPERIMENT, "case": name, "operation": f"training step, batch {BATCH}"}
    columns = {"serial": ("serial", 1)}
    if threads.usable_cpus() > 1:
        columns[f"multicore, {threads.usable_cpus()} threads"] = ("multicore", None)
    if cuda_columns.unavailable() is None:
        columns["cuda"] = ("cuda", None)
    models = {column: nn.build(name) for column in columns}
    x, labels = training.batch_for(models["serial"], BATCH, rng)
    literal = nn.build(name)
    literal.backend = "reference"
    expected = literal.loss_and_gradient(x, labels)
    candidates, errors, predicted = {}, [], {}
    for column, (backend, count) in columns.items():
        model = models[column]
        model.backend, model.threads = backend, count
        errors.append(error_of(model.loss_and_gradient(x, labels), expected))
        step = training.gpu_step if backend == "cuda" else training.train_step
        candidates[column] = step(model, x, labels)
        if backend in calibration.t_c:
            used = count or threads.usable_cpus()
            predicted[column] = estimated_seconds(model, BATCH, calibration, backend=backend, threads=used)
            predicted[column] += calibration.t_u.value * model.flat.size
    error = max(*errors, add_torch(candidates, literal, x, labels, expected, measure, what))
    say_what_cannot(measure, what)
    flops = models["serial"].flops(BATCH, training=True)
    measure(candidates, **what, flops=flops, images=BATCH, relative_error=error, predicted=predicted)


def error_of(found: tuple[float, np.ndarray], expected: tuple[float, np.ndarray]) -> float:
    """The larger error of the loss and of the whole gradient."""
    (loss, gradient), (loss_expected, gradient_expected) = found, expected
    return max(relative_error(np.array(loss), np.array(loss_expected)), relative_error(gradient, gradient_expected))


def add_torch(candidates: dict, model: nn.Sequential, x, labels, expected: tuple, measure, what: dict) -> float:
    """PyTorch on one thread, in both layouts; the largest error of loss and gradient."""
    try:
        import torch
    except ModuleNotFoundError:
        measure.cannot("PyTorch is not installed", **what, column="torch")
        return 0.0
    torch.set_num_threads(1)
    targets, error = torch.from_numpy(labels), 0.0
    for layout in torch_peer.LAYOUTS:
        twin = Twin(torch, nn.from_config(model.config()), layout)
        images = twin.images(x)
        error = max(error, error_of(loss_and_gradient(twin, model, images, targets), expected))
        candidates[f"torch {layout}"] = functools.partial(twin.train_step, images, targets)
    return error
