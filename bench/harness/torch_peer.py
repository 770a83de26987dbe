"""PyTorch as the peer: convolutions in both of its memory layouts, and networks that equal pyconv's."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from pyconv.errors import install_line

from .layers import Layer

LAYOUTS = ("contiguous", "channels_last")


def import_torch() -> Any:
    """PyTorch; the test is skipped if it is not installed."""
    return pytest.importorskip("torch", reason=f"PyTorch is not installed: {install_line('peers')}")


@contextlib.contextmanager
def threads(torch: Any, count: int) -> Iterator[None]:
    """Within it, PyTorch computes on `count` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def to_torch(torch: Any, array: np.ndarray, layout: str) -> Any:
    """A copy of an NHWC array as PyTorch's NCHW tensor in one of its two memory layouts."""
    memory = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    return torch.from_numpy(array.transpose(0, 3, 1, 2).copy()).to(memory_format=memory)


def filters_to_torch(torch: Any, weight: np.ndarray, layout: str) -> Any:
    """A copy of (kh, kw, C // groups, K) filters as PyTorch's (K, C // groups, kh, kw)."""
    memory = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    return torch.from_numpy(weight.transpose(3, 2, 0, 1).copy()).to(memory_format=memory)


def from_torch(tensor: Any) -> np.ndarray:
    """An NCHW tensor as an NHWC array."""
    return np.ascontiguousarray(tensor.detach().numpy().transpose(0, 2, 3, 1))


def filters_from_torch(tensor: Any) -> np.ndarray:
    """(K, C // groups, kh, kw) as (kh, kw, C // groups, K)."""
    return np.ascontiguousarray(tensor.detach().numpy().transpose(2, 3, 1, 0))


def convolution(
    torch: Any, one: Layer, operation: str, layout: str, arrays: tuple, device: str = "cpu"
) -> Callable[[], Any]:
    """A function that runs one pass of a layer in PyTorch, without autograd's bookkeeping."""
    x, weight, bias, grad_out = arrays
    tx, tg = (to_torch(torch, array, layout).to(device) for array in (x, grad_out))
    tw, tb = filters_to_torch(torch, weight, layout).to(device), torch.from_numpy(bias.copy()).to(device)
    pair = lambda value: [value, value]  # noqa: E731
    if operation == "forward":

        def run() -> Any:
            with torch.no_grad():
                return torch.nn.functional.conv2d(
                    tx, tw, tb, one.stride, one.padding, dilation=one.dilation, groups=one.groups
                )

        return run
    mask = [operation == "input_grad", operation == "weight_grad", False]
    backward = torch.ops.aten.convolution_backward

    def run_backward() -> Any:
        with torch.no_grad():
            grads = backward(
                tg, tx, tw, None, pair(one.stride), list(one.padding), pair(one.dilation), False, [0, 0], one.groups,
                mask,
            )  # fmt: skip
        return grads[0] if mask[0] else grads[1]

    return run_backward


def result_of(operation: str, tensor: Any) -> np.ndarray:
    """What :func:`convolution` returned, in pyconv's order."""
    return filters_from_torch(tensor) if operation == "weight_grad" else from_torch(tensor)
