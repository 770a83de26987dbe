"""Chooses examples at random, stratified and from a seed; and computes the statistics that normalise images."""

from __future__ import annotations

import numpy as np

from ..arithmetic import quiet
from ..arrays import as_array
from ..errors import DtypeError, InputError, shown
from ..values import real, sequence
from .rows import Rows
from .types import Split

_CHUNK = 1 << 16  # numbers done at once: 512 kB of float64, which stays in a cache


def share_out(total: int, counts: np.ndarray) -> np.ndarray:
    """Divide `total` places among classes in proportion to their sizes, by largest remainder.

    Parameters
    ----------
    total : int
        Places, at most ``counts.sum()``.
    counts : ndarray, shape (classes,), integer
        Examples of each class.

    Returns
    -------
    ndarray, shape (classes,), int64
        Places of each class: they add up to `total` and none exceeds its class's size.
    """
    counts = np.asarray(counts, np.int64)
    scaled = int(total) * counts
    places, remainder = np.divmod(scaled, max(int(counts.sum()), 1))
    # A class with a remainder is not full, so one more place always fits.
    order = np.argsort(-remainder, kind="stable")
    places[order[: int(total) - int(places.sum())]] += 1
    return places


def hold_out(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Choose examples to hold out for validation, the same share of each class.

    Every class keeps at least one example to train on.

    Parameters
    ----------
    labels : ndarray, shape (N,), integer
    fraction : float
        Share to hold out, between 0 and 1.
    seed : int
        The same seed holds out the same examples.

    Returns
    -------
    train, held_out : ndarray of int64
        Indices, each in ascending order; `held_out` is empty when every class has a single example.

    Raises
    ------
    InputError
        If `fraction` is not between 0 and 1.
    """
    fraction = real(fraction, "validation_fraction", above=0, below=1)
    labels = np.asarray(labels)
    classes, counts = np.unique(labels, return_counts=True)
    total = min(max(round(fraction * len(labels)), 1), int((counts - 1).sum()))
    # Places are divided among the examples that may leave: one example of each class stays.
    places = share_out(total, counts - 1)
    held_out = _choose(labels, classes, places, seed)
    train = np.ones(len(labels), bool)
    train[held_out] = False
    return np.flatnonzero(train), held_out


def subset(labels: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Choose `size` examples, with the classes in the proportions of `labels` and at least one of each.

    Parameters
    ----------
    labels : ndarray, shape (N,), integer
    size : int
        Examples to keep; all are kept if there are no more.
    seed : int
        The same seed keeps the same examples.

    Returns
    -------
    ndarray of int64
        Indices in ascending order.

    Raises
    ------
    InputError
        If `size` is smaller than the number of classes.
    """
    labels = np.asarray(labels)
    if size >= len(labels):
        return np.arange(len(labels))
    classes, counts = np.unique(labels, return_counts=True)
    if size < len(classes):
        raise InputError(f"limit {size} is too small for {len(classes)} classes; keep at least one image of each")
    places = 1 + share_out(size - len(classes), counts - 1)
    return _choose(labels, classes, places, seed)


def _choose(labels: np.ndarray, classes: np.ndarray, places: np.ndarray, seed: int) -> np.ndarray:
    """Choose ``places[i]`` examples of ``classes[i]`` at random; the indices are returned in ascending order."""
    rng = np.random.default_rng(seed)
    chosen = [
        rng.permutation(np.flatnonzero(labels == label))[:count] for label, count in zip(classes, places, strict=True)
    ]
    return np.sort(np.concatenate(chosen)) if chosen else np.empty(0, np.int64)


@quiet
def normalization(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Compute each channel's mean and standard deviation over all images and pixels.

    The sums are in float64, over chunks that fit in a cache, without a float copy of all images.

    Parameters
    ----------
    split : Split
        Images of shape (N, H, W, C) and any real dtype; the labels are not used.

    Returns
    -------
    mean, std : ndarray, shape (C,), float64
        In the units of the images. `std` is 1 for a constant channel, so that dividing by it does no harm.

    Raises
    ------
    InputError
        If there are no images of real numbers, or not of four dimensions.
    """
    parts = sequence(split)
    if not parts:
        raise InputError(f"normalization needs a split, (images, labels), not {shown(split)}")
    x = parts[0] if isinstance(parts[0], Rows) else as_array(parts[0], "x")
    if x.dtype.kind not in "iuf":
        raise DtypeError(f"x has dtype {x.dtype}; normalization needs real numbers")
    if x.ndim != 4 or x.size == 0:
        raise InputError(f"normalization needs images (N, H, W, C), at least one, not shape {x.shape}")
    mean, variance = _moments(x)
    std = np.sqrt(variance)
    # Rounding may leave a constant channel a deviation of about an ulp of its mean.
    std[std <= 1e-12 * np.abs(mean)] = 1.0
    return mean, std


def _moments(x: np.ndarray | Rows) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of each channel.

    Chunks are merged as in Chan, Golub and LeVeque (1983), so that a large mean does not hide a small deviation.
    """
    rows, channels = x.size // x.shape[-1], x.shape[-1]
    step = max(_CHUNK // channels, 1)
    mean = np.zeros(channels)
    squares = np.zeros(channels)
    for start in range(0, rows, step):
        # Channels first: a sum along the contiguous axis is ten times faster than one across it.
        chunk = _pixels(x, start, min(start + step, rows)).T.astype(np.float64, order="C")
        chunk_mean = chunk.mean(axis=1)
        chunk -= chunk_mean[:, None]
        size = chunk.shape[1]
        delta = chunk_mean - mean
        squares += np.einsum("cp,cp->c", chunk, chunk) + delta**2 * (start * size / (start + size))
        mean += delta * (size / (start + size))
    return mean, squares / rows


def _pixels(x: np.ndarray | Rows, start: int, stop: int) -> np.ndarray:
    """Pixels `start` to `stop` of all images, ``(stop - start, C)``, of which no more than their images are copied."""
    each = x.shape[1] * x.shape[2]
    first = start // each
    there = x[first : -(-stop // each)].reshape(-1, x.shape[-1])
    return there[start - first * each : stop - first * each]
