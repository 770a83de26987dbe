"""The types of the arrays that operations take and give: NumPy's in main memory, any library's on a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .cuda.array import DeviceArray


class GPUArray(Protocol):
    """An array in a GPU's memory, of pyconv, CuPy, PyTorch or another library that shares it without a copy."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Address, shape and dtype, as the CUDA array interface, version 3, lays them down."""


#: float32 or float64 in main memory, or on a GPU.
AnyArray: TypeAlias = "NDArray[np.floating] | GPUArray"

#: The first array of an operation and its result, which is where that array is: NumPy's beside NumPy's, a
#: :class:`pyconv.cuda.DeviceArray` beside one, and one again for another library's array on a GPU.
Array = TypeVar("Array", NDArray[np.floating], NDArray[np.float64], "DeviceArray", GPUArray)
