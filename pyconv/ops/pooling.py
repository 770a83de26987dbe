"""Max and average pooling and their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyconv.arrays import AnyArray, Array
from pyconv.shapes import Padding, Pair, PoolGeometry, pool_geometry

from .door import Door, expect_shape, same_dtype


def max_pool2d(
    x: Array,
    pool_size: Pair,
    *,
    stride: Pair | None = None,
    padding: Padding = 0,
    layout: str = "NHWC",
    backend: str = "auto",
    threads: int | None = None,
) -> Array:
    """Largest pixel of each window of each channel.

    Parameters
    ----------
    x : array, (N, H, W, C), float32 or float64
        Images. NaN counts as the largest.
    pool_size : int or (int, int)
        Height and width of a window in pixels.
    stride : int or (int, int), optional
        Defaults to `pool_size`.
    padding : int, (int, int), ((int, int), (int, int)), "same" or "valid"
        As in :func:`conv2d`; padded pixels are never the largest.
    layout, backend, threads : see :func:`conv2d`

    Returns
    -------
    array, (N, OH, OW, C), dtype of `x`

    Raises
    ------
    ShapeError, DtypeError, InputError, BackendUnavailable
        As :func:`conv2d`; also if a window would lie wholly in the padding, or an image has 2³¹ pixels or more.

    References
    ----------
    Chavan and Kulkarni, section 2, Algorithm 1: the pooling layer.
    """
    door, images, pg = _images_and_windows(x, pool_size, stride, padding, layout, backend, threads)
    return door.images_out(door.backend.max_pool2d(images, pg.number_pixels(), threads=door.threads))


def avg_pool2d(
    x: Array,
    pool_size: Pair,
    *,
    stride: Pair | None = None,
    padding: Padding = 0,
    layout: str = "NHWC",
    backend: str = "auto",
    threads: int | None = None,
) -> Array:
    """Mean of the pixels of each window that lie inside the image.

    Parameters
    ----------
    x, pool_size, stride, padding, layout, backend, threads : see :func:`max_pool2d`

    Returns
    -------
    array, (N, OH, OW, C), dtype of `x`

    Raises
    ------
    ShapeError, DtypeError, InputError, BackendUnavailable
        As :func:`max_pool2d`.
    """
    door, images, pg = _images_and_windows(x, pool_size, stride, padding, layout, backend, threads)
    return door.images_out(door.backend.avg_pool2d(images, pg, threads=door.threads))


def max_pool2d_input_grad(
    grad_out: Array,
    x: AnyArray,
    pool_size: Pair,
    *,
    stride: Pair | None = None,
    padding: Padding = 0,
    layout: str = "NHWC",
    backend: str = "auto",
    threads: int | None = None,
) -> Array:
    """Gradient of :func:`max_pool2d`: each window's error goes to the first of its largest pixels.

    Parameters
    ----------
    grad_out : array, (N, OH, OW, C), float32 or float64
        Gradient of the loss with respect to the pooling's result.
    x : array, (N, H, W, C), dtype of `grad_out`
        The images of the forward pass.
    pool_size, stride, padding, layout, backend, threads : see :func:`max_pool2d`

    Returns
    -------
    array, shape and dtype of `x`
    """
    door, images, pg = _images_and_windows(x, pool_size, stride, padding, layout, backend, threads)
    pg.number_pixels()
    errors = door.images(grad_out, "grad_out")
    same_dtype(x=images, grad_out=errors)
    expect_shape(errors, pg.output_shape, "grad_out")
    indices = np.empty(pg.output_shape, np.int32)
    door.backend.max_pool2d(images, pg, threads=door.threads, indices=indices)
    return door.images_out(door.backend.max_pool2d_input_grad(errors, indices, pg, threads=door.threads))


def avg_pool2d_input_grad(
    grad_out: Array,
    input_shape: tuple[int, int, int, int],
    pool_size: Pair,
    *,
    stride: Pair | None = None,
    padding: Padding = 0,
    layout: str = "NHWC",
    backend: str = "auto",
    threads: int | None = None,
) -> Array:
    """Gradient of :func:`avg_pool2d`: each window's error, divided equally among its pixels inside the image.

    Parameters
    ----------
    grad_out : array, (N, OH, OW, C), float32 or float64
        Gradient of the loss with respect to the pooling's result.
    input_shape : (int, int, int, int)
        Shape of the images, in `layout`'s order.
    pool_size, stride, padding, layout, backend, threads : see :func:`avg_pool2d`

    Returns
    -------
    array, `input_shape`, dtype of `grad_out`
    """
    door = Door(backend, layout, threads)
    errors = door.images(grad_out, "grad_out")
    pg = pool_geometry(door.image_shape(input_shape), pool_size, stride=stride, padding=padding)
    expect_shape(errors, pg.output_shape, "grad_out")
    return door.images_out(door.backend.avg_pool2d_input_grad(errors, pg, threads=door.threads))


def _images_and_windows(
    x: Any, pool_size: Pair, stride: Pair | None, padding: Padding, layout: str, backend: str, threads: int | None
) -> tuple[Door, Any, PoolGeometry]:
    door = Door(backend, layout, threads)
    images = door.images(x, "x")
    return door, images, pool_geometry(images.shape, pool_size, stride=stride, padding=padding)
