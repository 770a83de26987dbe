"""RowConvolution: a convolution of images that are divided among ranks by rows.

Ranks first agree on the arguments and tell each other how many rows they have. Then each gets the rows that it lacks,
the halo, and computes as on one machine. Rows of a result that need no halo are computed from the rank's own array,
without a copy, if it is one image.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ..arrays import aligned
from ..backends import DTYPES
from ..errors import DtypeError, InputError, ShapeError, shown
from ..ops.door import Door, check_activation, expect_shape
from ..shapes import Padding, Pair, conv_geometry, padding_pairs, pair
from ..values import flag, integer, sequence
from . import sums
from .halo import Coming, Halo, Rows
from .meeting import REMEDY, together, world_of
from .rows import RowSplit, parts
from .session import Session, session
from .world import World


class RowConvolution:
    """A convolution split by rows over the ranks of a cluster, to be computed many times.

    All ranks make it, and call its methods, alike. They agree once, here: the methods send the halo and nothing else.
    In a single process it computes as :func:`pyconv.conv2d` does.

    Parameters
    ----------
    rows_shape : (int, int, int, int)
        Shape of this rank's rows of the images, in `layout`'s order; there may be none. The ranks' rows lie one below
        the other, in the order of the ranks.
    weight_shape : (int, int, int, int)
        Shape of the filters, in `layout`'s order.
    dtype : dtype
        float32 or float64, of all arrays.
    stride, padding, dilation, groups, layout, algorithm : see :func:`pyconv.conv2d`
        Padding is that of whole images.
    backend : {"auto", "reference", "serial", "multicore"}
    threads : int, optional
        Threads of this rank; by default the ranks of a host share the CPUs that they may use.
    overlap : bool
        Of one image: compute the rows that need no halo while it is on its way. The numbers are the same without.
    cluster : {"auto", "mpi", "off"}
        As for :func:`pyconv.fit`.

    Attributes
    ----------
    split : RowSplit
        Who has which rows.
    input_rows, output_rows : range
        This rank's rows of the images and of the result.

    Raises
    ------
    InputError, ShapeError, DtypeError
        On all ranks, if an argument is wrong or differs between ranks.
    """

    def __init__(
        self,
        rows_shape: Sequence[int],
        weight_shape: Sequence[int],
        *,
        dtype: DTypeLike = np.float32,
        stride: Pair = 1,
        padding: Padding = 0,
        dilation: Pair = 1,
        groups: int = 1,
        layout: str = "NHWC",
        backend: str = "auto",
        algorithm: str = "auto",
        threads: int | None = None,
        overlap: bool = True,
        cluster: str = "auto",
    ) -> None:
        ranks, overlap = session(cluster), flag(overlap, "overlap")
        with together(ranks):
            door = door_of(ranks, backend, layout, threads, algorithm)
            if (kind := np.dtype(dtype)) not in DTYPES:
                raise DtypeError(f"dtype must be float32 or float64, not {kind}")
            images, filters = sizes_of(rows_shape, "rows_shape"), sizes_of(weight_shape, "weight_shape")
            if door.nchw:
                images, filters = ordered(images, (0, 2, 3, 1)), ordered(filters, (2, 3, 1, 0))
            g = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
            split = agreed(ranks, images, filters, g, {"dtype": kind.name, "layout": layout, "algorithm": algorithm})
        self._set(ranks, door, split, kind, algorithm)
        self._overlap = overlap

    @classmethod
    def of(cls, ranks: Session | None, door: Door, split: RowSplit, dtype: np.dtype, algorithm: str) -> RowConvolution:
        made = cls.__new__(cls)
        made._set(ranks, door, split, dtype, algorithm)
        return made

    def _set(self, ranks: Session | None, door: Door, split: RowSplit, dtype: np.dtype, algorithm: str) -> None:
        self._ranks, self._door, self.split, self._dtype, self._algorithm = ranks, door, split, dtype, algorithm
        self._world: World = world_of(ranks)
        self._overlap = True
        self.input_rows, self.output_rows = split.inputs[self._world.rank], split.outputs[self._world.rank]
        self._images = Halo(split.inputs, [split.read(rows) for rows in split.outputs])
        self._errors = Halo(split.outputs, [split.reached(rows) for rows in split.inputs])

    # ---- arrays of the caller's -------------------------------------------------------------------

    def __call__(
        self, x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None, *, activation: str | None = None
    ) -> np.ndarray:
        """Convolve the images.

        Parameters
        ----------
        x : array, (N, rows, W, C)
            This rank's rows of the images.
        weight : array, (kh, kw, C // groups, K)
            The same on all ranks.
        bias : array, (K,), optional
            The same on all ranks.
        activation : None or "relu"

        Returns
        -------
        array, (N, len(output_rows), OW, K)

        Raises
        ------
        InputError, ShapeError, DtypeError
            If an array is not as agreed.
        """
        with together(self._ranks):
            door, k = self._door, self.split.g.k
            offsets = None if bias is None else door.backend.admit(bias, "bias", 1)
            if offsets is not None:
                expect_shape(offsets, (k,), "bias")
            check_activation(activation)
            y = self.forward(self._own(x, "x"), self._filters(weight), offsets, activation)
            return np.asarray(door.images_out(y))

    def input_grad(self, grad_out: ArrayLike, weight: ArrayLike) -> np.ndarray:
        """Gradient with respect to the images.

        Parameters
        ----------
        grad_out : array, (N, len(output_rows), OW, K)
            This rank's rows of the gradient with respect to the result.
        weight : array, (kh, kw, C // groups, K)

        Returns
        -------
        array, (N, rows, W, C)
            This rank's rows.
        """
        with together(self._ranks):
            gx = self.backward_to_images(self._result(grad_out, "grad_out"), self._filters(weight))
            return np.asarray(self._door.images_out(gx))

    def weight_grad(self, x: ArrayLike, grad_out: ArrayLike) -> np.ndarray:
        """Gradient with respect to the filters.

        Parameters
        ----------
        x : array, (N, rows, W, C)
        grad_out : array, (N, len(output_rows), OW, K)

        Returns
        -------
        array, (kh, kw, C // groups, K)
            Of whole images: the ranks' parts, added in the order of the ranks; the same bits on all ranks.
        """
        with together(self._ranks):
            gw = self.backward_to_filters(self._own(x, "x"), self._result(grad_out, "grad_out"))
            return np.asarray(self._door.filters_out(gw))

    def _own(self, x: ArrayLike, name: str) -> np.ndarray:
        g = self.split.g
        return self._checked(self._door.images(x, name), (g.n, len(self.input_rows), g.w, g.c), name)

    def _result(self, grad_out: ArrayLike, name: str) -> np.ndarray:
        g = self.split.g
        return self._checked(self._door.images(grad_out, name), (g.n, len(self.output_rows), g.ow, g.k), name)

    def _filters(self, weight: ArrayLike) -> np.ndarray:
        return self._checked(self._door.filters(weight, "weight"), self.split.g.weight_shape, "weight")

    def _checked(self, array: Any, shape: tuple[int, ...], name: str) -> np.ndarray:
        expect_shape(array, shape, name)
        if array.dtype != self._dtype:
            raise DtypeError(f"{name} has dtype {array.dtype} where {self._dtype} is agreed")
        return np.asarray(array)

    # ---- NHWC arrays that have been checked -------------------------------------------------------

    def forward(self, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, activation: str | None) -> np.ndarray:
        """This rank's rows of the result."""
        split, g, ops = self.split, self.split.g, self._door.backend
        y = aligned((g.n, len(self.output_rows), g.ow, g.k), x.dtype)
        with self._exchange(self._images, x) as source:
            for rows, out in self._parts(y, self.output_rows, split.read_inside(self.output_rows, self.input_rows)):
                if needed := split.read(rows):
                    result = ops.conv2d(
                        source.take(needed), weight, bias, split.forward(rows), activation=activation,
                        algorithm=self._algorithm, threads=self._door.threads, out=_place(out),
                    )  # fmt: skip
                    _put(result, out)
                else:  # all is padding
                    out[...] = 0 if bias is None else bias
                    if activation is not None:
                        np.maximum(out, 0, out=out)
        return y

    def backward_to_images(self, grad_out: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """This rank's rows of the images' gradient."""
        split, g, ops = self.split, self.split.g, self._door.backend
        gx = aligned((g.n, len(self.input_rows), g.w, g.c), grad_out.dtype)
        gx[...] = 0
        with self._exchange(self._errors, grad_out) as source:
            for rows, out in self._parts(gx, self.input_rows, split.reached_inside(self.input_rows, self.output_rows)):
                if needed := split.reached(rows):
                    inside, part = split.backward(rows)  # the other rows are in no window
                    out = out[:, inside.start - rows.start : inside.stop - rows.start]
                    result = ops.conv2d_input_grad(
                        source.take(needed), weight, part, algorithm=self._algorithm, threads=self._door.threads,
                        out=_place(out),
                    )  # fmt: skip
                    _put(result, out)
        return gx

    def backward_to_filters(self, x: np.ndarray, grad_out: np.ndarray) -> np.ndarray:
        """The filters' gradient, summed over the ranks."""
        split, ops = self.split, self._door.backend
        total = np.zeros(split.g.weight_shape, x.dtype)
        errors, inside = Rows([(self.output_rows, grad_out)]), split.read_inside(self.output_rows, self.input_rows)
        with self._exchange(self._images, x) as source:
            for rows, _ in self._parts(grad_out, self.output_rows, inside):
                if needed := split.read(rows):
                    total += ops.conv2d_weight_grad(
                        source.take(needed), errors.take(rows), split.forward(rows), algorithm=self._algorithm,
                        threads=self._door.threads,
                    )  # fmt: skip
        return sums.in_rank_order(self._world, total)

    @contextlib.contextmanager
    def _exchange(self, halo: Halo, rows: np.ndarray) -> Iterator[Coming]:
        """Within it the halo comes; at its end all messages are over, after an error too, as MPI has their arrays."""
        coming = halo.begin(self._world, rows)
        try:
            if not self._overlap:
                coming.wait()
            yield coming
        finally:
            coming.wait()

    def _parts(self, array: np.ndarray, rows: range, inside: range) -> Iterator[tuple[range, np.ndarray]]:
        """The parts of this rank's rows that are computed each by itself, and their places."""
        for part in parts(array.shape[0], rows, inside):
            yield part, array[:, part.start - rows.start : part.stop - rows.start]


def _place(out: np.ndarray) -> np.ndarray | None:
    """The array as the place for a result, if it is contiguous."""
    return out if out.flags.c_contiguous else None


def _put(result: np.ndarray, out: np.ndarray) -> None:
    """Put a result into its place, if it is not there."""
    if result is not out:
        out[...] = result


# ---- agreement ------------------------------------------------------------------------------------


def door_of(ranks: Session | None, backend: str, layout: str, threads: int | None, algorithm: str) -> Door:
    """The door of an operation on ranks, which share their hosts' CPUs."""
    door = Door(backend, layout, threads)
    if door.backend.own_memory:
        raise InputError(f"backend {door.backend.name} is not there for images split by rows: take multicore")
    door.backend.check_algorithm(algorithm)
    if ranks is not None and door.backend.many_threads:
        door.threads = ranks.threads(threads)
    return door


def sizes_of(shape: Any, name: str) -> tuple[int, ...]:
    """A shape of four dimensions, in the caller's order; a rank may have no rows."""
    sizes = sequence(shape)
    if sizes is None or len(sizes) != 4:
        raise ShapeError(f"{name} must be four integers, not {shown(shape)}")
    return tuple(integer(size, f"every size of {name}", minimum=0) for size in sizes)


def ordered(sizes: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """The sizes in another order."""
    return tuple(sizes[axis] for axis in axes)


def agreed(
    ranks: Session | None, images: Sequence[int], filters: Sequence[int], g: Mapping[str, Any],
    facts: Mapping[str, Any], result: int | None = None,
) -> RowSplit:  # fmt: skip
    """The split that all ranks have agreed on.

    Parameters
    ----------
    ranks : Session or None
    images, filters : sequence of int
        Shapes in NHWC's order; of the images this rank's rows.
    g : mapping
        Stride, padding, dilation and groups.
    facts : mapping
        Further things that must not differ.
    result : int, optional
        Rows of this rank's array of the result's shape.
    """
    n, height, w, c = images
    told: list[list[Any]] = [[height, result]]
    if ranks is not None:
        settings = {
            "stride": pair(g["stride"], "stride"),
            "padding": padding_pairs(g["padding"]),
            "dilation": pair(g["dilation"], "dilation"),
            "groups": integer(g["groups"], "groups", minimum=1),
        }
        shapes = {"number of images, width and channels": [n, w, c], "filters' shape": list(filters)}
        told = ranks.agree({**facts, **shapes, **settings}, own=[height, result], remedy=REMEDY)
    heights = tuple(int(each) for each, _ in told)
    split = RowSplit(conv_geometry((n, sum(heights), w, c), filters, **g), heights)
    for rank, (_, rows) in enumerate(told):
        if rows is not None and rows != len(split.outputs[rank]):
            name = "this process" if ranks is None else ranks.hosts.names[rank]
            raise ShapeError(
                f"grad_out has {rows} rows at {name}, where {len(split.outputs[rank])} belong to its "
                f"{heights[rank]} rows of the images: give the rows that cluster.conv2d has given"
            )
    return split
