"""DeviceArray: an array in the GPU's memory, and how arrays get there and back."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..errors import DtypeError, InputError, ShapeError
from . import device as door


class DeviceArray:
    """A C-contiguous array in the GPU's memory.

    Other libraries take it without a copy through ``__cuda_array_interface__``: ``cupy.asarray(a)``,
    ``torch.as_tensor(a, device="cuda")``. Nothing is copied to main memory unless :meth:`get` is called.

    Parameters
    ----------
    shape : tuple of int
    dtype : dtype
    address : int
        Of the first element, on the device.
    owner : object
        Holds the memory; it is kept as long as the array is.

    Attributes
    ----------
    shape : tuple of int
    dtype : dtype
    address, size : int
        Of the first element, on the device; and the number of elements.
    """

    __slots__ = ("_owner", "address", "dtype", "shape", "size")

    #: NumPy leaves mixed arithmetic to us, and we offer none: an error beats a silent copy.
    __array_ufunc__ = None

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike, address: int, owner: object) -> None:
        self.shape = tuple(shape)
        self.dtype: np.dtype = np.dtype(dtype)
        self.address = address
        self.size = math.prod(self.shape)
        self._owner = owner  # keeps the memory alive

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.size * self.dtype.itemsize

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        # Stream 1, the legacy default one: consumers on other streams wait for what we started there.
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address, False),
            "strides": None,
            "version": 3,
            "stream": 1,
        }

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError("this array is in the GPU's memory: call its get() for a copy in main memory")

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<DeviceArray {self.shape} {self.dtype}>"

    def get(self, out: np.ndarray | None = None) -> np.ndarray:
        """A copy in main memory, after everything that was started before.

        Parameters
        ----------
        out : ndarray, optional
            Where it goes: C-contiguous, of this shape and dtype.

        Returns
        -------
        ndarray
            `out`, or a fresh array.

        Raises
        ------
        InputError
            If `out` does not fit.
        """
        host = np.empty(self.shape, self.dtype) if out is None else out
        if host.shape != self.shape or host.dtype != self.dtype or not host.flags.c_contiguous:
            raise InputError(f"out must be a C-contiguous array of shape {self.shape} and dtype {self.dtype}")
        if self.size:
            door.current().copy_out(host, self.address)
        return host

    def set(self, value: DeviceArray | np.ndarray) -> None:
        """Overwrite all elements.

        Parameters
        ----------
        value : DeviceArray or ndarray
            Of this shape and dtype.

        Raises
        ------
        ShapeError
            If `value` does not fit.
        """
        if tuple(value.shape) != self.shape or value.dtype != self.dtype:
            raise ShapeError(f"{value.dtype} {tuple(value.shape)} does not fit into {self.dtype} {self.shape}")
        if not self.size:
            return
        if isinstance(value, DeviceArray):
            if value.address != self.address:
                door.current().copy(self.address, value.address, self.nbytes)
        else:
            door.current().copy_in(self.address, np.ascontiguousarray(value))

    def __setitem__(self, key: Any, value: Any) -> None:
        if key is not Ellipsis:
            raise InputError("a device array is overwritten whole: a[...] = value, or a[start:stop].set(value)")
        self.set(value)

    def __getitem__(self, key: slice) -> DeviceArray:
        """A view of consecutive entries of the first axis."""
        if not isinstance(key, slice) or key.step not in (None, 1):
            raise InputError("of a device array, consecutive entries of the first axis can be taken: a[start:stop]")
        start, stop, _ = key.indices(self.shape[0])
        row = math.prod(self.shape[1:])
        shape = (max(stop - start, 0), *self.shape[1:])
        return DeviceArray(shape, self.dtype, self.address + start * row * self.dtype.itemsize, self._owner)

    def reshape(self, *shape: int | Sequence[int]) -> DeviceArray:
        """The same memory in another shape.

        Parameters
        ----------
        *shape : int, or one tuple of int
            One size may be -1: it is worked out from the others.

        Returns
        -------
        DeviceArray

        Raises
        ------
        ShapeError
            If the product of the sizes is not this array's size.
        """
        sizes: list[Any] = list(shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape)
        if -1 in sizes:
            at = sizes.index(-1)
            rest = math.prod(sizes[:at] + sizes[at + 1 :])
            sizes[at] = self.size // rest if rest else 0
        if math.prod(sizes) != self.size:
            raise ShapeError(f"an array of shape {self.shape} cannot become one of shape {tuple(sizes)}")
        return DeviceArray(tuple(map(operator.index, sizes)), self.dtype, self.address, self._owner)

    def view(self, dtype: DTypeLike) -> DeviceArray:
        """The same bytes as a vector of another dtype.

        Parameters
        ----------
        dtype : dtype

        Returns
        -------
        (n,) DeviceArray
        """
        dtype = np.dtype(dtype)
        return DeviceArray((self.nbytes // dtype.itemsize,), dtype, self.address, self._owner)

    def copy(self) -> DeviceArray:
        """Another array with the same values.

        Returns
        -------
        DeviceArray
        """
        other = empty(self.shape, self.dtype)
        other.set(self)
        return other


def empty(shape: tuple[int, ...], dtype: Any) -> DeviceArray:
    """A device array that holds garbage.

    Raises
    ------
    DeviceMemoryError
        If the device's memory does not suffice.
    """
    dtype = np.dtype(dtype)
    memory = door.current().allocate(math.prod(shape) * dtype.itemsize)
    return DeviceArray(shape, dtype, memory.address, memory)


def zeros(shape: tuple[int, ...], dtype: Any) -> DeviceArray:
    """A device array of zeros."""
    array = empty(shape, dtype)
    door.current().clear(array.address, array.nbytes)
    return array


def to_device(host: np.ndarray) -> DeviceArray:
    """A copy of `host` on the device."""
    host = np.ascontiguousarray(host)
    array = empty(host.shape, host.dtype)
    array.set(host)
    return array


def on_device(value: Any) -> bool:
    """Whether `value` is an array in device memory.

    Raises
    ------
    InputError
        If its library does not share it, as PyTorch does not share an array that records a gradient.
    """
    try:
        return isinstance(value, DeviceArray) or hasattr(value, "__cuda_array_interface__")
    except RuntimeError as error:
        raise InputError(f"an array on the GPU is not shared by its library: {' '.join(str(error).split())}") from None


def adopt(value: Any, name: str) -> DeviceArray:
    """Another library's device array as a DeviceArray, without a copy.

    Raises
    ------
    InputError
        If it is not C-contiguous, or is in another GPU's memory. `name` is what the message calls the argument.
    DtypeError
        If pyconv does not compute in its dtype.
    """
    if isinstance(value, DeviceArray):
        return value
    interface = value.__cuda_array_interface__
    shape, dtype = tuple(interface["shape"]), np.dtype(interface["typestr"])
    if not dtype.isnative or dtype.char not in "fdil":
        raise DtypeError(f"{name} has dtype {dtype}; convert it to float32 or float64 first")
    if interface.get("mask") is not None:
        raise InputError(f"{name} has a mask, which pyconv does not take; fill its masked numbers first")
    strides, step = interface.get("strides"), dtype.itemsize
    if strides is not None:
        for size, stride in zip(reversed(shape), reversed(tuple(strides))):
            if size != 1 and stride != step:
                raise InputError(
                    f"{name} is on the GPU and not C-contiguous; make it so first: .contiguous() in PyTorch, "
                    "cupy.ascontiguousarray in CuPy"
                )
            step *= size
    address = int(interface["data"][0] or 0)
    array = DeviceArray(shape, dtype, address, value)
    if array.size:
        device = door.current()
        where = device.owner(address)
        if where is not None and where != device.number:
            raise InputError(
                f"{name} is on GPU {where}, but this process computes on GPU {device.number}; move it there, "
                f"or set PYCONV_GPUS={where} before pyconv first uses a GPU"
            )
        device.wrap(address, array.nbytes, interface.get("stream"))
    return array
