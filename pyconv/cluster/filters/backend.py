"""A backend whose convolutions and dense layers are computed by all ranks together, each with its filters.

Every rank has the whole of what goes into a layer, and computes its filters' or units' part of the result; then all
ranks get all parts. Backwards, each rank computes the gradient of its own weights, which nobody else needs, and the
part of the input's gradient that comes through its filters. These parts are added in the order of the ranks, so that
all ranks have the same numbers. (With groups of channels they lie side by side.) What other layers do, each rank does
for itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from ...arrays import aligned
from ...backends import Backend
from ...backends.compiled import Multicore, Serial
from ...errors import InputError
from ...shapes import ConvGeometry, PoolGeometry
from .. import sums
from ..halo import pieces
from ..world import Message, World
from .parts import shares


class Group:
    """The ranks that compute together, while they do.

    Attributes
    ----------
    world : World
    joint : bool
        Whether all ranks are computing the same now; if not, operations are this rank's own.
    waited_s : float
        Seconds of all exchanges.
    """

    def __init__(self, world: World) -> None:
        self.world, self.joint, self.waited_s = world, False, 0.0

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Within it, all ranks do the same operations in the same order."""
        self.joint = True
        try:
            yield
        finally:
            self.joint = False

    def gathered(self, own: np.ndarray, parts: list[slice], out: np.ndarray) -> np.ndarray:
        """Put the parts of all ranks side by side along the last axis.

        Parameters
        ----------
        own : (..., k) ndarray
            This rank's part, contiguous.
        parts : list of slice
            Where each rank's part is.
        out : (..., K) ndarray
        """
        world, began = self.world, time.perf_counter()
        sends: list[Message] = []
        receives: list[Message] = []
        arrays = [own if rank == world.rank else _empty(out, part) for rank, part in enumerate(parts)]
        for rank in range(world.size):
            if rank != world.rank:
                sends += [(rank, piece) for piece in pieces(own)]
                receives += [(rank, piece) for piece in pieces(arrays[rank])]
        world.swap(sends, receives)
        for array, part in zip(arrays, parts):
            out[..., part] = array
        self.waited_s += time.perf_counter() - began
        return out

    def summed(self, own: np.ndarray, out: np.ndarray) -> np.ndarray:
        """The sum of all ranks' arrays, in the order of the ranks.

        Parameters
        ----------
        own : ndarray
            This rank's, contiguous.
        out : ndarray
        """
        began = time.perf_counter()
        out[...] = sums.in_rank_order(self.world, own)
        self.waited_s += time.perf_counter() - began
        return out


def _empty(whole: np.ndarray, part: slice) -> np.ndarray:
    return np.empty((*whole.shape[:-1], part.stop - part.start), whole.dtype)


