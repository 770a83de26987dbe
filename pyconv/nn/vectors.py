"""A network's parameters as one flat vector: its length, its parts by name, and whether it fits into memory."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from pyconv import limits
from pyconv.errors import DtypeError, InputError, ShapeError

from .architecture import Architecture
from .layer import Parameter

ASKED_FOR = 1 << 22
"""For more bytes than this, the memory that is left is checked."""


def check_memory(architecture: Architecture, itemsize: int) -> None:
    """Raise an error for a network whose parameters alone do not fit into the memory that is left."""
    needed = itemsize * (size_of(architecture.parameters) + size_of(architecture.buffers))
    reason = limits.shortage(needed) if needed > ASKED_FOR else None
    try:
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):  # a system that does not tell: the allocation will fail
        there = needed
    if needed > there:
        raise InputError(
            f"the network's parameters need {needed / 2**30:,.1f} GiB of memory, this machine has "
            f"{there / 2**30:,.1f} GiB; take smaller layers"
        )
    if reason is not None:
        raise InputError(
            f"the network's parameters need {limits.amount(needed)} of memory, and {reason}, or take smaller layers"
        )


def check_vector(name: str, array: Any, size: int, dtype: np.dtype) -> None:
    """Raise an error unless `array` is a writable vector of `size` numbers of `dtype`."""
    if isinstance(array, np.ma.MaskedArray):
        raise InputError(f"{name} is a masked array")
    if not isinstance(array, np.ndarray) or array.dtype != dtype:
        raise DtypeError(f"{name} must be an array of {dtype}, not {getattr(array, 'dtype', type(array))}")
    if array.shape != (size,) or not array.flags.c_contiguous or not array.flags.aligned:
        raise ShapeError(f"{name} must be a contiguous vector of {size} numbers, not of shape {array.shape}")
    if not array.flags.writeable:
        raise InputError(f"{name} is read-only")


def size_of(parameters: Mapping[str, Parameter]) -> int:
    """How many numbers all `parameters` have."""
    return sum(math.prod(parameter.shape) for parameter in parameters.values())


def views_of(flat: Any, parameters: Mapping[str, Parameter]) -> dict[str, Any]:
    """The consecutive parts of `flat`, in main memory or on a GPU, in the parameters' shapes."""
    views, start = {}, 0
    for name, parameter in parameters.items():
        size = math.prod(parameter.shape)
        views[name] = flat[start : start + size].reshape(parameter.shape)
        start += size
    return views


class Views(dict[str, Any]):
    """Views by name, which may be referred to weakly."""

    __slots__ = ("__weakref__",)


def read_only(array: np.ndarray) -> np.ndarray:
    """A view to which nobody can write."""
    view = array.view()
    view.flags.writeable = False
    return view
