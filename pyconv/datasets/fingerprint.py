"""A short name for a data set, and what else is known of all its images once they have been looked through."""

from __future__ import annotations

from itertools import chain

import numpy as np

from ..digests import digest
from .rows import Rows, chunk_length

_SAMPLE_BYTES = 1 << 26


def fingerprint(x: np.ndarray | Rows, y: np.ndarray) -> str:
    """A short name for a data set, to notice that a run is continued with other data.

    It is computed from all labels, and from evenly spread images of 64 MB in all.

    Parameters
    ----------
    x : (N, ...) ndarray or Rows
    y : (N,) int64 ndarray

    Returns
    -------
    str
        Sixteen hexadecimal digits.
    """
    each = max(x.nbytes // max(len(x), 1), 1)
    stride = -(-len(x) * each // _SAMPLE_BYTES)
    images = x if stride <= 1 else x[::stride]
    return digest(chain([repr((x.shape, x.dtype.str)), y], images))


def first_not_finite(x: np.ndarray | Rows) -> int | None:
    """The number of the first image with a NaN or infinite pixel, or None; few images are copied at a time.

    Parameters
    ----------
    x : (N, ...) ndarray or Rows
        Of any real dtype.

    Returns
    -------
    int or None
    """
    if x.dtype.kind != "f":
        return None
    step = chunk_length(x)
    for begin in range(0, len(x), step):
        finite = np.isfinite(x[begin : begin + step]).all(axis=tuple(range(1, x.ndim)))
        if not finite.all():
            return begin + int(finite.argmin())
    return None
