"""Checks arrays from files, and brings them to the form of images and labels: shape, dtype and numbers."""

from __future__ import annotations

import numpy as np

from ..arithmetic import quiet
from ..errors import DataError
from .labels import matrix_hint
from .room import check_room
from .rows import chunk_length

_CHUNK = 256  # images that are checked together
_MEDMNIST = "train_images"  # the name of MedMNIST's training images, those of volumes too
_CHANNELS = (1, 3, 4)  # of gray images, colour, and colour with transparency


def as_nhwc(x: np.ndarray, where: str, name: str) -> np.ndarray:
    """An array of images as (N, H, W, C), without a copy.

    Parameters
    ----------
    x : ndarray
    where, name : str
        The array in messages, and its name in the file.

    Raises
    ------
    DataError
        If it is not an array of images, is empty, has its channels first, or is called as MedMNIST's images are and
        holds volumes: as many channels as rows and columns.
    """
    if x.ndim == 3:
        x = x[..., None]
    if x.ndim != 4:
        raise DataError(f"{where} has shape {x.shape}; images must be (N, H, W) or (N, H, W, channels)")
    if 0 in x.shape:
        raise DataError(f"{where} is empty: shape {x.shape}; give at least one image")
    if x.shape[1] in (1, 3) and x.shape[2] == x.shape[3] > 4:
        raise DataError(f"{where} has its channels first: shape {x.shape}; store {name}.transpose(0, 2, 3, 1)")
    side = x.shape[3]
    if name == _MEDMNIST and x.shape[1:3] == (side, side) and side not in _CHANNELS:
        raise DataError(
            f"{where} has shape {x.shape}: volumes, as MedMNIST's in 3D; store one slice of each, such as "
            f"{name}[:, {side // 2}], or call the arrays x and y if the last axis is channels"
        )
    return x


def pixels(x: np.ndarray, where: str) -> np.ndarray:
    """Images as contiguous uint8 or float32; copied if they are not that already.

    Parameters
    ----------
    x : (N, H, W, C) ndarray
    where : str

    Raises
    ------
    DataError
        If their numbers are neither integers from 0 to 255 nor finite floating-point numbers.
    """
    if x.dtype.kind == "f":
        return _finite_float32(x, where)
    if x.dtype.kind in "iu":
        return _bytes(x, where)
    raise DataError(f"{where} has dtype {x.dtype}; images must be integers from 0 to 255 or floating point")


def mapped_pixels(x: np.ndarray, where: str) -> np.ndarray:
    """Images of a mapped file as they are, after a look through those of floating point.

    Parameters
    ----------
    x : (N, H, W, C) ndarray of uint8, float32 or float64
    where : str

    Raises
    ------
    DataError
        If a pixel is NaN or infinite.
    """
    if x.dtype.kind == "f":
        step = chunk_length(x)
        for start in range(0, len(x), step):
            chunk = x[start : start + step]
            check_finite(chunk, chunk, start, where)
    return x


def class_numbers(y: np.ndarray, where: str) -> np.ndarray:
    """Labels as a vector of int64.

    Parameters
    ----------
    y : ndarray
        A vector, or a column.
    where : str

    Raises
    ------
    DataError
        If they are not class numbers; the message names the row.
    """
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        hint = f"; {matrix_hint(y)}" if y.ndim == 2 else ""
        raise DataError(f"{where} has shape {y.shape}; labels must be a vector of class numbers{hint}")
    if y.dtype.kind not in "iu":
        raise DataError(f"{where} has dtype {y.dtype}; labels must be integers: class numbers from 0")
    bad = np.flatnonzero((y < 0) | (y > 1_000_000))
    if bad.size:
        raise DataError(f"{where}, row {bad[0]}: label {y[bad[0]]}; labels must be class numbers from 0")
    return y.astype(np.int64)


def class_names(names: np.ndarray, where: str) -> list[str]:
    """A vector of strings as names of classes.

    Parameters
    ----------
    names : ndarray
    where : str

    Raises
    ------
    DataError
        If it is not one.
    """
    if names.ndim != 1 or names.dtype.kind != "U":
        raise DataError(f"{where} must be a vector of strings, not {names.dtype} {names.shape}")
    made: list[str] = names.tolist()
    return made


def _bytes(x: np.ndarray, where: str) -> np.ndarray:
    """Integer images as uint8, if all their pixels fit."""
    if x.dtype != np.uint8:
        for start in range(0, len(x), _CHUNK):
            chunk = x[start : start + _CHUNK]
            bad = np.argwhere((chunk < 0) | (chunk > 255))
            if bad.size:
                row, *pixel = bad[0]
                value = chunk[row, *pixel]
                raise DataError(
                    f"{where}, row {start + row}: pixel value {value}; integer pixels must lie from 0 to 255"
                )
    return np.ascontiguousarray(x, np.uint8)


@quiet
def _finite_float32(x: np.ndarray, where: str) -> np.ndarray:
    """Floating-point images as float32; all their pixels must be finite in it."""
    check_room(where, "the images as float32", 4 * x.size)
    out = np.empty(x.shape, np.float32)
    for start in range(0, len(x), _CHUNK):
        chunk = x[start : start + _CHUNK]
        out[start : start + _CHUNK] = chunk
        check_finite(out[start : start + _CHUNK], chunk, start, where)
    return out


def check_finite(found: np.ndarray, given: np.ndarray, start: int, where: str) -> None:
    """Check that no pixel of some images is NaN or infinite.

    Parameters
    ----------
    found : (n, ...) ndarray
        The images as they will be used.
    given : (n, ...) ndarray
        As they are in the file, for the message.
    start : int
        Row of the first image.
    where : str

    Raises
    ------
    DataError
        If one is; the message names its row.
    """
    finite = np.isfinite(found)
    if not finite.all():
        row, *pixel = np.argwhere(~finite)[0]
        value = given[row, *pixel]
        raise DataError(f"{where}, row {start + row}: pixel value {value}; replace it or leave the image out")
