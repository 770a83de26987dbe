"""Applies affine maps to images, by bilinear interpolation; outside the image its edge is repeated."""

from __future__ import annotations

import numpy as np

from .base import like

PIXELS = 1 << 18
"""Bytes of the images that are done at once, so that their grids stay in a cache."""


def affine(batch: np.ndarray, matrices: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """``out[n, i, j] = batch[n] at matrices[n] @ (i, j) + offsets[n]``, pixels counted from 0, down and across.

    Parameters
    ----------
    batch : (N, H, W, C) ndarray
    matrices : (N, 2, 2) float64 ndarray
    offsets : (N, 2) float64 ndarray

    Returns
    -------
    (N, H, W, C) ndarray of the same dtype
    """
    out = np.empty(batch.shape, batch.dtype)
    images = max(PIXELS // max(batch.shape[1] * batch.shape[2], 1), 1)
    for start in range(0, len(batch), images):
        part = slice(start, start + images)
        out[part] = _part(batch[part], matrices[part], offsets[part])
    return out


def _part(batch: np.ndarray, matrices: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    n, height, width, channels = batch.shape
    kind = np.float64 if batch.dtype == np.float64 else np.float32
    down, across = np.arange(height, dtype=np.float64)[:, None], np.arange(width, dtype=np.float64)
    flat, weights = [], []
    for axis, size in ((0, height), (1, width)):
        m = matrices[:, axis, :, None, None]
        at = m[:, 0] * down + m[:, 1] * across + offsets[:, axis, None, None]
        at = np.clip(at, 0, size - 1)
        low = np.minimum(at.astype(np.int64), max(size - 2, 0))
        flat.append((low, np.minimum(low + 1, size - 1)))
        weights.append((at - low).astype(kind)[..., None])
    pixels = np.ascontiguousarray(batch).reshape(-1, channels)
    first = np.arange(n)[:, None, None] * height

    def taken(row: int, column: int) -> np.ndarray:
        return pixels.take((first + flat[0][row]) * width + flat[1][column], axis=0).astype(kind, copy=False)

    lower, right = weights
    top = taken(0, 0) * (1 - right) + taken(0, 1) * right
    bottom = taken(1, 0) * (1 - right) + taken(1, 1) * right
    return like(top * (1 - lower) + bottom * lower, batch.dtype)
