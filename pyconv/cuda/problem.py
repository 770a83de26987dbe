"""Problem: a convolution as the CUDA kernels see it, and the compiling and launching that all variants share."""

from __future__ import annotations

import functools
import math
import os
import weakref
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, fields, replace
from typing import Any

import numpy as np

from ..errors import InputError
from ..shapes import ConvGeometry
from . import device as door
from .array import DeviceArray, empty, to_device
from .source import Macros

REAL = {"f": "float", "d": "double"}

#: Threads of a block in kernels whose threads each compute one element.
BLOCK = 256


def specialise() -> bool:
    """Whether sizes are compiled in: faster, but each shape is compiled anew. ``PYCONV_CUDA_SPECIALISE=0`` says no."""
    return os.environ.get("PYCONV_CUDA_SPECIALISE", "1") != "0"


@dataclass(frozen=True)
class Problem:
    """The struct ``Shape`` of conv.cuh, field by field; a forward pass or an input gradient."""

    images: int
    height: int
    width: int
    channels: int
    filters: int
    kernel_h: int
    kernel_w: int
    stride_h: int
    stride_w: int
    pad_top: int
    pad_left: int
    dilation_h: int
    dilation_w: int
    up_h: int
    up_w: int
    groups: int
    out_h: int
    out_w: int

    def __hash__(self) -> int:
        return self._hash  # asked for at every launch

    @functools.cached_property
    def _hash(self) -> int:
        return hash(astuple(self))

    @classmethod
    @functools.lru_cache(maxsize=1024)
    def forward(cls, g: ConvGeometry) -> Problem:
        """The problem of the forward pass of `g`; its weight gradient uses it too."""
        return cls(g.n, g.h, g.w, g.c, g.k, g.kh, g.kw, g.sh, g.sw, g.pt, g.pl, g.dh, g.dw, 1, 1, g.groups, g.oh, g.ow)

    @classmethod
    @functools.lru_cache(maxsize=1024)
    def input_grad(cls, g: ConvGeometry) -> Problem:
        """The problem of the input gradient of `g`: a convolution of the output's gradient with turned filters."""
        top, left = (g.kh - 1) * g.dh - g.pt, (g.kw - 1) * g.dw - g.pl
        return cls(g.n, g.oh, g.ow, g.k, g.c, g.kh, g.kw, 1, 1, top, left, g.dh, g.dw, g.sh, g.sw, g.groups, g.h, g.w)

    @property
    def group_channels(self) -> int:
        """Input channels of a group."""
        return self.channels // self.groups

    @property
    def group_filters(self) -> int:
        """Filters of a group."""
        return self.filters // self.groups

    @property
    def taps(self) -> int:
        """Kernel positions."""
        return self.kernel_h * self.kernel_w

    @property
    def weights(self) -> int:
        """Numbers in the filters."""
        return self.taps * self.group_channels * self.filters

    @property
    def pixels(self) -> int:
        """Output pixels."""
        return self.images * self.out_h * self.out_w

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of the whole convolution."""
        return self.pixels * self.filters * self.taps * self.group_channels

    @functools.cached_property
    def _sizes(self) -> Problem:
        """The same problem without the number of images: the sizes that are compiled in."""
        return self.with_images(0)

    @functools.lru_cache(maxsize=1024)  # noqa: B019 (problems are small and few)
    def struct(self) -> np.ndarray:
        """The problem as an argument of the kernels."""
        return np.array(astuple(self), np.int32)

    def macros(self, dtype: Any) -> dict[str, int | str]:
        """Macros for the compiler: the type and, if specialised, every size but the number of images."""
        macros: dict[str, int | str] = {"REAL": REAL[np.dtype(dtype).char]}
        if specialise():
            macros["SPECIALISED"] = 1
            for field in fields(self)[1:]:
                value = getattr(self, field.name)
                macros[field.name.upper()] = value if value >= 0 else f"({value})"
        return macros

    def key(self) -> str:
        """The problem's name in the file of tuned tiles: all sizes."""
        return "-".join(map(str, astuple(self)))

    def with_images(self, images: int) -> Problem:
        """The same problem with another number of images."""
        return replace(self, images=images)


def refuse(algorithm: str, why: str) -> InputError:
    """The error for a shape that a variant does not take."""
    others = " or ".join(repr(name) for name in ("naive", "implicit_gemm") if name != algorithm)
    return InputError(f"algorithm {algorithm!r} of backend cuda {why}; use {others}")


#: The most blocks that CUDA allows in a grid.
GRID = (2**31 - 1, 65535, 65535)


