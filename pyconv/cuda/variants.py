"""The paper's variants: how each is divided over blocks and threads, and which shapes it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..shapes import ConvGeometry
from . import device as door
from . import traffic
from .array import DeviceArray, empty
from .problem import BLOCK, Problem, blocks, compiled, cut, grid, refuse, shares, sum_partials, turned


class Variant:
    """One way to convolve; a new one is a subclass, its .cu file and a line in :data:`pyconv.cuda.choice.TABLE`.

    Attributes
    ----------
    name : str
        As in ``pyconv.algorithms("cuda")``; the file is ``name.cu``.
    """

    name: str

    def convolve(
        self, p: Problem, x: DeviceArray, weight: DeviceArray, bias: DeviceArray | None, y: DeviceArray, relu: bool
    ) -> None:
        """Write the convolution to `y`."""
        raise TypeError(f"{self.name} has no forward pass")

    def weight_grad(self, p: Problem, x: DeviceArray, dy: DeviceArray, dw: DeviceArray) -> None:
        """Write the filters' gradient to `dw`."""
        raise TypeError(f"{self.name} has no weight gradient")

    def traffic(self, p: Problem, dtype: np.dtype) -> traffic.Traffic:
        """What the threads of :meth:`convolve` read and write."""
        raise TypeError(f"{self.name} does not count its memory traffic")

    def input_grad(self, g: ConvGeometry, dy: DeviceArray, weight: DeviceArray, dx: DeviceArray) -> None:
        """Write the images' gradient to `dx`: the convolution of `dy` with the turned filters."""
        backwards = range(g.kh * g.kw - 1, -1, -1)
        self.convolve(Problem.input_grad(g), dy, turned(weight, g, backwards), None, dx, False)


class Naive(Variant):
    """Algorithm 3: one thread for each output point."""

    name = "naive"

    def convolve(self, p, x, weight, bias, y, relu):
        program = compiled("naive.cu", p, x.dtype, {})
        program.launch("convolve", blocks(y.size), (BLOCK,), x, weight, bias, y, np.int32(relu), p.struct())

    def traffic(self, p, dtype):
        """Each output point reads one input and one weight for each of its products."""
        products = p.images * p.filters * p.group_channels
        for axis in axes(p):
            products *= traffic.taps_inside(*axis)
        return traffic.Traffic(2 * products, p.pixels * p.filters, 0, 0, p.multiply_adds)

    def weight_grad(self, p, x, dy, dw):
        program = compiled("naive.cu", p, x.dtype, {})
        program.launch("weight_grad", blocks(dw.size), (BLOCK,), x, dy, dw, p.struct())


def span(tile: int, kernel: int, stride: int, dilation: int) -> int:
    """Input pixels, along one axis, that `tile` outputs need."""
    return (tile - 1) * stride + (kernel - 1) * dilation + 1


