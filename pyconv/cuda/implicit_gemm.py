"""The variant implicit_gemm, convolution as a product of matrices: tiles, tables and launches of its kernel."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..shapes import ConvGeometry
from . import device as door
from .array import DeviceArray, empty
from .problem import Problem, compiled, cut, grid, keep, refuse, specialise, sum_partials, table, turned
from .traffic import Traffic, taps_inside
from .variants import Variant, axes

#: Rows of the sum that are in shared memory at a time.
DEPTH = 8


@dataclass(frozen=True)
class GemmTile:
    """Pixels × filters of a block and of a thread; `efficiency` is the share of the FMA peak on a full GPU."""

    m: int
    n: int
    per_m: int
    per_n: int
    efficiency: float

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.m // self.per_m * (self.n // self.per_n)

    def macros(self, vector_x: int, vector_w: int) -> dict[str, int | str]:
        """The tile as macros for the compiler."""
        return {
            "TILE_M": self.m,
            "TILE_N": self.n,
            "PER_M": self.per_m,
            "PER_N": self.per_n,
            "DEPTH": DEPTH,
            "VECTOR_X": vector_x,
            "VECTOR_W": vector_w,
        }


# The efficiencies are estimates from shared-memory reads per multiply-add, and threads that hide waiting.
_LARGE = (
    GemmTile(128, 128, 8, 8, 0.85),
    GemmTile(128, 64, 8, 8, 0.80),
    GemmTile(64, 128, 8, 8, 0.80),
    GemmTile(128, 32, 8, 4, 0.65),
)
_SMALL = (
    GemmTile(64, 64, 4, 4, 0.60),
    GemmTile(64, 32, 4, 4, 0.55),
    GemmTile(32, 64, 4, 4, 0.55),
    GemmTile(32, 32, 4, 4, 0.50),
    GemmTile(64, 16, 4, 4, 0.40),
    GemmTile(128, 4, 4, 4, 0.20),
)


@functools.lru_cache(maxsize=1024)
def choose(
    m: int, n: int, depth: int, groups: int, itemsize: int, multiprocessors: int, split: bool
) -> tuple[GemmTile, int]:
    """The tile, and the number of parts of the sum, with the least estimated time for an m × n result of `depth`
    products.

    A multiprocessor does 128 multiply-adds a cycle; the last round of blocks takes as long as a full one. Parts cost
    the writing and reading of their results, and the start of another kernel.
    """
    best: tuple[float, GemmTile, int] | None = None
    for tile in (*_LARGE, *_SMALL) if itemsize == 4 else _SMALL:
        blocks = cut(m, tile.m) * cut(n, tile.n) * groups
        for count in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512):
            each = cut(cut(depth, count), DEPTH) * DEPTH
            if count > 1 and (
                not split or each < 4 * DEPTH or groups * count > 65535 or count * m * n * groups * itemsize > 64 << 20
            ):
                break
            work = tile.m * tile.n * (each + 4 * DEPTH) / (128 * tile.efficiency)
            time = cut(blocks * count, multiprocessors) * work
            if count > 1:
                time += 3000 + (count + 1) * m * n * groups * itemsize / (18 * multiprocessors)
            if best is None or time < best[0]:
                best = (time, tile, count)
    assert best is not None
    return best[1], best[2]


@dataclass(frozen=True)
class Phase:
    """Output pixels ``first + a step`` on each axis, and the kernel positions that they need, each with its shift."""

    first_h: int
    first_w: int
    rows: int
    columns: int
    taps: tuple[tuple[int, int, int], ...]  # kernel position, rows down, columns across


@functools.lru_cache(maxsize=1024)
def forward_phase(g: ConvGeometry) -> Phase:
    """All output pixels in one phase."""
    taps = tuple((i * g.kw + j, i * g.dh - g.pt, j * g.dw - g.pl) for i in range(g.kh) for j in range(g.kw))
    return Phase(0, 0, g.oh, g.ow, taps)


@functools.lru_cache(maxsize=1024)
def input_phases(g: ConvGeometry) -> tuple[Phase, ...]:
    """Phases of the input gradient: the pixels at one place in the stride meet the same kernel positions."""

    def axis(size: int, kernel: int, stride: int, dilation: int, pad: int) -> list[tuple[int, int, list]]:
        found = []
        for first in range(min(stride, size)):
            meets = [
                (i, (first + pad - i * dilation) // stride)
                for i in range(kernel)
                if (first + pad - i * dilation) % stride == 0
            ]
            found.append((first, cut(size - first, stride), meets))
        return found

    return tuple(
        Phase(first_h, first_w, rows, columns, tuple((i * g.kw + j, r, s) for i, r in down for j, s in across))
        for first_h, rows, down in axis(g.h, g.kh, g.sh, g.dh, g.pt)
        for first_w, columns, across in axis(g.w, g.kw, g.sw, g.dw, g.pl)
    )


def tap_table(p: Problem, taps: tuple[tuple[int, int, int], ...], vector: int) -> DeviceArray:
    """For each row of the sum (`vector` rows a step), the distance of its input from a pixel's first input."""
    key = ("moves", p.width, p.channels, p.group_channels, taps, vector)

    def rows() -> np.ndarray:
        channels = np.arange(0, p.group_channels, vector)
        moves = np.array([(row, column) for _, row, column in taps], np.int64).reshape(-1, 2)
        length = cut(max(len(taps) * p.group_channels, 1), DEPTH) * DEPTH // vector
        rows = np.zeros((length, 4), np.int64)
        filled = len(taps) * len(channels)
        offsets = (moves[:, 0] * p.width + moves[:, 1])[:, None] * p.channels + channels
        rows[:filled, 0] = offsets.ravel()
        rows[:filled, 1:3] = np.repeat(moves, len(channels), axis=0)
        return rows

    return table(key, rows)


