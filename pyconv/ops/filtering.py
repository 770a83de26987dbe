"""convolve2d and correlate2d: SciPy's functions for plain arrays, computed with :func:`pyconv.conv2d`.

A stack of images is a batch with one channel; complex numbers are two channels, real and imaginary parts. For
boundaries other than zeros, the images are padded first. Sums are direct, or by transforms where the kernel is so large
that these are faster and their numbers hold (decision 38). Sums of integers are always direct, so they are exact, and a
NaN reaches only the pixels whose windows contain it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyconv.arithmetic import quiet
from pyconv.arrays import as_array
from pyconv.backends import get as get_backend
from pyconv.errors import DtypeError, InputError, ShapeError, shown
from pyconv.shapes import FILTER_MODES, conv_geometry, filter_padding
from pyconv.values import choice

from .convolution import conv2d

#: Boundaries by the names of `scipy.signal` and `scipy.ndimage`, with the name in NumPy's `pad`.
BOUNDARIES = {
    "fill": "constant", "constant": "constant", "wrap": "wrap", "symm": "symmetric", "reflect": "symmetric",
    "nearest": "edge", "mirror": "reflect",
}  # fmt: skip

#: Dtypes of results, and of their computation; integers have a rule of their own.
COMPUTED_IN = {"f4": "f4", "f8": "f8", "c8": "f4", "c16": "f8"}

#: Integers below these bounds are exact in float32 and float64.
EXACT = ((np.dtype(np.float32), 2.0**24), (np.dtype(np.float64), 2.0**53))

Padding2 = tuple[tuple[int, int], tuple[int, int]]


def convolve2d(
    in1: ArrayLike,
    in2: ArrayLike,
    mode: str = "full",
    boundary: str = "fill",
    fillvalue: complex = 0,
    *,
    origin: int | Sequence[int] = 0,
    backend: str = "auto",
    threads: int | None = None,
) -> NDArray[np.number]:
    """Convolve images with a kernel, as :func:`scipy.signal.convolve2d` does: the kernel is turned by 180 degrees.

    Parameters
    ----------
    in1 : array, (..., H, W), of integers, float32, float64, complex64 or complex128
        An image, or a stack of them (which SciPy does not take).
    in2 : array, (kh, kw), of such numbers
        The kernel.
    mode : "full", "same" or "valid"
        Which windows are computed: all that touch the image, one for each of its pixels, or those inside the image. In
        mode "valid" the kernel may also be the larger of the two, in both directions.
    boundary : "fill", "wrap", "symm", "reflect", "nearest", "mirror" or "constant"
        How an image ``a b c d`` continues beyond its edges: with `fillvalue`; "wrap": from the other end,
        ``c d | a b c d | a b``; "symm": mirrored, ``b a | a b c d | d c``; "nearest": with the last pixel,
        ``a a | a b c d | d d``; "mirror": mirrored about the centre of its last pixel, ``c b | a b c d | c b``.
        "reflect" and "constant" are :mod:`scipy.ndimage`'s names for "symm" and "fill".
    fillvalue : number
        For the boundary "fill". Must be a number that the result's dtype holds.
    origin : int or (int, int)
        For mode "same": by how many pixels the kernel is moved, as in :mod:`scipy.ndimage`: down and right in a
        convolution, up and left in a correlation.
    backend, threads : see :func:`conv2d`

    Returns
    -------
    array, (..., OH, OW)
        With the dtype that NumPy gives to ``in1 * in2``, as in SciPy. Integers are exact; if that dtype is too narrow
        for them, they wrap around, as SciPy's do: convert `in1` to a wider one first.

    Raises
    ------
    ShapeError
        If an array is empty or not two-dimensional, or neither fits into the other in mode "valid".
    DtypeError
        If an array holds anything else than such numbers, or the result would be of such a dtype.
    InputError
        If another argument is wrong, or sums of integers may leave 2⁵³, below which float64 is exact.
    BackendUnavailable
        If the backend cannot run here.

    References
    ----------
    Chavan and Kulkarni, section 3B, Algorithm 2, for one channel. Even kernels are placed as in SciPy 1.17.1.

    Examples
    --------
    >>> import numpy as np, pyconv
    >>> pyconv.convolve2d(np.arange(9.0).reshape(3, 3), [[1, -1]], mode="same", boundary="symm")
    array([[0., 1., 1.],
           [0., 1., 1.],
           [0., 1., 1.]])
    """
    return _filter(in1, in2, mode, boundary, fillvalue, origin, backend, threads, turned=True)


def correlate2d(
    in1: ArrayLike,
    in2: ArrayLike,
    mode: str = "full",
    boundary: str = "fill",
    fillvalue: complex = 0,
    *,
    origin: int | Sequence[int] = 0,
    backend: str = "auto",
    threads: int | None = None,
) -> NDArray[np.number]:
    """Correlate images with a kernel, as :func:`scipy.signal.correlate2d` does: the kernel is conjugated, not turned.

    Parameters
    ----------
    in1, in2, mode, boundary, fillvalue, origin, backend, threads : see :func:`convolve2d`

    Returns
    -------
    array, (..., OH, OW)
        Of the dtype that NumPy gives to ``in1 * in2``; see :func:`convolve2d` for integers.

    Raises
    ------
    ShapeError, DtypeError, InputError, BackendUnavailable
        As :func:`convolve2d`.

    Notes
    -----
    In mode "same", SciPy's `correlate2d` (1.17.1) places even kernels one pixel away from where its
    `correlate` places them; this function follows `correlate2d`. In mode "valid", if `in2` is the larger of two complex
    arrays, SciPy's `correlate2d` gives the conjugate of `correlate`'s result; here this function follows `correlate`,
    whose sum both define.

    Examples
    --------
    >>> import pyconv
    >>> pyconv.correlate2d([[1, 2, 4, 8]], [[-1, 1]], mode="valid")
    array([[1, 2, 4]])
    """
    return _filter(in1, in2, mode, boundary, fillvalue, origin, backend, threads, turned=False)


@quiet
def _filter(
    in1: ArrayLike,
    in2: ArrayLike,
    mode: str,
    boundary: str,
    fillvalue: complex,
    origin: int | Sequence[int],
    backend: str,
    threads: int | None,
    *,
    turned: bool,
) -> NDArray[np.number]:
    mode = choice(mode, "mode", FILTER_MODES)
    boundary = BOUNDARIES[choice(boundary, "boundary", BOUNDARIES)]
    images, kernel = as_array(in1, "in1"), as_array(in2, "in2")
    _check_shapes(images, kernel)
    dtype = _result_dtype(images, kernel)
    fill = _fill(fillvalue, dtype)
    swapped = mode == "valid" and images.ndim == 2 and all(i <= k for i, k in zip(images.shape, kernel.shape))
    if not turned and kernel.dtype.kind == "c":
        kernel = kernel.conj()
    if swapped:
        images, kernel = kernel, images
    padding = filter_padding(images.shape[-2:], kernel.shape, mode, turned=turned, origin=origin)
    inner = _inner_dtype(images, kernel, fill, dtype)
    kernel = kernel[::-1, ::-1] if turned else kernel
    y = _sums(images, kernel, padding, boundary, fill, inner, backend, threads)
    return _as_dtype(y[::-1, ::-1] if swapped and not turned else y, dtype)


def _check_shapes(images: np.ndarray, kernel: np.ndarray) -> None:
    if images.ndim < 2 or kernel.ndim != 2:
        raise ShapeError(
            "in1 must be an image or a stack of images, and in2 a kernel of two dimensions; they have shapes "
            f"{images.shape} and {kernel.shape}"
        )
    for array, name in ((images, "in1"), (kernel, "in2")):
        if array.size == 0:
            raise ShapeError(f"{name} is empty: got shape {array.shape}")


def _result_dtype(images: np.ndarray, kernel: np.ndarray) -> np.dtype:
    """The dtype of the products; raises an error that names a dtype that is not supported."""
    for array, name in ((images, "in1"), (kernel, "in2")):
        if array.dtype.kind not in "biu" and array.dtype.newbyteorder("=").str[1:] not in COMPUTED_IN:
            raise DtypeError(f"{name} has dtype {array.dtype}; convert it to float32 or float64 first")
    dtype = np.result_type(images.dtype, kernel.dtype)
    if dtype.kind == "b":
        raise DtypeError("in1 and in2 are both bool, whose sums have no dtype: convert one, say to uint8")
    return dtype


def _fill(value: complex, dtype: np.dtype) -> np.generic:
    """`value` in the result's dtype, if that holds it."""
    given = as_array(value, "fillvalue")
    if given.size != 1 or given.dtype.kind not in "biufc":
        raise InputError(f"fillvalue must be a number, not {shown(value)}")
    number = given.item()
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        fits = given.dtype.kind != "c" and limits.min <= number <= limits.max and number == int(number)
    else:
        fits = dtype.kind == "c" or given.dtype.kind != "c"
    if not fits:
        raise InputError(f"fillvalue {shown(value)} is no number of the result's dtype, {dtype}")
    return dtype.type(number)


