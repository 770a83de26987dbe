"""Rows: some images of an array, in any order and without a copy, for files that are larger than memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..errors import InputError

_CHUNK_BYTES = 1 << 24
_OF_ROWS = "images that are read from a file piece by piece"
_REMEDY = "; numpy.asarray(x) copies them into memory"


def check_whole(name: str, what: str, axis: Any, out: Any, others: Mapping[str, Any], remedy: str = "") -> None:
    """Refuse what ``min`` and ``max`` of an array take beside, for images that are no array.

    Parameters
    ----------
    name, what : str
        Of the function and of the images, for the message.
    axis, out, others
        As :func:`numpy.min` hands them on.
    remedy : str
        End of the message.

    Raises
    ------
    InputError
        If one of them was given.
    """
    asked = [word for word, value in (("axis", axis), ("out", out)) if value is not None]
    if asked or others:
        raise InputError(f"{name} of {what} takes no {' or '.join([*asked, *others])}{remedy}")


class Rows:
    """The images of `array` at the indices `rows`; indexing copies only the images that are asked for.

    It has what training needs of an array of images: length, shape and dtype, slices, and picks by indices.
    ``numpy.asarray`` copies all of them.

    Parameters
    ----------
    array : (N, ...) ndarray
        For example a mapped file.
    rows : (M,) ndarray of int64
        From 0 to N - 1.
    """

    def __init__(self, array: np.ndarray, rows: np.ndarray) -> None:
        self.array, self.rows = array, rows

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of these images as one array."""
        return (len(self.rows), *self.array.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        """The pixels' dtype."""
        return self.array.dtype

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return self.array.ndim

    @property
    def size(self) -> int:
        """Number of pixels of all images."""
        return len(self.rows) * self.array[:1].size

    @property
    def nbytes(self) -> int:
        """Bytes of all images; this object holds none of them."""
        return self.size * self.dtype.itemsize

    def min(self, axis: None = None, out: None = None, **others: Any) -> Any:
        """The smallest pixel, for ``numpy.min`` too; that of a part, or into an array, is refused."""
        check_whole("min", _OF_ROWS, axis, out, others, _REMEDY)
        return np.min([chunk.min() for chunk in chunks(self)])

    def max(self, axis: None = None, out: None = None, **others: Any) -> Any:
        """The largest pixel, for ``numpy.max`` too; that of a part, or into an array, is refused."""
        check_whole("max", _OF_ROWS, axis, out, others, _REMEDY)
        return np.max([chunk.max() for chunk in chunks(self)])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, which: Any) -> Any:
        return self.array[self.rows[which]]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self.array[row] for row in self.rows)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        made = self.array[self.rows]
        return made if dtype is None else made.astype(dtype)

    def __repr__(self) -> str:
        return f"Rows({len(self)} of {len(self.array)} images, {self.dtype} {self.shape[1:]})"


def chunk_length(x: np.ndarray | Rows) -> int:
    """How many images :func:`chunks` yields at a time, so that a copy of them is small."""
    return max(1, _CHUNK_BYTES // max(x.nbytes // max(len(x), 1), 1))


def chunks(x: np.ndarray | Rows) -> Iterator[np.ndarray]:
    """Yield the images, some at a time."""
    step = chunk_length(x)
    return (x[start : start + step] for start in range(0, len(x), step))
