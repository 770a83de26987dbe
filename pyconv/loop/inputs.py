"""The checks at the training loop's door: images, labels and numbers that cannot be trained on are named there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import as_array
from ..backends import get as get_backend
from ..datasets.augmentation import MOST_SHIFT
from ..datasets.labels import matrix_hint
from ..errors import DtypeError, InputError, PyconvError, ShapeError, is_text, shown
from ..parallel import check_shares, rule_for
from ..values import choice, flag, function, integer, mapping, masked, real, sequence

if TYPE_CHECKING:
    from ..nn import Sequential
    from ..parallel import Job

DTYPES = ("uint8", "float32", "float64")
_SAMPLE_BYTES = 1 << 26
_CHUNK = 1024

DEEPEST = 8
"""Tables in tables of a description."""


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
    if array.ndim == 2 and array.shape[0] == count and array.shape[1] > 1:
        raise ShapeError(f"{name} has shape {array.shape}, and pyconv takes a vector; {matrix_hint(array)}")
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
    rule_for(job.update, job.options)
    try:
        job.learning_rate(1, -(-len(x) // (job.batch_size * job.workers)))
    except PyconvError as error:
        raise InputError(str(error)) from None
    except Exception as error:  # the user's own function
        words = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(f"the schedule fails when it is called as schedule(step, total): {words}") from None


def schedule(value: Any) -> Callable[[int, int], float]:
    """`value` as a schedule: something that can be called, and is no class."""
    if isinstance(value, type):
        raise InputError(f"schedule must be made, such as optim.schedule('cosine'), not the class {shown(value)}")
    return function(value, "schedule", "optim.schedule('cosine')")


def augmentation(value: Any) -> dict[str, Any] | None:
    """`value` as keyword arguments of :func:`pyconv.datasets.augment`, or None where it asks for nothing."""
    given = mapping(value, "augment", "{'flip': True, 'shift': 2}")
    checks: dict[str, Callable[[Any], Any]] = {
        "flip": lambda item: flag(item, "augment's flip"),
        "shift": lambda item: integer(item, "augment's shift", minimum=0, maximum=MOST_SHIFT),
    }
    return {choice(name, "augmentation", checks): checks[name](item) for name, item in given.items()} or None


def description(value: Any) -> dict[str, dict[str, Any]]:
    """`value` as sections of ``config.toml``, of what TOML can hold; NumPy's numbers become Python's.

    Raises
    ------
    InputError
        If it is no mapping of mappings, or holds something else; the message names where.
    """
    example = "{'data': {'source': 'x.npz'}}"
    sections = mapping(value, "description", example)
    made = {}
    for name, entries in sections.items():
        if name in ("format", "pyconv"):
            raise InputError(f"description: {name!r} is an entry of config.toml's own; call the section otherwise")
        if not isinstance(entries, Mapping):
            raise InputError(f"description must be a mapping of mappings, such as {example}, not {shown(value)}")
        made[_text(name, "description")] = _plain(entries, f"description's {shown(name)}", 1)
    return made


def _plain(value: Any, where: str, depth: int) -> Any:
    """`value` as what TOML holds: text, numbers, lists and tables of them; None stays, and is left out."""
    if isinstance(value, (np.generic, np.ndarray)) and not masked(value):
        value = value.tolist()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value, where)
    if isinstance(value, int):
        return integer(value, where, minimum=-(2**63))
    if isinstance(value, float):
        return float(value)
    if depth < DEEPEST and isinstance(value, Mapping):
        return {_text(key, where): _plain(item, where, depth + 1) for key, item in value.items()}
    items = sequence(value) if depth < DEEPEST else None
    if items is None:
        raise InputError(f"{where} holds {shown(value)}; config.toml holds text, numbers, lists and tables of them")
    return [_plain(item, where, depth + 1) for item in items]


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not is_text(value):
        raise InputError(f"{where}: {shown(value)} is not UTF-8 text, which config.toml is")
    return str(value)


def share(value: Any, name: str) -> float:
    """`value` as a float above 0 and at most 1, or an `InputError` that names the argument."""
    number = real(value, name, above=0)
    if number > 1:
        raise InputError(f"{name} is a share from 0 to 1, not {shown(value)}; 90 % is 0.9")
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