def _inner_dtype(images: np.ndarray, kernel: np.ndarray, fill: np.generic, dtype: np.dtype) -> np.dtype:
    """The dtype of the sums: for integers, the narrowest one in which no sum is rounded."""
    if dtype.kind not in "iu":
        return np.dtype(COMPUTED_IN[dtype.str[1:]])
    largest = max(abs(int(number)) for number in (images.min(), images.max(), fill))
    bound = largest * float(np.abs(kernel.astype(np.float64)).sum())
    for inner, below in EXACT:
        if bound < below:
            return inner
    raise InputError(
        f"sums of these integers may reach {bound:.1e}, beyond 2**53, and would be rounded: convert in1 to float64, or "
        "use scipy.signal, whose int64 wrap around"
    )


def _sums(
    images: np.ndarray,
    kernel: np.ndarray,
    padding: Padding2,
    boundary: str,
    fill: np.generic,
    inner: np.dtype,
    backend: str,
    threads: int | None,
) -> np.ndarray:
    """Correlate a stack: complex images are two channels, complex kernels two filters."""
    pairs = images.dtype.kind == "c" or fill.imag != 0  # real images may have a complex number beyond their edge
    two = pairs or kernel.dtype.kind == "c"
    integers = images.dtype.kind in "biu" and kernel.dtype.kind in "biu"
    x = images.reshape(-1, *images.shape[-2:])
    x = x.astype(np.result_type(inner, np.complex64) if pairs else inner, copy=False)
    # Infinity in the kernel times a zero beyond the edge is NaN; if the zeros are left out, it would be missing.
    if any(sum(padding, ())) and (boundary != "constant" or fill != 0 or not np.isfinite(kernel).all()):
        how = {"constant_values": fill if pairs else fill.real} if boundary == "constant" else {}
        x = np.pad(x, ((0, 0), *padding), boundary, **how)  # type: ignore[call-overload]
        padding = ((0, 0), (0, 0))
    kernel = kernel.astype(np.result_type(inner, np.complex64) if two else inner)
    weight = np.stack([kernel.real, kernel.imag], axis=-1)[:, :, None] if two else kernel[:, :, None, None]
    if pairs:
        weight = np.concatenate([weight, np.stack([-kernel.imag, kernel.real], axis=-1)[:, :, None]], axis=2)
    x = np.ascontiguousarray(x)
    x = x.view(inner).reshape(*x.shape, -1)
    y = None
    if not integers:
        ops = get_backend(backend)
        g = conv_geometry(x.shape, weight.shape, padding=padding)
        y = ops.by_transforms(x, weight, g, threads=ops.threads(threads))
    if y is None:
        algorithm = "direct" if "direct" in get_backend(backend).algorithms else "auto"
        y = conv2d(x, weight, padding=padding, algorithm=algorithm, backend=backend, threads=threads)
    y = y.view(np.result_type(inner, np.complex64)) if two else y
    return y.reshape(*images.shape[:-2], *y.shape[1:3])


def _as_dtype(y: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """`y` in the result's dtype; integers wrap around as in C, and so as in SciPy."""
    if dtype.kind in "iu" and dtype.itemsize < 8:
        y = y.astype(np.int64)
    return np.ascontiguousarray(y.astype(dtype, copy=False))
