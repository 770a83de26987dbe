"""pyconv on the GPU against cuDNN through PyTorch: the fused first block, layers, whole training steps.

Each result is verified before it is timed. cuDNN runs in strict float32 (TF32 off) and, in columns of their own, with
TF32, always in benchmark mode and in both memory layouts; the better of the layouts counts. Layers are timed by events
on the device, steps by the wall clock. The table goes to ``bench/results/cuda_peers.md``; without a GPU every line says
"not run".
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from harness import cuda_columns, torch_gpu, torch_peer, training
from harness.layers import FER, GROUPS, PASSES, Layer
from harness.torch_network import Twin
from harness.verify import relative_error

import pyconv
from pyconv import nn
from pyconv.errors import install_line

EXPERIMENT = "cuda_peers"
BATCH = 128
#: Rounding to TF32 leaves a relative error of about 2⁻¹¹ times the square root of the number of products.
TF32_TOLERANCE = 1e-2


def with_batch(one: Layer) -> Layer:
    """The same layer on :data:`BATCH` images, which its name says."""
    name = one.name.removesuffix(f" b{one.shape[0]}") + f" b{BATCH}"
    return dataclasses.replace(one, name=name, shape=(BATCH, *one.shape[1:]))


FIRST, *OTHERS = map(with_batch, FER)
ALEXNET = [with_batch(one) for group in GROUPS for one in group.layers if "AlexNet" in one.name]
LAYERS = [(one, 0.9) for one in OTHERS] + [(one, 0.85) for one in ALEXNET]


@pytest.fixture
def torch(measure, request: pytest.FixtureRequest):
    """PyTorch, if this machine has a GPU; otherwise the test's lines are recorded as not run, with the reason."""
    what = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    reason = cuda_columns.unavailable()
    if reason is None:
        library = pytest.importorskip("torch", reason=f"PyTorch is not installed: {install_line('peers')}")
        if library.cuda.is_available():
            return library
        reason = "this build of PyTorch has no CUDA"
    for line in request.function.lines(**what):
        measure.cannot(f"not run, no GPU here: {reason}", experiment=EXPERIMENT, column="pyconv", **line)
    pytest.skip(f"no GPU here: {reason}")


def lines(make: Callable[..., list[dict]]) -> Callable:
    """Declare which lines a test records, so that they can be recorded as not run."""

    def mark(test: Callable) -> Callable:
        test.lines = make  # type: ignore[attr-defined]
        return test

    return mark


def contest(measure, torch, mine: Any, peer: Callable[[str], Callable], check: Callable[[Any], float], **line) -> None:
    """Time pyconv against cuDNN in both precisions and layouts, each verified first by `check`."""
    candidates: dict[str, Any] = {"pyconv": mine}
    for how in torch_gpu.PRECISIONS:
        for layout in torch_peer.LAYOUTS:
            candidates[f"cudnn {how} {layout}"] = torch_gpu.TorchClocked(torch, peer(layout), how)
    error = relative_error(mine().get(), check(candidates["cudnn float32 contiguous"]()))
    for name, candidate in candidates.items():
        if name != "pyconv":
            tolerance = TF32_TOLERANCE if "TF32" in name else 2e-4
            relative_error(check(candidate()), mine().get(), tolerance)
    measure(candidates, experiment=EXPERIMENT, relative_error=error, **line)


def on_gpu(run: Callable, arrays: tuple) -> Callable:
    """Make PyTorch's arrays on the host, and move them to the GPU once."""
    there = [array.cuda() for array in arrays]
    return lambda: run(*there)


def block_lines(**_: Any) -> list[dict]:
    return [{"case": f"first block: {FIRST.name}, ReLU, pooling", "operation": "forward", "target": 2.0}]


@lines(block_lines)
def test_first_block(measure, rng: np.random.Generator, torch, quick: bool) -> None:
    from pyconv.cuda import operations
    from pyconv.shapes import pool_geometry

    one = FIRST.cut(2) if quick else FIRST
    x, weight, bias, _ = one.arrays(rng)
    g = one.geometry
    pg = pool_geometry(g.output_shape, 2)
    assert operations.fuses_pool(g, pg)
    mine = cuda_columns.alone(lambda *there: operations.conv2d_pool(*there, g, pg, activation="relu"), x, weight, bias)
    functional = torch.nn.functional

    def peer(layout: str) -> Callable:
        arrays = (torch_peer.to_torch(torch, x, layout), torch_peer.filters_to_torch(torch, weight, layout),
                  torch.from_numpy(bias.copy()))  # fmt: skip
        return on_gpu(
            lambda tx, tw, tb: functional.max_pool2d(functional.conv2d(tx, tw, tb, padding=FIRST.padding).relu_(), 2),
            arrays,
        )

    contest(measure, torch, mine, peer, lambda y: torch_peer.from_torch(y.cpu()), flops=g.flops, **block_lines()[0])


def layer_lines(one: Layer, target: float, operation: str) -> list[dict]:
    return [{"case": one.name, "operation": operation, "target": target}]


