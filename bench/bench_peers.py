"""pyconv against its peers: every pass of every layer, whole steps, latency, SciPy, memory.

Each test verifies pyconv's result against the peer's, then lets both take turns on one thread. PyTorch runs in both of
its memory layouts, and the better of the two counts. The table goes to ``bench/results/peers.md``.
"""

from __future__ import annotations

import numpy as np
import pytest
from harness import torch_peer
from harness.layers import ALL, PASSES, Group, Layer
from harness.verify import relative_error

import pyconv

EXPERIMENT = "peers"


def ours(one: Layer, operation: str, arrays: tuple, **how):
    """A function that runs one pass of a layer in pyconv, through its public door."""
    x, weight, bias, grad_out = arrays
    how = {**one.arguments, **how}
    if operation == "forward":
        return lambda: pyconv.conv2d(x, weight, bias, **how)
    if operation == "input_grad":
        return lambda: pyconv.conv2d_input_grad(grad_out, weight, x.shape, **how)
    return lambda: pyconv.conv2d_weight_grad(x, grad_out, one.kernel, **how)


@pytest.mark.parametrize("operation", PASSES)
@pytest.mark.parametrize(("group", "one"), ALL, ids=[one.id for _, one in ALL])
def test_layer(group: Group, one: Layer, operation: str, measure, rng: np.random.Generator, quick: bool) -> None:
    torch = torch_peer.import_torch()
    one = one.cut(4) if quick else one
    arrays = one.arrays(rng)
    mine = ours(one, operation, arrays, backend="serial")
    peers = {
        f"torch {layout}": torch_peer.convolution(torch, one, operation, layout, arrays)
        for layout in torch_peer.LAYOUTS
    }
    with torch_peer.threads(torch, 1):
        error = relative_error(mine(), torch_peer.result_of(operation, peers["torch contiguous"]()))
        measure(
            {"pyconv": mine, **peers},
            experiment=EXPERIMENT,
            case=one.name,
            operation=operation,
            flops=one.geometry.flops,
            group=group.name,
            relative_error=error,
        )