def _place(out: Any, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    return aligned(shape, dtype) if out is None else out


class _Conv:
    """This rank's part of a convolution.

    Attributes
    ----------
    filters : list of slice
        Of each rank.
    channels : list of slice
        The input's channels that each rank's filters see.
    g : ConvGeometry
        Of this rank's part.
    """

    def __init__(self, g: ConvGeometry, world: World) -> None:
        self.whole = g
        self.filters = shares(g.k, g.groups, world.size)
        each, of = g.k // g.groups, g.c // g.groups
        self.own = self.filters[world.rank]
        self.channels = [
            slice(0, g.c) if g.groups == 1 else slice(part.start // each * of, part.stop // each * of)
            for part in self.filters
        ]
        self.seen = self.channels[world.rank]
        count = self.own.stop - self.own.start
        groups = 1 if g.groups == 1 else count // each
        self.empty = count == 0
        self.g = dataclasses.replace(g, k=count, c=self.seen.stop - self.seen.start, groups=groups)

    def input(self, x: np.ndarray) -> np.ndarray:
        return x if self.whole.groups == 1 else np.ascontiguousarray(x[..., self.seen])

    def part(self, array: np.ndarray | None) -> Any:
        """This rank's filters of an array whose last axis are all filters."""
        return None if array is None else np.ascontiguousarray(array[..., self.own])


class _Together:
    """The operations that are split; a class of a backend follows it in the order of bases."""

    group: Group

    def conv2d(
        self, x: Any, weight: Any, bias: Any, g: ConvGeometry, *, activation: str | None = None,
        algorithm: str = "auto", threads: int = 1, out: Any = None,
    ) -> Any:  # fmt: skip
        how: dict[str, Any] = {"activation": activation, "algorithm": algorithm, "threads": threads}
        if not self.group.joint:
            return super().conv2d(x, weight, bias, g, out=out, **how)  # type: ignore[misc]
        part, y = _Conv(g, self.group.world), _place(out, g.output_shape, x.dtype)
        own = aligned(part.g.output_shape, x.dtype)
        if not part.empty:
            super().conv2d(part.input(x), part.part(weight), part.part(bias), part.g, out=own, **how)  # type: ignore[misc]
        return self.group.gathered(own, part.filters, y)

    def conv2d_pool(
        self, x: Any, weight: Any, bias: Any, g: ConvGeometry, pg: PoolGeometry, *, activation: str | None = None,
        algorithm: str = "auto", threads: int = 1, out: Any = None, indices: Any = None,
    ) -> Any:  # fmt: skip
        how: dict[str, Any] = {"activation": activation, "algorithm": algorithm, "threads": threads}
        if not self.group.joint:
            return super().conv2d_pool(x, weight, bias, g, pg, out=out, indices=indices, **how)  # type: ignore[misc]
        part, y = _Conv(g, self.group.world), _place(out, pg.output_shape, x.dtype)
        pool = dataclasses.replace(pg, c=part.g.k)
        own = aligned(pool.output_shape, x.dtype)
        places = None if indices is None else np.empty(pool.output_shape, indices.dtype)
        if not part.empty:
            super().conv2d_pool(  # type: ignore[misc]
                part.input(x), part.part(weight), part.part(bias), part.g, pool, out=own, indices=places, **how
            )
        if places is not None:
            self.group.gathered(places, part.filters, indices)
        return self.group.gathered(own, part.filters, y)

    def conv2d_input_grad(
        self, grad_out: Any, weight: Any, g: ConvGeometry, *, algorithm: str = "auto", threads: int = 1, out: Any = None
    ) -> Any:
        how: dict[str, Any] = {"algorithm": algorithm, "threads": threads}
        if not self.group.joint:
            return super().conv2d_input_grad(grad_out, weight, g, out=out, **how)  # type: ignore[misc]
        part, gx = _Conv(g, self.group.world), _place(out, g.input_shape, grad_out.dtype)
        own = np.zeros(part.g.input_shape, grad_out.dtype)
        if not part.empty:
            super().conv2d_input_grad(part.part(grad_out), part.part(weight), part.g, out=own, **how)  # type: ignore[misc]
        if g.groups > 1:
            return self.group.gathered(own, part.channels, gx)
        return self.group.summed(own, gx)

    def conv2d_weight_grad(
        self, x: Any, grad_out: Any, g: ConvGeometry, *, algorithm: str = "auto", threads: int = 1, out: Any = None
    ) -> Any:
        how: dict[str, Any] = {"algorithm": algorithm, "threads": threads}
        if not self.group.joint:
            return super().conv2d_weight_grad(x, grad_out, g, out=out, **how)  # type: ignore[misc]
        part, gw = _Conv(g, self.group.world), _place(out, g.weight_shape, x.dtype)
        gw[...] = 0  # the other ranks keep the others up to date
        if not part.empty:
            own = super().conv2d_weight_grad(part.input(x), part.part(grad_out), part.g, **how)  # type: ignore[misc]
            gw[..., part.own] = own
        return gw

    def conv2d_pool_weight_grad(self, *arrays: Any, **how: Any) -> Any:
        return None if self.group.joint else super().conv2d_pool_weight_grad(*arrays, **how)  # type: ignore[misc]

    def dense(
        self, x: Any, weight: Any, bias: Any, *, activation: str | None = None, threads: int = 1, out: Any = None
    ) -> Any:
        how: dict[str, Any] = {"activation": activation, "threads": threads}
        if not self.group.joint:
            return super().dense(x, weight, bias, out=out, **how)  # type: ignore[misc]
        parts = shares(weight.shape[1], 1, self.group.world.size)
        own, y = parts[self.group.world.rank], _place(out, (len(x), weight.shape[1]), x.dtype)
        result = np.empty((len(x), own.stop - own.start), x.dtype)
        if result.size:
            columns = np.ascontiguousarray(weight[:, own])
            super().dense(x, columns, None if bias is None else bias[own], out=result, **how)  # type: ignore[misc]
        return self.group.gathered(result, parts, y)

    def dense_input_grad(self, grad_out: Any, weight: Any, *, threads: int = 1, out: Any = None) -> Any:
        if not self.group.joint:
            return super().dense_input_grad(grad_out, weight, threads=threads, out=out)  # type: ignore[misc]
        own = shares(weight.shape[1], 1, self.group.world.size)[self.group.world.rank]
        gx = _place(out, (len(grad_out), len(weight)), grad_out.dtype)
        result = np.zeros(gx.shape, gx.dtype)
        if own.stop > own.start:
            errors, columns = (np.ascontiguousarray(array[:, own]) for array in (grad_out, weight))
            super().dense_input_grad(errors, columns, threads=threads, out=result)  # type: ignore[misc]
        return self.group.summed(result, gx)

    def dense_weight_grad(self, x: Any, grad_out: Any, *, threads: int = 1, out: Any = None) -> Any:
        if not self.group.joint:
            return super().dense_weight_grad(x, grad_out, threads=threads, out=out)  # type: ignore[misc]
        own = shares(grad_out.shape[1], 1, self.group.world.size)[self.group.world.rank]
        gw = _place(out, (x.shape[1], grad_out.shape[1]), x.dtype)
        gw[...] = 0
        if own.stop > own.start:
            errors = np.ascontiguousarray(grad_out[:, own])
            gw[:, own] = super().dense_weight_grad(x, errors, threads=threads)  # type: ignore[misc]
        return gw


class _SerialTogether(_Together, Serial):
    def __init__(self, group: Group) -> None:
        self.group = group


class _MulticoreTogether(_Together, Multicore):
    def __init__(self, group: Group) -> None:
        self.group = group


def split_by_filters(base: Backend, group: Group) -> Backend:
    """A backend as `base`, whose convolutions and dense layers are split while the group computes together.

    Raises
    ------
    InputError
        If `base` is not one of the compiled backends.
    """
    kinds = {"serial": _SerialTogether, "multicore": _MulticoreTogether}
    if base.name not in kinds:
        raise InputError(f"split filters is not there on backend {base.name}: take multicore or serial")
    return kinds[base.name](group)
