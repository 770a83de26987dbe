"""The fused first layer: convolution, bias, ReLU and max pooling in one kernel, for images of few channels."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..shapes import ConvGeometry, PoolGeometry
from . import device as door
from .array import DeviceArray, empty
from .problem import Problem, compiled, cut, grid, refuse, shares, sum_partials
from .traffic import Traffic
from .variants import Variant, input_tiles, span

#: Results that a thread keeps in registers: window pixels × filters.
_REGISTERS = 64


class FirstLayer(Variant):
    """For one to four channels; also takes more, if input tile and filters fit into shared memory."""

    name = "first_layer"

    @staticmethod
    def suits(p: Problem) -> bool:
        """Whether "auto" takes it: few channels, and room for the filters."""
        few = p.group_channels <= 4 and p.group_filters >= 8 and p.taps <= 128 and p.up_h == p.up_w == 1
        return few and _tile(p, (1, 1), 8) is not None

    @staticmethod
    def fuses(g: ConvGeometry, pg: PoolGeometry) -> bool:
        """Whether it can also do the pooling `pg` of the convolution `g`: small windows, no overlap, no padding."""
        return (
            (pg.sh, pg.sw) == (pg.kh, pg.kw)
            and (pg.pt, pg.pl) == (0, 0)
            and (pg.oh, pg.ow) == (g.oh // pg.kh, g.ow // pg.kw)
            and pg.kh * pg.kw * 4 <= _REGISTERS
            and FirstLayer.suits(Problem.forward(g))
            and _tile(Problem.forward(g), (pg.kh, pg.kw), 8) is not None
        )

    def _macros(self, p: Problem, pool: tuple[int, int], itemsize: int) -> dict[str, int]:
        macros = _tile(p, pool, itemsize)
        if macros is None:
            raise refuse(
                self.name,
                f"keeps all {p.group_channels} channels of its input tile and filters in shared memory, which a "
                f"{p.kernel_h}×{p.kernel_w} kernel does not fit into",
            )
        return macros

    def convolve(self, p, x, weight, bias, y, relu):
        self.convolve_pool(p, (1, 1), x, weight, bias, y, None, relu)

    def convolve_pool(
        self, p: Problem, pool: tuple[int, int], x: DeviceArray, weight: DeviceArray, bias: DeviceArray | None,
        y: DeviceArray, indices: DeviceArray | None, relu: bool,
    ) -> None:  # fmt: skip
        """Write the largest of each `pool` window of the convolution to `y`, and where it was to `indices`."""
        macros = self._macros(p, pool, x.dtype.itemsize)
        program = compiled("first_layer.cu", p, x.dtype, {**macros, **_GRAD})
        windows_h, windows_w = p.out_h // pool[0], p.out_w // pool[1]
        tiles = cut(windows_h, macros["TILE_H"]) * cut(windows_w, macros["TILE_W"]) * p.images
        where = grid(self.name, tiles, p.groups * cut(p.group_filters, macros["TILE_K"]))
        threads = macros["TILE_K"] // macros["OUT_K"] * macros["TILE_H"] * macros["TILE_W"]
        program.launch(
            "convolve", where, (threads,), x, weight, bias, y, indices, np.int32(relu), p.struct(),
            shared=_shared(p, macros, x.dtype.itemsize),
        )  # fmt: skip

    def traffic(self, p, dtype):
        """Without pooling."""
        tile = self._macros(p, (1, 1), dtype.itemsize)
        pixels, tiles = input_tiles(p, tile["TILE_H"], tile["TILE_W"])
        across = cut(p.group_filters, tile["TILE_K"])
        inputs, weights = p.images * pixels * p.channels * across, p.images * tiles * p.weights
        blocks_of_all = p.images * tiles * p.groups * across
        threads = tile["TILE_K"] // tile["OUT_K"] * tile["TILE_H"] * tile["TILE_W"]
        read = blocks_of_all * threads * p.taps * p.group_channels * (tile["OUT_K"] + 1)
        written = blocks_of_all * _shared(p, tile, 1)
        return Traffic(inputs + weights, p.pixels * p.filters, read, written, p.multiply_adds)

    def weight_grad(self, p, x, dy, dw):
        self.pooled_weight_grad(p, (1, 1), x, dy, None, dw)

    def pooled_weight_grad(
        self, p: Problem, pool: tuple[int, int], x: DeviceArray, dy: DeviceArray, indices: DeviceArray | None,
        dw: DeviceArray,
    ) -> None:  # fmt: skip
        """Write the filters' gradient to `dw`, from the errors of the pooled result."""
        depth = p.taps * p.group_channels
        grad_k = min(32, 1 << (p.group_filters - 1).bit_length())
        grad_t = min(8, 1 << (depth - 1).bit_length())
        grad_d = min(8, cut(depth, grad_t))
        grad = {"GRAD_K": grad_k, "GRAD_T": grad_t, "GRAD_D": grad_d}
        program = compiled("first_layer.cu", p, x.dtype, {**_ANY_TILE, "POOL_H": pool[0], "POOL_W": pool[1], **grad})
        windows = p.images * (p.out_h // pool[0]) * (p.out_w // pool[1])
        across, steps = p.groups * cut(p.group_filters, grad_k), cut(depth, grad_t * grad_d)
        # Each thread waits for memory often: eight times as many blocks as in the other variants keep it busy.
        count, each = shares(windows, 8, cut(across * steps, 8), p.weights, x.dtype.itemsize)
        where = grid(self.name, count, across, steps)
        partial = dw if count == 1 else empty((count, *dw.shape), dw.dtype)
        program.launch(
            "weight_grad", where, (grad_k, grad_t), x, dy, indices, partial, np.int64(each),
            p.struct(),
        )  # fmt: skip
        if count > 1:
            sum_partials(partial, None, dw, count)


def _tile(p: Problem, pool: tuple[int, int], itemsize: int) -> dict[str, int] | None:
    """Macros of the largest tile that fits into shared memory, or None."""
    window = pool[0] * pool[1]
    out_k = 8 if window * 8 * itemsize <= _REGISTERS * 4 and p.group_filters >= 8 else 4
    filters = 1 << (p.group_filters - 1).bit_length()
    for tile_k in (64, 32, 16, 8, 4):
        if tile_k < out_k or tile_k > max(filters, out_k):
            continue
        for tile_h, tile_w in ((8, 8), (4, 8), (4, 4), (2, 4), (1, 2), (1, 1)):
            if not 32 <= tile_k // out_k * tile_h * tile_w <= 256 and (tile_h, tile_w) != (1, 1):
                continue
            macros = {"POOL_H": pool[0], "POOL_W": pool[1], "TILE_H": tile_h, "TILE_W": tile_w, "TILE_K": tile_k}
            macros["OUT_K"] = out_k
            if _shared(p, macros, itemsize) <= door.current().shared_bytes:
                return macros
    return None


def _shared(p: Problem, tile: dict[str, Any], itemsize: int) -> int:
    high = span(tile["TILE_H"] * tile["POOL_H"], p.kernel_h, p.stride_h, p.dilation_h)
    wide = span(tile["TILE_W"] * tile["POOL_W"], p.kernel_w, p.stride_w, p.dilation_w)
    return (high * wide + p.taps * tile["TILE_K"]) * p.group_channels * itemsize


# Both kernels of the file are compiled together; the one that is not used gets any valid sizes.
_GRAD = {"GRAD_K": 1, "GRAD_T": 1, "GRAD_D": 1}
_ANY_TILE = {"TILE_H": 1, "TILE_W": 1, "TILE_K": 4, "OUT_K": 4}
