"""Convolution of images that are divided among ranks by rows, and its two gradients: as :mod:`pyconv.ops` has them."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..errors import ShapeError
from ..ops.door import Door, check_activation, expect_shape, same_dtype
from ..shapes import Padding, Pair, pair
from ..values import choice, integer
from .meeting import together
from .row_convolution import RowConvolution, agreed, door_of, ordered, sizes_of
from .session import session


def conv2d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    activation: str | None = None,
    layout: str = "NHWC",
    backend: str = "auto",
    algorithm: str = "auto",
    threads: int | None = None,
    cluster: str = "auto",
) -> np.ndarray:
    """Convolve images that are divided among the ranks of a cluster by rows; each rank gets its rows of the result.

    All ranks call it alike. The result is that of :func:`pyconv.conv2d` on whole images: bit for bit with
    ``algorithm="naive"``, and up to rounding with "auto" and others, which choose kernels by the size of a part.
    For many convolutions of the same shapes :class:`RowConvolution` agrees once.

    Parameters
    ----------
    x : array, (N, rows, W, C), float32 or float64
        This rank's rows of the images, below those of the rank before. The rows may be none, and as many as there are.
    weight : array, (kh, kw, C // groups, K), dtype of `x`
        Filters; the same on all ranks.
    bias : array, (K,), dtype of `x`, optional
        The same on all ranks.
    stride, padding, dilation, groups, activation, layout, algorithm : see :func:`pyconv.conv2d`
        Padding is that of whole images.
    backend : {"auto", "reference", "serial", "multicore"}
    threads : int, optional
        Threads of this rank; by default the ranks of a host share the CPUs that they may use.
    cluster : {"auto", "mpi", "off"}
        As for :func:`pyconv.fit`; in a single process it computes the whole.

    Returns
    -------
    array, (N, rows of the result, OW, K), dtype of `x`
        A row belongs to the rank that has the middle row of its window: with "same" padding and stride 1, a rank gets
        as many rows as it gives.

    Raises
    ------
    InputError, ShapeError, DtypeError
        On all ranks, if an argument is wrong or differs between ranks.

    References
    ----------
    Chavan and Kulkarni, section 4, equations (5) to (8).

    Examples
    --------
    Started as ``mpiexec -n 4 python script.py``, or in one process:

    >>> import numpy as np
    >>> from pyconv import cluster
    >>> image = np.ones((1, 8, 6, 1), np.float32)
    >>> rows = cluster.split_rows(image)  # of rank 0's image
    >>> result = cluster.conv2d(rows, np.ones((3, 3, 1, 1), np.float32), padding="same")
    >>> cluster.gather_rows(result).shape  # None on other ranks than 0
    (1, 8, 6, 1)
    """
    ranks = session(cluster)
    with together(ranks):
        door = door_of(ranks, backend, layout, threads, algorithm)
        images, filters = door.images(x, "x"), door.filters(weight, "weight")
        offsets = None if bias is None else door.backend.admit(bias, "bias", 1)
        same_dtype(x=images, weight=filters, bias=offsets)
        check_activation(activation)
        if offsets is not None:
            expect_shape(offsets, (filters.shape[3],), "bias")
        facts = _facts("conv2d", door, images, algorithm, activation=activation, bias=offsets is not None)
        if ranks is not None:
            facts["weight or bias (checksums)"] = _digest(filters, offsets)
        g = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        split = agreed(ranks, images.shape, filters.shape, g, facts)
        made = RowConvolution.of(ranks, door, split, images.dtype, algorithm)
        return np.asarray(door.images_out(made.forward(images, filters, offsets, activation)))


def conv2d_input_grad(
    grad_out: ArrayLike,
    weight: ArrayLike,
    input_shape: tuple[int, int, int, int],
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    layout: str = "NHWC",
    backend: str = "auto",
    algorithm: str = "auto",
    threads: int | None = None,
    cluster: str = "auto",
) -> np.ndarray:
    """Gradient of a convolution with respect to images that are divided among ranks by rows.

    Parameters
    ----------
    grad_out : array, (N, rows of the result, OW, K), float32 or float64
        This rank's rows of the gradient with respect to the result; as many as :func:`conv2d` gives.
    weight : array, (kh, kw, C // groups, K), dtype of `grad_out`
        Filters; the same on all ranks.
    input_shape : (int, int, int, int)
        Shape of this rank's rows of the images, in `layout`'s order.
    stride, padding, dilation, groups, layout, backend, algorithm, threads, cluster : see :func:`conv2d`

    Returns
    -------
    array, `input_shape`, dtype of `grad_out`
        This rank's rows; with "naive", the bits of :func:`pyconv.conv2d_input_grad`.

    Raises
    ------
    InputError, ShapeError, DtypeError
        As :func:`conv2d`.
    """
    ranks = session(cluster)
    with together(ranks):
        door = door_of(ranks, backend, layout, threads, algorithm)
        errors, filters = door.images(grad_out, "grad_out"), door.filters(weight, "weight")
        same_dtype(grad_out=errors, weight=filters)
        sizes = sizes_of(input_shape, "input_shape")
        images = ordered(sizes, (0, 2, 3, 1)) if door.nchw else sizes
        facts = _facts("conv2d_input_grad", door, errors, algorithm, **_but_rows(errors))
        if ranks is not None:
            facts["weight (checksum)"] = _digest(filters)
        g = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        split = agreed(ranks, images, filters.shape, g, facts, errors.shape[1])
        made = RowConvolution.of(ranks, door, split, errors.dtype, algorithm)
        expect_shape(errors, (split.g.n, errors.shape[1], split.g.ow, split.g.k), "grad_out")
        return np.asarray(door.images_out(made.backward_to_images(errors, filters)))


def conv2d_weight_grad(
    x: ArrayLike,
    grad_out: ArrayLike,
    kernel_size: Pair,
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    layout: str = "NHWC",
    backend: str = "auto",
    algorithm: str = "auto",
    threads: int | None = None,
    cluster: str = "auto",
) -> np.ndarray:
    """Gradient of a convolution with respect to its filters; images and errors are divided among ranks by rows.

    Parameters
    ----------
    x : array, (N, rows, W, C), float32 or float64
        This rank's rows of the images.
    grad_out : array, (N, rows of the result, OW, K), dtype of `x`
        This rank's rows of the gradient with respect to the result; as many as :func:`conv2d` gives.
    kernel_size : int or (int, int)
        Height and width of the filters.
    stride, padding, dilation, groups, layout, backend, algorithm, threads, cluster : see :func:`conv2d`

    Returns
    -------
    array, (kh, kw, C // groups, K), or (K, C // groups, kh, kw) with NCHW; dtype of `x`
        Of whole images, on all ranks: the ranks' parts, added in the order of the ranks. So it is
        :func:`pyconv.conv2d_weight_grad`'s up to rounding, and the same bits on all ranks and in every run.

    Raises
    ------
    InputError, ShapeError, DtypeError
        As :func:`conv2d`.
    """
    ranks = session(cluster)
    with together(ranks):
        door = door_of(ranks, backend, layout, threads, algorithm)
        images, errors = door.images(x, "x"), door.images(grad_out, "grad_out")
        same_dtype(x=images, grad_out=errors)
        kh, kw = pair(kernel_size, "kernel_size")
        groups = integer(groups, "groups", minimum=1)
        if images.shape[3] % groups:
            raise ShapeError(f"groups={groups} must divide the {images.shape[3]} input channels")
        filters = (kh, kw, images.shape[3] // groups, errors.shape[3])
        facts = _facts("conv2d_weight_grad", door, images, algorithm, **_but_rows(errors))
        g = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        split = agreed(ranks, images.shape, filters, g, facts, errors.shape[1])
        made = RowConvolution.of(ranks, door, split, images.dtype, algorithm)
        expect_shape(errors, (split.g.n, errors.shape[1], split.g.ow, split.g.k), "grad_out")
        return np.asarray(door.filters_out(made.backward_to_filters(images, errors)))


def _facts(what: str, door: Door, array: np.ndarray, algorithm: str, **others: Any) -> dict[str, Any]:
    choice(algorithm, "algorithm", ("auto", *door.backend.algorithms))
    return {"operation": what, "dtype": array.dtype.name, "layout": door.layout, "algorithm": algorithm, **others}


def _but_rows(grad_out: np.ndarray) -> dict[str, Any]:
    n, _, width, filters = grad_out.shape
    return {"number of images, width and channels of grad_out": [n, width, filters]}


def _digest(*arrays: np.ndarray | None) -> list[int]:
    return [0 if array is None else zlib.crc32(array.data) for array in arrays]
