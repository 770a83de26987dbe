"""A network's parameters as one flat vector: how long it is, whether it fits the machine, and its pieces by name."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from pyconv.errors import DtypeError, InputError, ShapeError

from .architecture import Architecture
from .layer import Parameter


def check_memory(architecture: Architecture, itemsize: int) -> None:
    """Refuse a network whose parameters alone do not fit into the machine's memory."""
    needed = itemsize * (size_of(architecture.parameters) + size_of(architecture.buffers))
    try:
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):  # a system that does not say: the allocation will
        return
    if needed > there:
        raise InputError(
            f"the network's parameters need {needed / 2**30:,.1f} GiB of memory, this machine has "
            f"{there / 2**30:,.1f} GiB; take smaller layers"
        )


def check_vector(name: str, array: Any, size: int, dtype: np.dtype) -> None:
    """Refuse what is no writable vector of `size` numbers of `dtype`."""
    if isinstance(array, np.ma.MaskedArray):
        raise InputError(f"{name} is a masked array")
    if not isinstance(array, np.ndarray) or array.dtype != dtype:
        raise DtypeError(f"{name} must be an array of {dtype}, not {getattr(array, 'dtype', type(array))}")
    if array.shape != (size,) or not array.flags.c_contiguous or not array.flags.aligned:
        raise ShapeError(f"{name} must be a contiguous vector of {size} numbers, not of shape {array.shape}")
    if not array.flags.writeable:
        raise InputError(f"{name} is read-only")


def size_of(parameters: Mapping[str, Parameter]) -> int:
    """Numbers in all of `parameters`."""
    return sum(math.prod(parameter.shape) for parameter in parameters.values())


def views_of(flat: np.ndarray, parameters: Mapping[str, Parameter]) -> dict[str, np.ndarray]:
    """Consecutive pieces of `flat` in the parameters' shapes."""
    views, start = {}, 0
    for name, parameter in parameters.items():
        size = math.prod(parameter.shape)
        views[name] = flat[start : start + size].reshape(parameter.shape)
        start += size
    return views
