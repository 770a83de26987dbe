"""Door: the checks of every operation's arguments: backend, threads, layout, dtypes, shapes."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyconv.arrays import as_array
from pyconv.backends import Backend
from pyconv.backends import get as get_backend
from pyconv.errors import DtypeError, ShapeError
from pyconv.shapes import shape4
from pyconv.values import choice

LAYOUTS = ("NHWC", "NCHW")
ACTIVATIONS = ("relu",)

_TO_NHWC, _TO_NCHW = (0, 2, 3, 1), (0, 3, 1, 2)
_FILTERS_FROM_NCHW, _FILTERS_TO_NCHW = (2, 3, 1, 0), (3, 2, 0, 1)


class Door:
    """Prepares the arguments of an operation for the backend, and its result for the caller."""

    def __init__(self, backend: str, layout: str, threads: int | None) -> None:
        layout = choice(layout, "layout", LAYOUTS)
        self.backend: Backend = get_backend(backend)
        self.threads = self.backend.threads(threads)
        self.layout, self.nchw = layout, layout == "NCHW"

    def images(self, value: Any, name: str) -> Any:
        array = self.backend.admit(value, name, 4)
        return self.backend.permute(array, _TO_NHWC) if self.nchw else array

    def filters(self, value: Any, name: str) -> Any:
        array = self.backend.admit(value, name, 4)
        return self.backend.permute(array, _FILTERS_FROM_NCHW) if self.nchw else array

    def image_shape(self, shape: Any) -> tuple[int, ...]:
        sizes = shape4(shape, "input_shape")
        return tuple(sizes[axis] for axis in _TO_NHWC) if self.nchw else sizes

    def filter_shape(self, shape: Any) -> tuple[int, ...]:
        sizes = shape4(shape, "weight_shape")
        return tuple(sizes[axis] for axis in _FILTERS_FROM_NCHW) if self.nchw else sizes

    def images_out(self, array: Any) -> Any:
        return self.backend.permute(array, _TO_NCHW) if self.nchw else array

    def filters_out(self, array: Any) -> Any:
        return self.backend.permute(array, _FILTERS_TO_NCHW) if self.nchw else array


def rank(value: Any, name: str) -> int:
    """The number of dimensions of an array, in main memory or on a GPU, for operations that take any number."""
    if hasattr(value, "__cuda_array_interface__"):
        return int(np.ndim(value))
    return as_array(value, name).ndim


def same_dtype(**arrays: Any) -> None:
    """Raise an error for arrays of different dtypes, which it names."""
    if len({array.dtype for array in arrays.values() if array is not None}) > 1:
        dtypes = {name: array.dtype for name, array in arrays.items() if array is not None}
        found = ", ".join(f"{name} is {dtype}" for name, dtype in dtypes.items())
        raise DtypeError(f"the arrays must have one dtype: {found}")


def expect_shape(array: Any, expected: tuple[int, ...], name: str) -> None:
    """Raise an error for an array whose shape does not fit the geometry."""
    if tuple(array.shape) != tuple(expected):
        raise ShapeError(f"{name} has shape {tuple(array.shape)} where {tuple(expected)} is expected (NHWC order)")


def check_activation(activation: str | None) -> None:
    """Raise an error for an unknown activation."""
    if activation is not None:
        choice(activation, "activation", ACTIVATIONS)
