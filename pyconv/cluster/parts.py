"""Divides images among ranks by rows, and puts them together again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import as_array
from ..errors import DtypeError, InputError, ShapeError, shown
from ..ops.door import LAYOUTS
from ..values import choice, flag, integer, sequence
from .halo import pieces
from .meeting import REMEDY, together, world_of
from .rows import evenly, spans
from .session import session


def split_rows(
    x: ArrayLike | None, rows: Sequence[int] | None = None, *, how: str = "scatter", layout: str = "NHWC",
    cluster: str = "auto",
) -> np.ndarray:  # fmt: skip
    """Divide images among the ranks of a cluster by rows; each rank gets its own. All ranks call it alike.

    Parameters
    ----------
    x : array, (N, H, W, C), of numbers, or None
        Whole images. None, or anything, on other ranks than 0 with "scatter".
    rows : sequence of int, optional
        How many rows each rank gets, from the top down; 0 is allowed. By default as evenly as possible.
    how : {"scatter", "read"}
        "scatter": rank 0 gives the images and sends each other rank its rows. "read": all ranks give them, at best as a
        map (``numpy.load("x.npy", mmap_mode="r")``), and each copies its rows.
    layout : {"NHWC", "NCHW"}
        Order of the axes.
    cluster : {"auto", "mpi", "off"}
        As for :func:`pyconv.fit`; in a single process all rows are its own.

    Returns
    -------
    array, (N, rows, W, C), dtype of `x`
        A copy, contiguous.

    Raises
    ------
    InputError, ShapeError, DtypeError
        On all ranks, if an argument is wrong.
    """
    choice(how, "how", ("scatter", "read"))
    axis = _axis(layout)
    ranks = session(cluster)
    with together(ranks):
        world = world_of(ranks)
        given = how == "read" or world.rank == 0
        images = _images(x, "x") if given else np.empty(0, np.uint8)
        counts = None if rows is None else _counts(rows, world.size)
        about: Any = [images.shape, images.dtype.str]
        if ranks is not None:
            facts: dict[str, Any] = {"how": how, "layout": layout, "rows": counts}
            if how == "read":
                facts |= {"shape": images.shape, "dtype": images.dtype.str}
            about = ranks.agree(facts, own=about, remedy=REMEDY)[0]
        shape, dtype = tuple(about[0]), np.dtype(about[1])
        counts = evenly(shape[axis], world.size) if counts is None else counts
        if sum(counts) != shape[axis]:
            raise ShapeError(f"rows add up to {sum(counts)}, and the images have {shape[axis]}")
        own = spans(counts)
        if given:
            for rank in range(world.size):
                if rank != world.rank and how == "scatter":
                    world.swap([(rank, each) for each in pieces(_copy(images, own[rank], axis))], [])
            return _copy(images, own[world.rank], axis)
        mine = np.empty(_with(shape, axis, counts[world.rank]), dtype)
        world.swap([], [(0, each) for each in pieces(mine)])
        return mine


def gather_rows(
    rows: ArrayLike, *, everywhere: bool = False, layout: str = "NHWC", cluster: str = "auto"
) -> np.ndarray | None:
    """Put images together that are divided among the ranks of a cluster by rows. All ranks call it alike.

    Parameters
    ----------
    rows : array, (N, rows, W, C), of numbers
        This rank's rows, below those of the rank before; they may be none.
    everywhere : bool
        Whether all ranks get the images, or rank 0 only.
    layout : {"NHWC", "NCHW"}
        Order of the axes.
    cluster : {"auto", "mpi", "off"}
        As for :func:`pyconv.fit`.

    Returns
    -------
    array, (N, H, W, C), dtype of `rows`, or None
        None on ranks that do not get them.

    Raises
    ------
    InputError, ShapeError, DtypeError
        On all ranks, if an argument is wrong or the ranks' rows do not fit together.
    """
    everywhere, axis = flag(everywhere, "everywhere"), _axis(layout)
    ranks = session(cluster)
    with together(ranks):
        world, part = world_of(ranks), _images(rows, "rows")
        counts = [part.shape[axis]]
        if ranks is not None:
            facts = {"everywhere": everywhere, "layout": layout, "dtype": part.dtype.str}
            facts["shape, but for the rows"] = str(_with(part.shape, axis, -1)).replace("-1", "rows")
            counts = ranks.agree(facts, own=part.shape[axis], remedy=REMEDY)
        takers = range(world.size if everywhere else 1)
        part = np.ascontiguousarray(part)
        sends = [(rank, each) for rank in takers if rank != world.rank for each in pieces(part)]
        if world.rank not in takers:
            world.swap(sends, [])
            return None
        found = [
            part if rank == world.rank else np.empty(_with(part.shape, axis, count), part.dtype)
            for rank, count in enumerate(counts)
        ]
        world.swap(
            sends, [(rank, each) for rank, array in enumerate(found) if rank != world.rank for each in pieces(array)]
        )
        whole = np.empty(_with(part.shape, axis, sum(counts)), part.dtype)
        return np.concatenate(found, axis=axis, out=whole)


def _axis(layout: str) -> int:
    return 1 if choice(layout, "layout", LAYOUTS) == "NHWC" else 2


def _images(value: Any, name: str) -> np.ndarray:
    if value is None:
        raise InputError(f"{name} is None; give the images")
    array = as_array(value, name)
    if array.dtype.kind not in "biufc":
        raise DtypeError(f"{name} has dtype {array.dtype}, not one of numbers")
    if array.ndim != 4:
        raise ShapeError(f"{name} must have 4 dimensions, not {array.ndim}: got shape {array.shape}")
    return array


def _counts(rows: Any, ranks: int) -> list[int]:
    counts = sequence(rows)
    if counts is None or len(counts) != ranks:
        raise InputError(f"rows must be a number for each of {ranks} ranks, not {shown(rows)}")
    return [integer(count, "every number of rows", minimum=0) for count in counts]


def _copy(images: np.ndarray, rows: range, axis: int) -> np.ndarray:
    """A copy of some rows, contiguous."""
    return images[(slice(None),) * axis + (slice(rows.start, rows.stop),)].copy()


def _with(shape: Sequence[int], axis: int, rows: int) -> tuple[int, ...]:
    """The shape with so many rows."""
    return (*shape[:axis], rows, *shape[axis + 1 :])