@pytest.mark.parametrize("operation", PASSES)
@pytest.mark.parametrize(("one", "target"), LAYERS, ids=[one.id for one, _ in LAYERS])
@lines(layer_lines)
def test_layer(
    one: Layer, target: float, operation: str, measure, rng: np.random.Generator, torch, quick: bool
) -> None:
    line = layer_lines(one, target, operation)[0]
    one = one.cut(2) if quick else one
    arrays = one.arrays(rng)
    x, weight, bias, grad_out = arrays
    how = {**one.arguments, "backend": "cuda"}
    if operation == "forward":
        mine = cuda_columns.alone(functools.partial(pyconv.conv2d, **how), x, weight, bias)
    elif operation == "input_grad":
        call = functools.partial(pyconv.conv2d_input_grad, input_shape=x.shape, **how)
        mine = cuda_columns.alone(call, grad_out, weight)
    else:
        call = functools.partial(pyconv.conv2d_weight_grad, kernel_size=one.kernel, **how)
        mine = cuda_columns.alone(call, x, grad_out)

    def peer(layout: str) -> Callable:
        return torch_peer.convolution(torch, one, operation, layout, arrays, device="cuda")

    contest(
        measure, torch, mine, peer, lambda y: torch_peer.result_of(operation, y.cpu()), flops=one.geometry.flops,
        **line,
    )  # fmt: skip


def variant_lines(one: Layer) -> list[dict]:
    return [{"case": one.name, "operation": "block_tuned over naive", "target": 1.0}]


@pytest.mark.parametrize("one", [FIRST, *OTHERS, *ALEXNET], ids=lambda one: one.id)
@lines(variant_lines)
def test_block_tuned_is_faster_than_naive(one: Layer, measure, rng: np.random.Generator, torch, quick: bool) -> None:
    """The kernel is tuned first; the column ``untuned`` is the static choice, timed before the tuning."""
    from pyconv import cuda
    from pyconv.cuda.block_tuned import BlockTuned
    from pyconv.cuda.choice import TABLE
    from pyconv.cuda.problem import Problem

    line = variant_lines(one)[0]
    one = one.cut(2) if quick else one
    x, weight, bias, _ = one.arrays(rng)
    tiles = {"untuned": next(iter(_candidates(one)), None)}
    cuda.tune(one.geometry, tries=2 if quick else 24)
    variant: Any = TABLE["block_tuned"]
    assert isinstance(variant, BlockTuned)
    p = Problem.forward(one.geometry)
    tiles["tuned"] = variant.choice(p, x.dtype)
    run = functools.partial(pyconv.conv2d, **one.arguments, backend="cuda")
    candidates: dict[str, Any] = {
        "pyconv block_tuned": cuda_columns.alone(functools.partial(run, algorithm="block_tuned"), x, weight, bias),
        "peer naive": cuda_columns.alone(functools.partial(run, algorithm="naive"), x, weight, bias),
    }
    error = relative_error(*(candidate().get() for candidate in candidates.values()))
    described = {name: str(tile) for name, tile in tiles.items()}
    measure(
        candidates, experiment=EXPERIMENT, flops=one.geometry.flops, relative_error=error, tiles=described,
        **line,
    )  # fmt: skip


def _candidates(one: Layer) -> Any:
    from pyconv.cuda.block_tuned import candidates
    from pyconv.cuda.problem import Problem

    return candidates(Problem.forward(one.geometry), np.float32)


def step_lines(name: str, target: float | None) -> list[dict]:
    return [{"case": name, "operation": f"training step, batch {BATCH}", "target": target}]


@pytest.mark.parametrize(("name", "target"), [("fer", 1.5), ("5-50-100-10", None)])
@lines(step_lines)
def test_training_step(name: str, target: float | None, measure, rng: np.random.Generator, torch, quick: bool) -> None:
    """In each step both libraries copy a batch from main memory and return the loss, as in training."""
    batch = 2 if quick else BATCH
    model = nn.build(name)
    model.backend = "cuda"
    x, labels = training.batch_for(model, batch, rng)
    candidates: dict[str, Any] = {}
    loss, gradient = model.loss_and_gradient(x, labels)
    twins = {(how, layout): Twin(torch, model, layout) for how in torch_gpu.PRECISIONS for layout in torch_peer.LAYOUTS}
    mine = training.gpu_step(model, x, labels)
    candidates["pyconv"] = mine
    errors = []
    for (how, layout), twin in twins.items():
        twin.network.to("cuda")
        images, targets = twin.images(x).pin_memory(), torch.from_numpy(labels).pin_memory()
        with torch_gpu.precision(torch, how):
            theirs = twin.loss(images.cuda(), targets.cuda()).item()
            norm = twin.gradient_norm(images.cuda(), targets.cuda())
        tolerance = TF32_TOLERANCE if how == "TF32" else 2e-4
        errors.append(relative_error(np.array([loss]), np.array([theirs]), tolerance))
        ours = np.linalg.norm(gradient.astype(np.float64), keepdims=True)
        errors.append(relative_error(ours, np.array([norm]), tolerance))

        def step(twin: Twin = twin, images: Any = images, targets: Any = targets) -> float:
            return twin.train_step(images.cuda(non_blocking=True), targets.cuda(non_blocking=True))

        candidates[f"eager {how} {layout}"] = torch_gpu.Stepper(torch, step, how)
    measure(
        candidates, experiment=EXPERIMENT, flops=model.flops(batch, training=True), images=batch,
        relative_error=max(errors[:2]), **step_lines(name, target)[0],
    )  # fmt: skip
