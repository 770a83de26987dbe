"""Random flips and shifts that depend on the example and the epoch only.

Nothing is drawn from a running generator: the draw for an example is a hash of (seed, epoch, example). It is therefore
the same whichever worker sees the example, in whichever batch, and after a resume.
"""

from __future__ import annotations

import numpy as np

from ..arrays import as_array
from ..errors import DtypeError, InputError
from ..values import flag, integer

MOST_SHIFT = 2**30 - 1
"""Pixels; twice as many fit the 31 bits that a shift is drawn from."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(z: np.ndarray) -> np.ndarray:
    """Scramble uint64 words: the output function of SplitMix64 (Steele, Lea and Flood, 2014)."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _words(seed: int, epoch: int, indices: np.ndarray) -> np.ndarray:
    """One random uint64 for each example."""
    words = np.zeros(len(indices), np.uint64)
    for part in (seed, epoch, indices):
        part = np.asarray(part).astype(np.int64).view(np.uint64)
        words = _mix((words ^ part) + _GOLDEN)  # arrays of uint64 wrap around, as wanted
    return words


def augment(
    batch: np.ndarray,
    *,
    flip: bool = False,
    shift: int = 0,
    seed: int = 0,
    epoch: int = 0,
    indices: np.ndarray,
) -> np.ndarray:
    """Flip images left to right and shift them, at random.

    Parameters
    ----------
    batch : ndarray, shape (N, H, W, C), any dtype
        Images; not changed.
    flip : bool
        Flip half of the images left to right.
    shift : int
        Shift by up to this many pixels, down and across, each of the ``2 * shift + 1`` amounts equally likely;
        the pixels that come into view repeat the image's edge.
    seed, epoch : int
    indices : ndarray, shape (N,), integer
        Position of each image in the training split. The draw is a function of (seed, epoch, index) only.

    Returns
    -------
    ndarray, shape (N, H, W, C), dtype of `batch`
        A new C-contiguous array; `batch` itself where neither `flip` nor `shift` asks for anything.

    Raises
    ------
    InputError
        If the shapes do not fit, `shift` is negative, or another argument is not of its kind.
    """
    batch, indices = as_array(batch, "batch"), as_array(indices, "indices")
    if batch.ndim != 4:
        raise InputError(f"augment needs images (N, H, W, C), not shape {batch.shape}")
    if indices.dtype.kind not in "iu" and indices.size:
        raise DtypeError(f"indices must be integers, not {indices.dtype}")
    if indices.shape != batch.shape[:1]:
        raise InputError(f"augment needs one index for each of {len(batch)} images, not shape {indices.shape}")
    flip, shift = flag(flip, "flip"), integer(shift, "shift", minimum=0, maximum=MOST_SHIFT)
    seed, epoch = (integer(value, name, minimum=-(2**63)) for value, name in ((seed, "seed"), (epoch, "epoch")))
    if not (flip or shift) or not batch.size:
        return batch
    n, height, width, channels = batch.shape
    words = _words(seed, epoch, indices)
    rows = np.broadcast_to(np.arange(height), (n, height))
    columns = np.broadcast_to(np.arange(width), (n, width))
    if shift:
        span = np.uint64(2 * shift + 1)
        # Disjoint bit fields of the word, 31 bits each, so that the three draws are independent.
        down = ((words & np.uint64(0x7FFFFFFF)) % span).astype(np.int64) - shift
        across = (((words >> np.uint64(31)) & np.uint64(0x7FFFFFFF)) % span).astype(np.int64) - shift
        rows = np.clip(rows - down[:, None], 0, height - 1)
        columns = np.clip(columns - across[:, None], 0, width - 1)
    if flip:
        flipped = (words >> np.uint64(63)).astype(bool)
        columns = np.where(flipped[:, None], width - 1 - columns, columns)
    flat = (np.arange(n)[:, None] * height + rows)[:, :, None] * width + columns[:, None, :]
    return np.ascontiguousarray(batch).reshape(-1, channels).take(flat, axis=0)
