"""Checks and converts the arguments of fit(), and sets the model's normalisation; an error names the argument."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import as_array
from ..backends import get as get_backend
from ..cluster import Shard
from ..datasets import Split, normalization
from ..datasets.augmentation import check_size
from ..datasets.fingerprint import fingerprint, first_not_finite
from ..datasets.labels import matrix_hint
from ..datasets.rows import Rows
from ..errors import DtypeError, InputError, PyconvError, ShapeError, is_text, shown, unknown_name
from ..parallel import check_shares
from ..parallel.accumulating import check_micro
from ..values import flag, function, integer, mapping, masked, real, sequence

if TYPE_CHECKING:
    from ..nn import Sequential
    from ..parallel import Job

DTYPES = ("uint8", "float32", "float64")

DEEPEST = 8
"""How deeply tables of a description may be nested."""


def images(x: Any, model: Sequential, name: str) -> np.ndarray:
    """`x` as images that `model` takes, C-contiguous; copied only if they are not.

    Raises
    ------
    DtypeError, ShapeError
        If they are of another dtype or do not fit the model's input.
    InputError
        If there are none, or a pixel is NaN or infinite.
    """
    array = x if isinstance(x, (Rows, Shard)) else as_array(x, name)
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
    wrong = None if isinstance(array, Shard) else first_not_finite(array)
    if wrong is not None:
        raise InputError(f"{name} has a NaN or infinite pixel, first in image {wrong}; mend or leave out such images")
    return cast(np.ndarray, array) if isinstance(array, (Rows, Shard)) else np.ascontiguousarray(array)


def pair(
    model: Sequential, both: tuple[ArrayLike, ArrayLike], x_name: str, y_name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels, checked against the model."""
    found = sequence(both)
    if found is None or len(found) != 2:
        raise InputError(f"{x_name} and {y_name} must be a pair of arrays, (images, labels)")
    x = images(found[0], model, x_name)
    return x, labels(found[1], len(x), model.output_shape[-1], y_name)


def training_pair(model: Sequential, x: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels to train on: they are of at least two classes."""
    both = pair(model, (x, y), "x", "labels")
    if len(np.unique(both[1])) < 2:
        raise InputError(f"all training images are of class {both[1][0]}; give at least two classes")
    return both


def normalizing(value: Any) -> str | bool:
    """`value` as a bool or "auto": whether the model's normalisation is set from the training images."""
    if not isinstance(value, str):
        return flag(value, "normalize")
    if value != "auto":
        raise unknown_name("normalize", value, ("auto", "True", "False"))
    return value


def normalize(model: Sequential, x: np.ndarray, y: np.ndarray, how: str | bool) -> None:
    """Set the model's normalisation from its training images, if `how` and the images' dtype ask for it."""
    from ..nn import Normalization

    if how is True or (how == "auto" and x.dtype == np.uint8 and model.normalization.identity):
        if isinstance(x, Shard):
            mean, std = x.facts.mean, x.facts.std
        else:
            mean, std = (numbers.tolist() for numbers in normalization(Split(x, y)))
        model.normalization = Normalization(mean, std)


def alike(validation: np.ndarray, x: np.ndarray) -> None:
    """Check that validation images have the dtype of the training images, and so the same units.

    Raises
    ------
    DtypeError
        If they do not: bytes go from 0 to 255, and floating-point numbers usually do not.
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
    if job.micro_batches > 1 or job.stages is not None:
        check_micro(job, len(x), model.least_batch)
    check_size(job.augment, x.shape[1:])
    if job.backend != "auto":  # the choice of "auto" is logged, and the run's log is not open yet
        get_backend(job.backend)
    _ = job.rule  # raises an error if the rule or an option is wrong
    try:
        job.learning_rate(1, -(-len(x) // (job.batch_size * job.workers)))
    except PyconvError as error:
        raise InputError(str(error)) from None


def schedule(value: Any) -> Callable[[int, int], float]:
    """`value` as a schedule: it can be called, and is no class."""
    if isinstance(value, type):
        raise InputError(f"schedule must be made, such as optim.schedule('cosine'), not the class {shown(value)}")
    return function(value, "schedule", "optim.schedule('cosine')")


def description(value: Any) -> dict[str, dict[str, Any]]:
    """`value` as sections of ``config.toml``, with values that TOML can hold; NumPy's numbers become Python's.

    Raises
    ------
    InputError
        If it is no mapping of mappings, or holds a value that TOML cannot; the message names the place.
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
    """`value` as TOML can hold it: text, numbers, lists and tables of these; None stays, and is left out later."""
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
    """A short name for a data set, to notice that a run is continued with other data."""
    return x.facts.fingerprint if isinstance(x, Shard) else fingerprint(x, y)
