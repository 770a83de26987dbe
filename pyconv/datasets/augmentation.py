"""augment(): random changes of training images that depend only on the example and the epoch.

No random generator keeps a state: the random number for an example is a hash of (seed, epoch, example). So it is the
same in whichever worker and batch the example comes, and after a resume.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..arrays import as_array
from ..errors import DtypeError, InputError
from ..values import choice, flag, integer, mapping
from .augmentations import AUGMENTATIONS
from .augmentations.base import draws, words

MOST_SHIFT = 2**30 - 1
"""Largest shift in pixels; twice as many fit in the 31 bits that a shift is drawn from."""


def augment(
    batch: np.ndarray,
    *,
    flip: bool = False,
    shift: int = 0,
    rotate: float = 0.0,
    crop: float = 1.0,
    brightness: float = 0.0,
    cutout: int = 0,
    seed: int = 0,
    epoch: int = 0,
    indices: np.ndarray,
) -> np.ndarray:
    """Change images at random, in this order: rotate, crop, shift, flip, change the brightness, hide a part.

    Parameters
    ----------
    batch : ndarray, shape (N, H, W, C), any dtype
        Images; not changed.
    flip : bool
        Flip half of the images left to right.
    shift : int
        Shift by up to this many pixels down and across, each of the ``2 * shift + 1`` amounts equally likely. Pixels
        that come into view repeat the image's edge. This is a random crop of the padded image.
    rotate : float
        Rotate by up to this many degrees either way, about the centre; bilinear, with the edge repeated.
    crop : float
        Cut out a part with at least this share of the area and the image's aspect ratio, and resize it to the image's
        size.
    brightness : float
        Multiply all pixels of an image by a factor from ``1 - brightness`` to ``1 + brightness``. Bytes stay from 0 to
        255.
    cutout : int
        Fill a square with sides of this many pixels with the image's mean; its centre may be any pixel. A training
        takes no more than the image's shorter side less one.
    seed, epoch : int
    indices : ndarray, shape (N,), integer
        Position of each image in the training split. The draw is a function of (seed, epoch, index) only.

    Returns
    -------
    ndarray, shape (N, H, W, C), dtype of `batch`
        A new C-contiguous array; or `batch` itself, if nothing is to be changed.

    Raises
    ------
    InputError
        If the shapes do not fit, a strength is out of its range, or another argument is not of its kind.

    Notes
    -----
    Every strength is drawn uniformly from its range, for each image separately.

    References
    ----------
    DeVries and Taylor, "Improved regularization of convolutional neural networks with cutout" (2017).
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
    given = {"rotate": rotate, "crop": crop, "brightness": brightness, "cutout": cutout}
    asked = {name: each.check(given[name]) for name, each in AUGMENTATIONS.items()}
    asked = {name: value for name, value in asked.items() if value != AUGMENTATIONS[name].neutral}
    if asked and batch.dtype.kind not in "iuf":
        raise DtypeError(f"{' and '.join(asked)} needs images of integers or floating-point numbers, not {batch.dtype}")
    if not (flip or shift or asked) or not batch.size:
        return batch
    of_examples = words(seed, epoch, indices)
    for name in (name for name in asked if AUGMENTATIONS[name].moves):
        batch = AUGMENTATIONS[name].apply(batch, asked[name], draws(of_examples, name))
    if flip or shift:
        batch = _moved(batch, flip, shift, of_examples)
    for name in (name for name in asked if not AUGMENTATIONS[name].moves):
        batch = AUGMENTATIONS[name].apply(batch, asked[name], draws(of_examples, name))
    return np.ascontiguousarray(batch)


def _moved(batch: np.ndarray, flip: bool, shift: int, of_examples: np.ndarray) -> np.ndarray:
    """The images shifted and flipped, in one pass."""
    n, height, width, channels = batch.shape
    rows = np.broadcast_to(np.arange(height), (n, height))
    columns = np.broadcast_to(np.arange(width), (n, width))
    if shift:
        span = np.uint64(2 * shift + 1)
        # Separate bits of the word, 31 for each shift, so that the three random numbers are independent.
        down = ((of_examples & np.uint64(0x7FFFFFFF)) % span).astype(np.int64) - shift
        across = (((of_examples >> np.uint64(31)) & np.uint64(0x7FFFFFFF)) % span).astype(np.int64) - shift
        rows = np.clip(rows - down[:, None], 0, height - 1)
        columns = np.clip(columns - across[:, None], 0, width - 1)
    if flip:
        flipped = (of_examples >> np.uint64(63)).astype(bool)
        columns = np.where(flipped[:, None], width - 1 - columns, columns)
    flat = (np.arange(n)[:, None] * height + rows)[:, :, None] * width + columns[:, None, :]
    return np.ascontiguousarray(batch).reshape(-1, channels).take(flat, axis=0)


def settings(value: Any) -> dict[str, Any] | None:
    """`value` as keyword arguments of :func:`augment`, or None if it changes nothing."""
    given = mapping(value, "augment", "{'flip': True, 'shift': 2}")
    checks: dict[str, Callable[[Any], Any]] = {
        "flip": lambda item: flag(item, "augment's flip"),
        "shift": lambda item: integer(item, "augment's shift", minimum=0, maximum=MOST_SHIFT),
        **{name: each.check for name, each in AUGMENTATIONS.items()},
    }
    return {choice(name, "augmentation", checks): checks[name](item) for name, item in given.items()} or None


def check_size(given: Mapping[str, Any] | None, shape: tuple[int, ...]) -> None:
    """Check the result of :func:`settings` against the shape of an image, ``(H, W, C)``; of flat examples nothing.

    Raises
    ------
    InputError
        If an augmentation leaves nothing of such an image.
    """
    if len(shape) == 3:
        for name, value in (given or {}).items():
            if name in AUGMENTATIONS:
                AUGMENTATIONS[name].check_size(value, *shape[:2])