def axes(p: Problem) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Outputs, kernel, stride, dilation, padding, spread and pixels of each axis, as :mod:`traffic` takes them."""
    return (
        (p.out_h, p.kernel_h, p.stride_h, p.dilation_h, p.pad_top, p.up_h, p.height),
        (p.out_w, p.kernel_w, p.stride_w, p.dilation_w, p.pad_left, p.up_w, p.width),
    )


def input_tiles(p: Problem, tile_h: int, tile_w: int) -> tuple[int, int]:
    """Pixels that the input tiles of one image hold in all, without padding, and the number of tiles."""
    (high, down), (wide, across) = (
        traffic.tiles_inside(out, tile, *rest) for (out, *rest), tile in zip(axes(p), (tile_h, tile_w))
    )
    return high * wide, down * across


class SharedInput(Variant):
    """The input tile in shared memory."""

    name = "shared_input"
    #: Whether the filters are there too.
    filters_too = False

    def tile(self, p: Problem, dtype: Any) -> tuple[dict[str, int], int]:
        """Tile sizes for `p`, and bytes of shared memory; as many channels at a time as fit."""
        itemsize, room = np.dtype(dtype).itemsize, door.current().shared_bytes
        tile_k = min(32, 1 << (p.group_filters - 1).bit_length())
        for tile_h, tile_w in ((4, 8), (2, 4), (1, 2), (1, 1)) if tile_k <= 8 else ((2, 4), (1, 2), (1, 1)):
            pixels = span(tile_h, p.kernel_h, p.stride_h, p.dilation_h) * span(
                tile_w, p.kernel_w, p.stride_w, p.dilation_w
            )
            one = pixels + self.filters_too * p.taps * tile_k
            for tile_c in (32, 16, 8, 4, 2, 1):
                if (tile_c == 1 or tile_c < 2 * p.group_channels) and one * tile_c * itemsize <= room:
                    macros = {"TILE_H": tile_h, "TILE_W": tile_w, "TILE_K": tile_k, "TILE_C": tile_c, "TILE_P": 32}
                    return macros, one * tile_c * itemsize
        what = "input tile and filters" if self.filters_too else "input tile"
        raise refuse(
            self.name,
            f"keeps its {what} in {room >> 10} KiB of shared memory, which a {p.kernel_h}×{p.kernel_w} kernel with "
            f"dilation {p.dilation_h}×{p.dilation_w} does not fit into",
        )

    def convolve(self, p, x, weight, bias, y, relu):
        tile, shared = self.tile(p, x.dtype)
        program = compiled(f"{self.name}.cu", p, x.dtype, tile)
        tiles = cut(p.out_h, tile["TILE_H"]) * cut(p.out_w, tile["TILE_W"]) * p.images
        where = grid(self.name, tiles, p.groups * cut(p.group_filters, tile["TILE_K"]))
        block = (tile["TILE_K"], tile["TILE_W"], tile["TILE_H"])
        program.launch("convolve", where, block, x, weight, bias, y, np.int32(relu), p.struct(), shared=shared)

    def traffic(self, p, dtype):
        """Tiles from global memory, once for each block of filters; weights from global or shared memory."""
        tile, shared = self.tile(p, dtype)
        pixels, tiles = input_tiles(p, tile["TILE_H"], tile["TILE_W"])
        across, rounds = cut(p.group_filters, tile["TILE_K"]), cut(p.group_channels, tile["TILE_C"])
        inputs = p.images * pixels * p.channels * across
        blocks_of_all = p.images * tiles * p.groups * across
        written = blocks_of_all * rounds * shared // dtype.itemsize
        if self.filters_too:  # threads past the result's edge compute too
            threads = tile["TILE_K"] * tile["TILE_W"] * tile["TILE_H"]
            weights = p.images * tiles * p.weights
            read = blocks_of_all * threads * rounds * p.taps * tile["TILE_C"] * 2
        else:
            weights = read = p.multiply_adds
        return traffic.Traffic(inputs + weights, p.pixels * p.filters, read, written, p.multiply_adds)

    def weight_grad(self, p, x, dy, dw):
        tile = {"TILE_H": 1, "TILE_W": 1, "TILE_P": 32}
        tile["TILE_K"] = min(32, 1 << (p.group_filters - 1).bit_length())
        tile["TILE_C"] = min(8, 1 << (p.group_channels - 1).bit_length())
        program = compiled(f"{self.name}.cu", p, x.dtype, tile)
        across = p.groups * cut(p.group_channels, tile["TILE_C"]) * cut(p.group_filters, tile["TILE_K"])
        count, each = shares(p.pixels, tile["TILE_P"], across * p.taps, p.weights, x.dtype.itemsize)
        where = grid(self.name, count, across, p.taps)
        partial = dw if count == 1 else empty((count, *dw.shape), dw.dtype)
        shared = tile["TILE_P"] * (tile["TILE_C"] + self.filters_too * tile["TILE_K"]) * x.dtype.itemsize
        program.launch(
            "weight_grad", where, (tile["TILE_K"], tile["TILE_C"]), x, dy, partial, np.int64(each),
            p.struct(), shared=shared,
        )  # fmt: skip
        if count > 1:
            sum_partials(partial, None, dw, count)


class SharedInputFilter(SharedInput):
    """The input tile and the filters in shared memory."""

    name = "shared_input_filter"
    filters_too = True
