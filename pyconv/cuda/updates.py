"""Runs an optimizer's step on vectors in device memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import InputError, ShapeError
from . import device as door
from .array import DeviceArray
from .problem import BLOCK, REAL, blocks, keep


def update(
    optimizer: Any, flat: DeviceArray, gradient: DeviceArray, state: Mapping[str, DeviceArray], step: int, lr: float
) -> None:
    """Do one step in place, as ``optimizer.update`` does on the CPU.

    Parameters
    ----------
    optimizer : pyconv.optim.Optimizer
        Its class says which kernel does its step (:meth:`~pyconv.optim.Optimizer.device_step`).
    flat, gradient : (n,) DeviceArray
        Parameters, overwritten, and the loss's gradient.
    state : mapping of str to (n,) DeviceArray
        By the names of ``optimizer.state_names``; overwritten.
    step : int
        Number of this step, from 1 on.
    lr : float
        Learning rate of this step.

    Raises
    ------
    InputError
        If the optimizer has no kernel.
    ShapeError
        If the vectors do not fit together.
    """
    # A subclass may change the formulas, so it does not inherit the kernel.
    call = optimizer.device_step(step, lr) if "device_step" in vars(type(optimizer)) else None
    if call is None:
        raise InputError(f"the optimizer {optimizer.name!r} has no kernel for the GPU; use one of pyconv's own")
    vectors: list[Any] = [flat, gradient, *(state[key] for key in optimizer.state_names)]
    for vector in vectors:
        if vector.shape != flat.shape or vector.dtype != flat.dtype:
            raise ShapeError(f"parameters are {flat.dtype} {flat.shape}, but gradient or state {vector.shape}")
    real, char = flat.dtype.type, flat.dtype.char
    program = keep((call.source, char), lambda: door.current().compile(call.source, {"REAL": REAL[char]}))
    program.launch(
        call.kernel, blocks(flat.size), (BLOCK,), *vectors, *[None] * call.absent, np.int64(flat.size),
        *map(real, call.numbers), *map(np.int32, call.flags),
    )  # fmt: skip