def vectors(p: Problem, left: DeviceArray, *others: DeviceArray) -> tuple[int, int]:
    """Numbers read at once along channels and filters: 4 or 2 if sizes and addresses are multiples of it, else 1."""
    return _wide(p.group_channels, left), _wide(p.group_filters, *others)


def _wide(size: int, *arrays: DeviceArray) -> int:
    for count in (4, 2):
        aligned = (array.address % min(16, count * array.dtype.itemsize) == 0 for array in arrays)
        if size % count == 0 and all(aligned):
            return count
    return 1


@dataclass(frozen=True)
class _Plan:
    """A convolution ready to be launched: for each phase its grid, table and place."""

    program: Any
    block: tuple[int, ...]
    count: int
    launches: tuple[tuple[tuple[int, ...], DeviceArray, np.ndarray], ...]
    struct: np.ndarray


class ImplicitGemm(Variant):
    """Register-blocked and double-buffered; takes every shape whose arrays have fewer than 2³¹ numbers."""

    name = "implicit_gemm"

    def _check(self, *arrays: DeviceArray) -> None:
        for array in arrays:
            if array.size > (1 << 31) - 1024:  # the last tile counts past the array's end
                raise refuse(self.name, f"counts with 32 bits: an array of shape {array.shape} is too large for it")

    def convolve(self, p, x, weight, bias, y, relu):
        plan = self._plan("forward", p, x, weight, y, lambda: (forward_phase(_geometry(p)),))
        self._launch(plan, x, weight, bias, y, relu)

    def input_grad(self, g, dy, weight, dx):
        phases = input_phases(g)
        order = tuple(tap for phase in phases for tap, _, _ in phase.taps)
        # With a stride larger than the kernel, some phases have no kernel position at all: their pixels are zero.
        filters = turned(weight, g, order) if order else weight
        plan = self._plan("input_grad", Problem.input_grad(g), dy, filters, dx, lambda: phases)
        self._launch(plan, dy, filters, None, dx, False)

    def traffic(self, p, dtype):
        """Filters once for each row of tiles, images for each column; per_m + per_n numbers for per_m × per_n."""
        depth = p.taps * p.group_channels
        tile, count = choose(
            p.pixels, p.group_filters, depth, p.groups, dtype.itemsize, door.current().multiprocessors, True
        )
        down, across = cut(p.pixels, tile.m), cut(p.group_filters, tile.n)
        products = p.images * p.channels
        for axis in axes(p):
            products *= taps_inside(*axis)
        inputs, weights = products * across, down * p.weights
        each = cut(cut(depth, count), DEPTH) * DEPTH
        slices = sum(cut(max(min(each, depth - share * each), 0), DEPTH) for share in range(count))
        blocks_of_all = down * across * p.groups
        read = blocks_of_all * slices * DEPTH * tile.threads * (tile.per_m + tile.per_n)
        written = blocks_of_all * slices * DEPTH * (tile.m + tile.n)
        results = p.pixels * p.filters
        summing = 0 if count == 1 else count * results  # sum_partials reads the parts, and writes the result
        return Traffic(inputs + weights + summing, results + summing, read, written, p.multiply_adds)

    def _plan(
        self, way: str, p: Problem, x: DeviceArray, weight: DeviceArray, y: DeviceArray,
        phases: Callable[[], tuple[Phase, ...]],
    ) -> _Plan:  # fmt: skip
        """What is launched for a problem. It is worked out once, so that the device need not wait for the host."""
        wide = vectors(p, x, weight, y)

        def make() -> _Plan:
            self._check(x, weight, y)
            return self._planned(p, phases(), x.dtype, wide)

        return keep((self.name, way, p, x.dtype.char, wide, specialise()), make)

    def _planned(self, p: Problem, phases: tuple[Phase, ...], dtype: np.dtype, wide: tuple[int, int]) -> _Plan:
        largest = max(phases, key=lambda phase: len(phase.taps))
        pixels = p.images * largest.rows * largest.columns * len(phases)
        tile, count = choose(
            pixels, p.group_filters, len(largest.taps) * p.group_channels, p.groups, dtype.itemsize,
            door.current().multiprocessors, True,
        )  # fmt: skip
        step_h, step_w = (p.up_h, p.up_w) if len(phases) > 1 else (1, 1)
        launches, weight_row = [], 0
        for phase in phases:
            depth = len(phase.taps) * p.group_channels
            each = cut(cut(max(depth, 1), count), DEPTH) * DEPTH
            place = np.array(
                [phase.rows, phase.columns, step_h, step_w, phase.first_h, phase.first_w, depth, each, weight_row,
                 count], np.int32,
            )  # fmt: skip
            where = grid(
                self.name, cut(p.images * phase.rows * phase.columns, tile.m), cut(p.group_filters, tile.n),
                p.groups * count,
            )  # fmt: skip
            launches.append((where, tap_table(p, phase.taps, wide[0]), place))
            weight_row += depth
        program = compiled("implicit_gemm.cu", p, dtype, tile.macros(*wide))
        return _Plan(program, (tile.threads,), count, tuple(launches), p.struct())

    def _launch(
        self, plan: _Plan, x: DeviceArray, weight: DeviceArray, bias: DeviceArray | None, y: DeviceArray, relu: bool
    ) -> None:
        out = y if plan.count == 1 else empty((plan.count, *y.shape), y.dtype)
        for where, moves, place in plan.launches:
            plan.program.launch(
                "convolve", where, plan.block, x, weight, bias, out, moves, np.int32(relu), place, plan.struct
            )
        if plan.count > 1:
            sum_partials(out, bias, y, plan.count, relu=relu)

    def weight_grad(self, p, x, dy, dw):
        wide = vectors(p, x, dy, dw)

        def make() -> tuple[Any, ...]:
            self._check(x, dy, dw)
            return self._planned_weight_grad(p, x.dtype, wide)

        key = (self.name, "weight_grad", p, x.dtype.char, wide, specialise())
        program, where, block, moves, numbers, count = keep(key, make)
        partial = dw if count == 1 else empty((count, *dw.shape), dw.dtype)
        program.launch("weight_grad", where, block, x, dy, partial, moves, *numbers)
        if count > 1:
            sum_partials(partial, None, dw, count)

    def _planned_weight_grad(self, p: Problem, dtype: np.dtype, wide: tuple[int, int]) -> tuple[Any, ...]:
        depth = p.taps * p.group_channels
        tile, count = choose(
            depth, p.group_filters, p.pixels, p.groups, dtype.itemsize, door.current().multiprocessors, True
        )
        each = cut(cut(p.pixels, count), DEPTH) * DEPTH
        count = cut(p.pixels, each)
        where = grid(self.name, cut(depth, tile.m), cut(p.group_filters, tile.n), p.groups * count)
        moves = tap_table(p, forward_phase(_geometry(p)).taps, wide[0])
        numbers = np.int32(depth), np.int32(each), np.int32(count), p.struct()
        program = compiled("implicit_gemm.cu", p, dtype, tile.macros(*wide))
        return program, where, (tile.threads,), moves, numbers, count


@functools.lru_cache(maxsize=1024)
def _geometry(p: Problem) -> ConvGeometry:
    """The geometry that a forward problem came from, except the padding at the bottom and the right."""
    return ConvGeometry(
        p.images, p.height, p.width, p.channels, p.filters, p.kernel_h, p.kernel_w, p.stride_h, p.stride_w,
        p.pad_top, 0, p.pad_left, 0, p.dilation_h, p.dilation_w, p.groups, p.out_h, p.out_w,
    )  # fmt: skip