def grid(algorithm: str, *sizes: int) -> tuple[int, ...]:
    """`sizes` as the grid of a launch; raises an InputError if CUDA does not allow so many blocks."""
    if any(size > most for size, most in zip(sizes, GRID)):
        needed, most = ("×".join(map(str, numbers)) for numbers in (sizes, GRID[: len(sizes)]))
        raise refuse(algorithm, f"needs a grid of {needed} blocks for this shape, and CUDA allows {most}")
    return sizes


def blocks(total: int, block: int = BLOCK) -> tuple[int]:
    """A grid of `block` threads a block for `total` elements."""
    return (max(1, -(-total // block)),)


def cut(size: int, tile: int) -> int:
    """How many tiles cover `size`."""
    return -(-size // tile)


def shares(pixels: int, step: int, parallel: int, weights: int, itemsize: int) -> tuple[int, int]:
    """How a weight gradient's sum over pixels is divided: number of parts, and pixels in each, a multiple of `step`.

    There are enough parts for four blocks a multiprocessor, where `parallel` blocks work on each part, but at most
    64 MiB of partial sums. The parts depend on the shape and the GPU only, and so do the bits of the result.
    """
    wanted = cut(4 * door.current().multiprocessors, max(parallel, 1))
    room = max(1, (64 << 20) // (weights * itemsize))
    count = max(1, min(wanted, room, cut(pixels, 4 * step)))
    each = cut(cut(pixels, count), step) * step
    return cut(pixels, each), each


_kept: weakref.WeakKeyDictionary[Any, dict[Any, Any]] = weakref.WeakKeyDictionary()


def keep(key: Any, make: Callable[[], Any]) -> Any:
    """The result of `make`, which is called once for each device and `key`: constant tables, compiled programs."""
    known = _kept_here()
    found = known.get(key)
    if found is None:
        found = known[key] = make()
    return found


def forget() -> None:
    """Forget what was kept for this device, because its tiles are now chosen differently."""
    _kept_here().clear()


_latest: tuple[Callable[[], Any], dict[Any, Any]] = (lambda: None, {})


def _kept_here() -> dict[Any, Any]:
    """What is kept for the current device; the last device is found at once, as it is usually the only one."""
    global _latest
    device = door.current()
    if _latest[0]() is not device:
        _latest = weakref.ref(device), _kept.setdefault(device, {})
    return _latest[1]


def table(key: Any, values: Callable[[], Sequence[int] | np.ndarray]) -> DeviceArray:
    """Constant ints on the device, copied there once for each `key`."""
    return keep(key, lambda: to_device(np.array(values(), np.int32)))


def helper(dtype: Any) -> Any:
    """The program of helpers.cu: turned filters, sums of parts, reordered axes."""
    char = np.dtype(dtype).char
    return keep(("helpers.cu", char), lambda: door.current().compile("helpers.cu", {"REAL": REAL[char]}))


def turned(weight: DeviceArray, g: ConvGeometry, taps: Sequence[int]) -> DeviceArray:
    """The filters for an input gradient: kernel positions in the order `taps`, channels and filters exchanged."""
    result = empty((len(taps), g.k // g.groups, g.c), weight.dtype)
    helper(weight.dtype).launch(
        "turn_filters", blocks(result.size), (BLOCK,), weight, result, table(("taps", tuple(taps)), lambda: taps),
        np.int32(len(taps)), np.int32(g.c), np.int32(g.k), np.int32(g.groups),
    )  # fmt: skip
    return result


def sum_partials(
    partial: DeviceArray, bias: DeviceArray | None, result: DeviceArray, count: int, *, relu: bool = False
) -> None:
    """Add up `count` parts in order, then bias and ReLU."""
    helper(result.dtype).launch(
        "sum_partials", blocks(result.size), (BLOCK,), partial, bias, result, np.int64(result.size), np.int32(count),
        np.int32(result.shape[-1]), np.int32(relu),
    )  # fmt: skip


def permute(array: DeviceArray, axes: tuple[int, ...]) -> DeviceArray:
    """`array`, of four axes, with its axes in the order `axes`."""
    strides = [math.prod(array.shape[axis + 1 :]) for axis in range(4)]
    result = empty(tuple(array.shape[axis] for axis in axes), array.dtype)
    if result.size:
        helper(array.dtype).launch(
            "permute", blocks(result.size), (BLOCK,), array, result, *(np.int64(strides[axis]) for axis in axes),
            *(np.int32(size) for size in result.shape),
        )  # fmt: skip
    return result


def compiled(file: str, problem: Problem, dtype: Any, more: Macros) -> Any:
    """The program of a variant for `problem`, with the tile's macros `more`."""
    problem = problem._sizes if specialise() else _ANY
    key = (file, problem, np.dtype(dtype).char, tuple(more.items()))
    return keep(key, lambda: door.current().compile(file, {**problem.macros(dtype), **more}))


_ANY = Problem(*[0] * len(fields(Problem)))
