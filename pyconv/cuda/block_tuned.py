"""The paper's "advanced block setting": chooses the tile and block shapes for a layer, and launches block_tuned.cu."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from . import device as door
from .array import empty
from .problem import Problem, compiled, cut, grid, refuse, shares, sum_partials
from .tile_file import found as in_file
from .traffic import Traffic
from .variants import Variant, input_tiles, span


@dataclass(frozen=True)
class Tile:
    """The macros of block_tuned.cu: what a block computes, and which part of it a thread does."""

    tile_n: int
    tile_h: int
    tile_w: int
    tile_k: int
    tile_c: int
    out_p: int
    out_k: int
    step_c: int

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.tile_n * self.tile_h * (self.tile_w // self.out_p) * (self.tile_k // self.out_k)

    def shared(self, p: Problem, itemsize: int) -> int:
        """Bytes of shared memory of a block."""
        high = span(self.tile_h, p.kernel_h, p.stride_h, p.dilation_h)
        wide = span(self.tile_w, p.kernel_w, p.stride_w, p.dilation_w)
        return (self.tile_n * high * wide + p.kernel_w * self.tile_k) * self.tile_c * itemsize

    def grid(self, p: Problem) -> tuple[int, int]:
        """Blocks of the grid: along pixels, along filters."""
        tiles = cut(p.out_h, self.tile_h) * cut(p.out_w, self.tile_w) * cut(p.images, self.tile_n)
        return tiles, p.groups * cut(p.group_filters, self.tile_k)

    def macros(self) -> dict[str, int | str]:
        """The tile as macros for the compiler."""
        return {name.upper(): value for name, value in asdict(self).items()}

    def cost(self, p: Problem, itemsize: int, multiprocessors: int) -> float:
        """Estimated clock cycles of the whole convolution: a block's cycles times the blocks that a multiprocessor
        gets.

        For each block: the multiply-adds, at 128 a cycle; the shared-memory reads for them, about two cycles when a
        warp reads 16 bytes a thread; and copying to shared memory, about 12 instructions a number. If the blocks do not
        fill the GPU, or the last round of them does not, the fullest multiprocessor decides.
        """
        depth = p.taps * cut(p.group_channels, self.tile_c) * self.tile_c
        flops = self.threads * self.out_p * self.out_k * depth / 128
        packs = self.out_p / self.step_c + self.out_k / 4
        reads = self.threads / 32 * packs * 2 * depth
        high = span(self.tile_h, p.kernel_h, p.stride_h, p.dilation_h)
        wide = span(self.tile_w, p.kernel_w, p.stride_w, p.dilation_w)
        rounds = cut(p.group_channels, self.tile_c)
        copied = rounds * self.tile_c * (self.tile_n * high * wide + p.taps * self.tile_k)
        waits = rounds * (1 + p.kernel_h) * 60
        across, down = self.grid(p)
        at_once = max(1, min(1024 // self.threads, 200 * 1024 // max(self.shared(p, itemsize), 1)))
        each = max(flops, reads) + copied * 12 / 128 + waits / at_once
        return cut(across * down, multiprocessors) * each


def candidates(p: Problem, dtype: Any) -> Iterator[Tile]:
    """Every tile that fits the device and may be fast for `p`, the best estimate first."""
    device, itemsize = door.current(), np.dtype(dtype).itemsize
    found = {tile for tile in _all(p, itemsize) if tile.shared(p, itemsize) <= device.shared_bytes}
    yield from sorted(found, key=lambda tile: (tile.cost(p, itemsize, device.multiprocessors), tile.macros().items()))


def _all(p: Problem, itemsize: int) -> Iterator[Tile]:
    channels = [c for c in (16, 8, 4) if c <= max(4, p.group_channels)] if p.group_channels >= 4 else [1, 2]
    per_pixels = (8, 7, 6, 4, 2, 1) if itemsize == 4 else (4, 2, 1)
    for tile_c in channels:
        step_c = 4 if tile_c % 4 == 0 else 1
        for out_k in (8, 4) if itemsize == 4 else (4,):
            for tile_k in (4, 8, 16, 32, 64, 128):
                if tile_k < out_k or (tile_k > out_k and tile_k >= 2 * p.group_filters):
                    continue
                for out_p in per_pixels:
                    for across in (1, 2, 3, 4):
                        wide = out_p * across
                        if wide > out_p and wide - out_p >= p.out_w:
                            continue
                        for high in (1, 2, 3, 4, 6, 8, 12, 16):
                            if high > 1 and high // 2 >= p.out_h:
                                continue
                            whole = wide >= p.out_w and high >= p.out_h
                            for images in (1, 2, 4, 8) if whole else (1,):
                                tile = Tile(images, high, wide, tile_k, tile_c, out_p, out_k, step_c)
                                if 32 <= tile.threads <= 256 or (p.pixels <= 64 and tile.threads <= 256):
                                    yield tile


def _tuned(algorithm: str, p: Problem, dtype: Any) -> Tile | None:
    """The tile that tuning found for `p` on this device, or None."""
    settings = in_file(algorithm, p, dtype)
    try:
        tile = None if settings is None else Tile(**settings)
    except TypeError:
        return None
    # The kernel does not check its tile: any other one would read past its arrays, or leave numbers out.
    return None if tile is None else next((known for known in candidates(p, dtype) if known == tile), None)


class BlockTuned(Variant):
    """Tile and block shapes chosen for each layer, several outputs a thread."""

    name = "block_tuned"

    def __init__(self) -> None:
        self._known: dict[Any, Tile] = {}

    def choice(self, p: Problem, dtype: Any) -> Tile:
        """The tuned tile if there is one, else the one with the best estimate."""
        device = door.current()
        key = (device.name, device.multiprocessors, p, np.dtype(dtype).char)
        if key not in self._known:
            tile = _tuned(self.name, p, dtype) or next(candidates(p, dtype), None)
            if tile is None:
                raise refuse(
                    self.name,
                    f"keeps its tile in {device.shared_bytes >> 10} KiB of shared memory, which a "
                    f"{p.kernel_h}×{p.kernel_w} kernel with dilation {p.dilation_h}×{p.dilation_w} does not fit into",
                )
            self._known[key] = tile
        return self._known[key]

    def forget(self) -> None:
        """Look the tiles up again, because they were tuned."""
        self._known.clear()

    def convolve(self, p, x, weight, bias, y, relu):
        self.convolve_with(self.choice(p, x.dtype), p, x, weight, bias, y, relu)

    def convolve_with(self, tile: Tile, p, x, weight, bias, y, relu) -> None:
        """The convolution with a given tile."""
        program = compiled("block_tuned.cu", p, x.dtype, {**tile.macros(), **_GRAD})
        program.launch(
            "convolve", grid(self.name, *tile.grid(p)), (tile.threads,), x, weight, bias, y, np.int32(relu), p.struct(),
            shared=tile.shared(p, x.dtype.itemsize),
        )  # fmt: skip

    def traffic(self, p, dtype):
        """Each block reads tiles and weights once; out_p + out_k shared numbers serve out_p × out_k products."""
        tile = self.choice(p, dtype)
        pixels, tiles = input_tiles(p, tile.tile_h, tile.tile_w)
        across, rounds = cut(p.group_filters, tile.tile_k), cut(p.group_channels, tile.tile_c)
        groups_of_images = cut(p.images, tile.tile_n)
        inputs = p.images * pixels * p.channels * across
        weights = groups_of_images * tiles * p.weights
        blocks_of_all = groups_of_images * tiles * p.groups * across
        read = blocks_of_all * tile.threads * rounds * p.taps * tile.tile_c * (tile.out_p + tile.out_k)
        halo = tile.shared(p, 1) - p.kernel_w * tile.tile_k * tile.tile_c
        written = blocks_of_all * rounds * (halo + p.taps * tile.tile_k * tile.tile_c)
        return Traffic(inputs + weights, p.pixels * p.filters, read, written, p.multiply_adds)

    def weight_grad(self, p, x, dy, dw):
        grad_c = min(32, max(4, 1 << (p.group_channels - 1).bit_length()))
        grad_k = min(64, max(4, 1 << (p.group_filters - 1).bit_length()))
        macros = {**_ANY_TILE, "GRAD_C": grad_c, "GRAD_K": grad_k, "GRAD_P": 32 if x.dtype.itemsize == 4 else 16}
        program = compiled("block_tuned.cu", p, x.dtype, macros)
        across = p.groups * cut(p.group_channels, grad_c) * cut(p.group_filters, grad_k)
        count, each = shares(p.pixels, macros["GRAD_P"], across * p.taps, p.weights, x.dtype.itemsize)
        where = grid(self.name, count, across, p.taps)
        partial = dw if count == 1 else empty((count, *dw.shape), dw.dtype)
        program.launch(
            "weight_grad", where, (grad_c * grad_k // 16,), x, dy, partial, np.int64(each),
            p.struct(),
            shared=macros["GRAD_P"] * (grad_c + grad_k) * x.dtype.itemsize,
        )  # fmt: skip
        if count > 1:
            sum_partials(partial, None, dw, count)


# Both kernels of the file are compiled together; the one that is not used gets any valid sizes.
_GRAD = {"GRAD_C": 4, "GRAD_K": 4, "GRAD_P": 8}
_ANY_TILE = Tile(1, 1, 1, 4, 4, 1, 4, 4).macros()
