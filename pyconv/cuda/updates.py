"""Optimisers' steps on vectors in device memory."""

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
        One of pyconv's own; a rule of one's own runs on the CPU.
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
        If the optimiser has no kernel.
    ShapeError
        If the vectors do not fit together.
    """
    o, name = optimizer, optimizer.name
    vectors: list[Any] = [flat, gradient, *(state[key] for key in o.state_names)]
    for vector in vectors:
        if vector.shape != flat.shape or vector.dtype != flat.dtype:
            raise ShapeError(f"parameters are {flat.dtype} {flat.shape}, but gradient or state {vector.shape}")
    decay = o.weight_decay
    numbers: tuple[float, ...]
    if name == "sgd":
        if not o.momentum:
            vectors.append(None)
        numbers = (lr, o.momentum, decay)
    elif name == "adagrad":
        numbers = (lr / (1 + (step - 1) * o.lr_decay), o.eps, decay)
    elif name == "adadelta":
        numbers = (lr, o.rho, 1 - o.rho, o.eps, decay)
    elif name in ("adam", "adamw"):
        shrink, decay = (1 - lr * decay, 0.0) if name == "adamw" else (1.0, decay)
        rate, correction = lr / (1 - o.beta1**step), (1 - o.beta2**step) ** -0.5
        numbers = (rate, correction, o.beta1, 1 - o.beta1, o.beta2, 1 - o.beta2, o.eps, decay, shrink)
    elif name == "adamax":
        numbers = (lr / (1 - o.beta1**step), o.beta1, 1 - o.beta1, o.beta2, o.eps, decay)
    else:
        raise InputError(f"the optimizer {name!r} has no kernel for the GPU; use one of pyconv's own")
    real = flat.dtype.type
    char = flat.dtype.char
    program = keep(("updates.cu", char), lambda: door.current().compile("updates.cu", {"REAL": REAL[char]}))
    tail = (np.int32(o.nesterov),) if name == "sgd" else ()
    program.launch(
        "adam" if name == "adamw" else name, blocks(flat.size), (BLOCK,), *vectors, np.int64(flat.size),
        *map(real, numbers), *tail,
    )  # fmt: skip
