"""Arrays from outside, in main memory (NumPy's) or on a GPU (any library's): their types, and how they are read."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .errors import InputError, PyconvError
from .values import masked

if TYPE_CHECKING:
    from .cuda.array import DeviceArray


class GPUArray(Protocol):
    """An array in a GPU's memory, of pyconv, CuPy, PyTorch or another library that shares it without a copy."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Address, shape and dtype, as version 3 of the CUDA array interface defines them."""


#: float32 or float64 in main memory, or on a GPU.
AnyArray: TypeAlias = "NDArray[np.floating] | GPUArray"

#: The first array of an operation, and its result, which lies where that array lies: a NumPy array for a NumPy array, a
#: :class:`pyconv.cuda.DeviceArray` for one of these, and for another library's array on a GPU.
Array = TypeVar("Array", NDArray[np.floating], NDArray[np.float64], "DeviceArray", GPUArray)


LARGE = 1 << 16  # bytes


def aligned(shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """An array of garbage; a large one begins at a multiple of 64 bytes: kernels then store whole cache lines."""
    nbytes = math.prod(shape) * np.dtype(dtype).itemsize
    return np.empty(shape, dtype) if nbytes < LARGE else whole_lines(nbytes).view(dtype).reshape(shape)


def whole_lines(nbytes: int) -> np.ndarray:
    """A vector of `nbytes` bytes of garbage that begins at a multiple of 64."""
    memory = np.empty(nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + nbytes]


def as_array(value: ArrayLike, name: str) -> np.ndarray:
    """`value` as a NumPy array of whatever dtype it holds.

    Raises
    ------
    InputError
        If it is no array, such as a list of rows of different lengths, or if it has a mask, which no operation here
        takes. `name` is what the message calls the argument.
    """
    if type(value) is np.ndarray:  # nearly always
        return value
    try:
        array = np.asanyarray(value)
    except Exception as error:  # an object's own __array__ may raise anything
        raise no_array(name, error) from None
    if isinstance(array, np.ma.MaskedArray) or (array.dtype != object and masked(value)):
        raise InputError(f"{name} is a masked array; fill what is masked first, with {name}.filled(0), or leave it out")
    return np.asarray(array)


def no_array(name: str, error: Exception) -> PyconvError:
    """The error for an argument that NumPy cannot read, with its reason; pyconv's errors stay as they are."""
    if isinstance(error, PyconvError):
        return error
    return InputError(f"{name} cannot be read as an array: {' '.join(str(error).split())[:200]}")
