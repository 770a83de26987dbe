"""Convolution and its two gradients."""

from __future__ import annotations

from pyconv.arrays import AnyArray, Array
from pyconv.errors import ShapeError
from pyconv.shapes import Padding, Pair, conv_geometry, pair
from pyconv.values import integer

from .door import Door, check_activation, expect_shape, same_dtype


def conv2d(
    x: Array,
    weight: AnyArray,
    bias: AnyArray | None = None,
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
) -> Array:
    """Convolve a batch of images with a bank of filters.

    Parameters
    ----------
    x : array, (N, H, W, C), float32 or float64
        Images.
    weight : array, (kh, kw, C // groups, K), dtype of `x`
        Filters.
    bias : array, (K,), dtype of `x`, optional
        Added to each filter's output.
    stride : int or (int, int)
        Down and across, in pixels, at least 1.
    padding : int, (int, int), ((int, int), (int, int)), "same" or "valid"
        Zero pixels around the images: for all sides, ``(height, width)``, or ``((top, bottom), (left, right))``.
        ``"same"`` makes the output ``ceil(size / stride)``; an odd pixel goes to the end (ONNX's SAME_UPPER).
    dilation : int or (int, int)
        Distance between the input pixels that neighbouring weights are multiplied with, down and across, at least 1.
    groups : int
        Groups of channels, each convolved by itself; with `C` groups it is depthwise convolution.
    activation : None or "relu"
        Applied to the result, fused into the convolution.
    layout : "NHWC" or "NCHW"
        Order of the axes of `x` and of the result. With "NCHW" the filters are ``(K, C // groups, kh, kw)``.
    backend : str
        Where to compute: "auto", "reference", "serial", "multicore" or "cuda".
    algorithm : str
        How to compute: "auto" or one of ``pyconv.algorithms(backend)``.
    threads : int, optional
        Threads for "multicore"; every CPU that the process may use by default. The result does not depend on it.

    Returns
    -------
    array, (N, OH, OW, K), dtype of `x`

    Raises
    ------
    ShapeError
        If the shapes do not fit together or the output would be empty.
    DtypeError
        If an array is neither float32 nor float64, or they differ.
    InputError
        If another argument is wrong.
    BackendUnavailable
        If the backend cannot run here.

    Notes
    -----
    "auto" may use Winograd's algorithm for 3 × 3 kernels of stride 1, and its form along rows for wider kernels. In
    float32, with unit-variance images and filters of up to 512 channels, no number of its result is off by more than
    2e-5 of their root mean square; "direct" has only the rounding of the sum itself. For large kernels "auto" may use
    transforms ("fft"). With either, "auto" looks at each number's own window: a float32 result is off by at most 1e-5
    of the sum of magnitudes of the products that make it, for filters that are unrelated to the images. "winograd" and
    "fft" on request are not checked: a large number, or one that is not finite, spreads over a tile or the image.

    References
    ----------
    Chavan and Kulkarni, section 3B, Algorithms 2 (CPU) and 3 (GPU).

    Examples
    --------
    >>> import numpy as np, pyconv
    >>> x = np.ones((1, 4, 4, 1), np.float32)
    >>> w = np.ones((3, 3, 1, 1), np.float32)
    >>> pyconv.conv2d(x, w)[0, :, :, 0]
    array([[9., 9.],
           [9., 9.]], dtype=float32)
    """
    door = Door(backend, layout, threads)
    images, filters = door.images(x, "x"), door.filters(weight, "weight")
    offsets = None if bias is None else door.backend.admit(bias, "bias", 1)
    same_dtype(x=images, weight=filters, bias=offsets)
    g = conv_geometry(images.shape, filters.shape, stride=stride, padding=padding, dilation=dilation, groups=groups)
    if offsets is not None:
        expect_shape(offsets, (g.k,), "bias")
    check_activation(activation)
    door.backend.check_algorithm(algorithm)
    y = door.backend.conv2d(
        images, filters, offsets, g, activation=activation, algorithm=algorithm, threads=door.threads
    )
    return door.images_out(y)


def conv2d_input_grad(
    grad_out: Array,
    weight: AnyArray,
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
) -> Array:
    """Gradient of a convolution with respect to its images.

    Parameters
    ----------
    grad_out : array, (N, OH, OW, K), float32 or float64
        Gradient of the loss with respect to the convolution's result.
    weight : array, (kh, kw, C // groups, K), dtype of `grad_out`
        The filters of the forward pass.
    input_shape : (int, int, int, int)
        Shape of the images, in `layout`'s order: more than one size can give the same output size.
    stride, padding, dilation, groups, layout, backend, algorithm, threads : see :func:`conv2d`

    Returns
    -------
    array, `input_shape`, dtype of `grad_out`

    Raises
    ------
    ShapeError, DtypeError, InputError, BackendUnavailable
        As :func:`conv2d`.

    References
    ----------
    Chavan and Kulkarni, section 2, equations (3) and (4): the backward recurrence of a convolutional layer.
    """
    door = Door(backend, layout, threads)
    errors, filters = door.images(grad_out, "grad_out"), door.filters(weight, "weight")
    same_dtype(grad_out=errors, weight=filters)
    g = conv_geometry(
        door.image_shape(input_shape), filters.shape, stride=stride, padding=padding, dilation=dilation, groups=groups
    )
    expect_shape(errors, g.output_shape, "grad_out")
    door.backend.check_algorithm(algorithm)
    gx = door.backend.conv2d_input_grad(errors, filters, g, algorithm=algorithm, threads=door.threads)
    return door.images_out(gx)


def conv2d_weight_grad(
    x: Array,
    grad_out: AnyArray,
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
) -> Array:
    """Gradient of a convolution with respect to its filters.

    Parameters
    ----------
    x : array, (N, H, W, C), float32 or float64
        The images of the forward pass.
    grad_out : array, (N, OH, OW, K), dtype of `x`
        Gradient of the loss with respect to the convolution's result.
    kernel_size : int or (int, int)
        Height and width of the filters.
    stride, padding, dilation, groups, layout, backend, algorithm, threads : see :func:`conv2d`

    Returns
    -------
    array, (kh, kw, C // groups, K), or (K, C // groups, kh, kw) with NCHW; dtype of `x`
        The bias's gradient is ``grad_out.sum(axis=(0, 1, 2))``.

    Raises
    ------
    ShapeError, DtypeError, InputError, BackendUnavailable
        As :func:`conv2d`.

    References
    ----------
    Chavan and Kulkarni, section 2, Algorithm 1: the weight gradients of the backward pass.
    """
    door = Door(backend, layout, threads)
    images, errors = door.images(x, "x"), door.images(grad_out, "grad_out")
    same_dtype(x=images, grad_out=errors)
    kh, kw = pair(kernel_size, "kernel_size")
    groups = integer(groups, "groups", minimum=1)
    channels, filters = images.shape[3], errors.shape[3]
    if channels % groups:
        raise ShapeError(f"groups={groups} must divide the {channels} input channels")
    g = conv_geometry(
        images.shape,
        (kh, kw, channels // groups, filters),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    expect_shape(errors, g.output_shape, "grad_out")
    door.backend.check_algorithm(algorithm)
    gw = door.backend.conv2d_weight_grad(images, errors, g, algorithm=algorithm, threads=door.threads)
    return door.filters_out(gw)
