"""The checks at the training loop's door: images, labels and numbers that cannot be trained on are named there."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import as_array
from ..backends import get as get_backend
from ..datasets import augment
from ..errors import DtypeError, InputError, ShapeError
from ..parallel import check_shares

if TYPE_CHECKING:
    from ..nn import Sequential
    from ..parallel import Job

DTYPES = ("uint8", "float32", "float64")
_SAMPLE_BYTES = 1 << 26
_CHUNK = 1024


def images(x: Any, model: Sequential, name: str) -> np.ndarray:
    """`x` as images that `model` takes, C-contiguous; a copy is made only where they are not.

    Raises
    ------
    DtypeError, ShapeError
        If they are of another dtype or do not fit the model's input.
    InputError
        If there are none, or a pixel is NaN or infinite.
    """
    array = as_array(x, name)
    if array.dtype.name not in DTYPES:
        raise DtypeError(f"{name} has dtype {array.dtype}; convert the images to uint8, float32 or float64 first")
    shape = tuple(model.input_shape)
    if len(shape) == 3 and shape[-1] == 1 and array.ndim == 3 and array.shape[1:] == shape[:-1]:
        array = array[..., np.newaxis]
    if array.ndim != len(shape) + 1 or array.shape[1:] != shape:
        wanted = ", ".join(map(str, shape))
        raise ShapeError(f"{name} must have shape (N, {wanted}) for this model, not {array.shape}")
    if not len(array):
        raise InputError(f"{name} holds no images")
    if array.dtype.kind == "f":
        for begin in range(0, len(array), _CHUNK):
            finite = np.isfinite(array[begin : begin + _CHUNK]).all(axis=tuple(range(1, array.ndim)))
            if not finite.all():
                raise InputError(
                    f"{name} has a NaN or infinite pixel, first in image {begin + int(finite.argmin())}; "
                    "mend or leave out such images"
                )
    return np.ascontiguousarray(array)


def alike(validation: np.ndarray, x: np.ndarray) -> None:
    """Check that validation images are of the training images' dtype, and so of their units.

    Raises
    ------
    DtypeError
        If they are not: bytes count from 0 to 255, and floating-point numbers mostly do not.
    """
    if validation.dtype != x.dtype:
        raise DtypeError(
            f"validation images have dtype {validation.dtype}, training images {x.dtype}; "
            "bring both to one dtype and one scale"
        )


def labels(y: Any, count: int, classes: int, name: str) -> np.ndarray:
    """`y` as the int64 labels of `count` images in `classes` classes.

    Raises
    ------
    InputError
        If they are not integers from 0 to ``classes - 1``, one for each image; the first wrong one is named.
    """
    array = as_array(y, name)
    if array.dtype.kind not in "iu":
        raise DtypeError(f"{name} has dtype {array.dtype}; labels are integers from 0 to {classes - 1}")
    if array.shape != (count,):
        raise ShapeError(f"{name} must have one label for each of {count} images, not shape {array.shape}")
    outside = (array < 0) | (array >= classes)
    if outside.any():
        at = int(outside.argmax())
        raise InputError(
            f"{name} holds the label {array[at]} at position {at}; the model has {classes} classes, 0 to {classes - 1}"
        )
    return np.ascontiguousarray(array, dtype=np.int64)


def fits(job: Job, model: Sequential, x: np.ndarray) -> None:
    """Check that `job` can be done with `model` on the images `x`: batch, augmentation and backend.

    Raises
    ------
    InputError, BackendUnavailable
    """
    if job.batch_size * job.workers > len(x):
        several = f" of each of {job.workers} workers" if job.workers > 1 else ""
        most = len(x) // job.workers
        advice = f"take at most {most}" if most else f"take at most {len(x)} workers"
        raise InputError(f"batch_size {job.batch_size}{several} is more than the {len(x)} training images; {advice}")
    check_shares(len(x), job.batch_size, job.workers, model.least_batch)
    if job.backend != "auto":  # what auto chooses is said in the run's log, which is not open yet
        get_backend(job.backend)
    if job.augment:
        try:
            augment(x[:1], **job.augment, seed=0, epoch=0, indices=np.zeros(1, np.int64))
        except TypeError as error:
            raise InputError(f"augment={job.augment!r} does not fit: {error}") from None


def positive(value: Any, name: str) -> float:
    """`value` as a finite float above 0, or an `InputError` that names the argument."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be a number, not {value!r}") from None
    if not (math.isfinite(number) and number > 0):
        raise InputError(f"{name} must be a finite number above 0, not {value!r}")
    return number


def share(value: Any, name: str) -> float:
    """`value` as a float above 0 and at most 1, or an `InputError` that names the argument."""
    number = positive(value, name)
    if number > 1:
        raise InputError(f"{name} is a share from 0 to 1, not {value!r}; 90 % is 0.9")
    return number


def data_fingerprint(x: np.ndarray, y: np.ndarray) -> str:
    """A short name for a data set, to notice that a run is continued with other data.

    All labels count, and of the images as many, evenly spread, as fill 64 MB.
    """
    digest = hashlib.sha256(repr((x.shape, x.dtype.str)).encode())
    digest.update(y.data)
    each = max(x.nbytes // max(len(x), 1), 1)
    stride = -(-len(x) * each // _SAMPLE_BYTES)
    for image in x if stride <= 1 else x[::stride]:
        digest.update(image.data)
    return digest.hexdigest()[:16]
