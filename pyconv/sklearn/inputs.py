"""Converts scikit-learn users' data to images, labels and weights, or raises an error of one line."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import scipy.sparse
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from ..arrays import as_array
from ..errors import DtypeError, InputError, PyconvError, ShapeError, shown
from ..nn.layer import Shape
from ..values import integer, sequence

_CHUNK = 256
"""Examples that are checked together."""


@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """Within it, scikit-learn's errors of several lines become pyconv's errors of one line."""
    try:
        yield
    except PyconvError:
        raise
    except TypeError as error:
        raise DtypeError(_words(error)) from None
    except ValueError as error:
        raise InputError(_words(error)) from None


def _words(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:300] + "…"


# ---- images ----------------------------------------------------------------------------------------------------------


def examples(estimator: Any, X: Any, y: Any = "no_validation", *, reset: bool) -> tuple[Any, Any]:
    """Rows or images as an array for networks, ``(N, *estimator.image_shape_)``, and the labels as a vector.

    Parameters
    ----------
    estimator : ConvNetClassifier
        Stores the number and the names of the features and the shape of the images, or is compared with them.
    X : array_like, data frame or sparse matrix
        ``(N, features)``, ``(N, H, W)`` or ``(N, H, W, C)``.
    y : (N,) array_like
        Any labels; left out if there are none.
    reset : bool
        Whether to store these, as in a first fit.

    Returns
    -------
    x : (N, ...) ndarray of uint8, float32 or float64
    y : (N,) ndarray or None

    Raises
    ------
    InputError, ShapeError, DtypeError
        If they cannot be used: for example if `X` has another shape or holds NaN.
    """
    x, shape = _unfold(X)
    if not reset and shape is not None and shape != estimator.image_shape_:
        raise ShapeError(f"X holds images of {_sizes(shape)}, but the network was trained on {_told(estimator)}")
    has_labels = not isinstance(y, str)
    with one_line():
        both = validate_data(estimator, x, y, reset=reset, accept_sparse="csr", ensure_all_finite=False)
        x, labels = both if has_labels else (both, None)
        if has_labels:
            check_classification_targets(labels)
    x = _numbers(x.toarray() if scipy.sparse.issparse(x) else x)
    if reset:
        estimator.image_shape_ = _image_shape(estimator, shape, x.shape[1])
    return x.reshape(len(x), *estimator.image_shape_), labels


def _unfold(X: Any) -> tuple[Any, Shape | None]:
    """Images as rows, and the shape of one image; or rows as they are, and None."""
    if scipy.sparse.issparse(X) or hasattr(X, "columns") or hasattr(X, "__dataframe__"):
        return X, None
    array = as_array(X, "X")
    if array.ndim < 2:
        raise ShapeError(
            f"X has shape {array.shape}, and one row is no table. Reshape your data: X.reshape(1, -1) for a single row"
        )
    if array.ndim == 2:
        return array, None
    if array.ndim > 4:
        raise ShapeError(f"X must be rows (N, features) or images (N, H, W) or (N, H, W, C), not {array.shape}")
    height, width, channels = (*array.shape[1:], 1)[:3]
    return array.reshape(len(array), height * width * channels), (height, width, channels)


def _numbers(x: np.ndarray) -> np.ndarray:
    """`x` in a dtype that networks take; raises an error if a number is not finite."""
    kept = x.dtype == np.uint8 or (x.dtype.kind == "f" and x.dtype.itemsize in (4, 8))
    wide = x.dtype.kind == "f" and x.dtype.itemsize > 8
    if not (kept and x.dtype.isnative):
        # Pixels are exact in float32; float64 in the other byte order stays float64.
        x = x.astype(x.dtype.newbyteorder("=") if kept else np.float64 if wide else np.float32)
    if x.dtype.kind == "f":
        for begin in range(0, len(x), _CHUNK):
            finite = np.isfinite(x[begin : begin + _CHUNK]).all(axis=1)
            if not finite.all():
                row = begin + int(finite.argmin())
                raise InputError(f"X holds NaN or infinity, first in row {row}; mend or leave out such rows")
    return np.ascontiguousarray(x)


def _image_shape(estimator: Any, given: Shape | None, features: int) -> Shape:
    """The shape of one example: as the user asked, or as it came, or an image of one row."""
    from ..nn import Sequential

    asked = estimator.image_shape
    if asked is None and isinstance(estimator.model, Sequential):
        asked = estimator.model.input_shape
        if len(asked) == 1 and given is None:
            return _fitting(asked, features, "the network's input shape")
    if asked is None:
        return given or (1, features, 1)
    items = sequence(asked)
    if items is None or len(items) not in (2, 3):
        raise ShapeError(f"image_shape must be (height, width) or (height, width, channels), not {shown(asked)}")
    height, width, channels = (integer(size, "every size of image_shape", minimum=1) for size in (*items, 1)[:3])
    shape = (height, width, channels)
    if given is not None and given != shape:
        raise ShapeError(f"X holds images of {_sizes(given)}, but image_shape is {_sizes(shape)}")
    return _fitting(shape, features, "image_shape")


def _fitting(shape: Shape, features: int, name: str) -> Shape:
    if math.prod(shape) != features:
        raise ShapeError(
            f"X has rows of {features} numbers, but {name} {_sizes(shape)} takes {math.prod(shape)}; "
            "give the height, width and channels of the images that the rows hold"
        )
    return shape


def _sizes(shape: Shape) -> str:
    return "×".join(map(str, shape))


def _told(estimator: Any) -> str:
    shape = estimator.image_shape_
    rows = estimator.image_shape is None and len(shape) == 3 and shape[0] == shape[2] == 1
    return f"rows of {shape[1]} numbers" if rows else f"images of {_sizes(shape)}"


# ---- labels and weights ----------------------------------------------------------------------------------------------


def sample_weights(value: Any, count: int) -> np.ndarray | None:
    """The weight of each row as float64, or None if all are equal.

    Raises
    ------
    InputError, ShapeError, DtypeError
        If it is not one finite number of at least 0 for each of `count` rows, or all are 0.
    """
    if value is None:
        return None
    array = as_array(value, "sample_weight")
    if array.ndim == 0:
        array = np.full(count, array)
    if array.shape != (count,):
        raise ShapeError(f"sample_weight must have one number for each of {count} rows, not shape {array.shape}")
    with one_line():
        weights = array.astype(np.float64)
    wrong = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if wrong.size:
        raise InputError(f"sample_weight holds {weights[wrong[0]]:g} at position {wrong[0]}; weights are 0 or above")
    if not weights.any():
        raise InputError("sample_weight is zero for all rows; at least one weight must be above zero")
    return weights


def class_weights(value: Any, classes: np.ndarray, labels: np.ndarray, weights: np.ndarray | None) -> np.ndarray | None:
    """The weight of each class, ``(classes,)``, or None if all are equal.

    "balanced" makes the rows of every class together equally important: N / (classes * its rows), with rows counted by
    their weights if there are any.

    Parameters
    ----------
    value : "balanced", mapping or None
        A mapping has labels as keys; classes that are missing have weight 1.
    classes : (K,) ndarray
    labels : (N,) integer ndarray
        Positions in `classes`.
    weights : (N,) ndarray or None

    Raises
    ------
    InputError
        If it is something else, or a weight is below 0.
    """
    if value is None:
        return None
    if isinstance(value, str) and value == "balanced":
        counts = np.bincount(labels, weights, minlength=len(classes)).astype(np.float64)
        return counts.sum() / (len(classes) * counts)
    if not isinstance(value, Mapping):
        raise InputError(f"class_weight must be 'balanced', a mapping of labels to weights or None, not {shown(value)}")
    with one_line():
        found = compute_class_weight(dict(value), classes=classes, y=classes[labels]).astype(np.float64)
    if not (np.isfinite(found).all() and (found >= 0).all()):
        raise InputError(f"class_weight must hold finite numbers of at least 0, not {shown(value)}")
    return found


def together(weights: np.ndarray | None, by_class: np.ndarray | None, labels: np.ndarray) -> np.ndarray | None:
    """The product of both weights, scaled to mean 1, or None if all rows have the same."""
    if by_class is not None:
        weights = by_class[labels] if weights is None else weights * by_class[labels]
    if weights is None or (weights == weights[0]).all():
        if weights is not None and not weights[0]:
            raise InputError("class_weight and sample_weight together are zero for all rows")
        return None
    if not weights.any():
        raise InputError("class_weight and sample_weight together are zero for all rows")
    return weights * (len(weights) / weights.sum())


def moments(x: np.ndarray, weights: np.ndarray | None) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, of weighted rows, in float64; 1 for a constant channel."""
    pixels = x.reshape(len(x), -1, x.shape[-1])
    weights = np.ones(len(x)) if weights is None else weights
    total = weights.sum() * pixels.shape[1]

    def averaged(power: int, mean: np.ndarray) -> np.ndarray:
        found = np.zeros(x.shape[-1])
        for begin in range(0, len(x), _CHUNK):
            chunk = pixels[begin : begin + _CHUNK].astype(np.float64)
            found += weights[begin : begin + _CHUNK] @ ((chunk - mean) ** power).sum(axis=1)
        return found / total

    mean = averaged(1, np.zeros(x.shape[-1]))
    std = np.sqrt(averaged(2, mean))
    std[std <= 1e-12 * np.abs(mean)] = 1.0
    return mean.tolist(), std.tolist()
