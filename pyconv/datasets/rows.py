"""Rows: some images of an array, in any order and without a copy, for files that are larger than memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

_CHUNK_BYTES = 1 << 24


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

    def min(self) -> Any:
        """The smallest pixel."""
        return min(chunk.min() for chunk in chunks(self))

    def max(self) -> Any:
        """The largest pixel."""
        return max(chunk.max() for chunk in chunks(self))

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
