"""Weights of classes and images in the loss: from the user's arguments, and for a run's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..datasets.files import listed
from ..digests import digest
from ..errors import InputError, shown
from ..nn.weighting import amounts
from ..parallel import Weighing
from ..values import integer, real

if TYPE_CHECKING:
    from ..nn import Sequential

BALANCED = "balanced"


def weighing(
    model: Sequential, labels: np.ndarray, class_weight: Any, label_smoothing: Any, sample_weight: Any
) -> Weighing | None:
    """The weights of a run's loss, checked; None if there are none and labels are not smoothed.

    Parameters
    ----------
    model : Sequential
        Its classes are meant.
    labels : (N,) ndarray of int64
        The training images' labels.
    class_weight : "balanced", mapping, (classes,) array or None
        As :func:`pyconv.fit` takes it.
    label_smoothing : float
    sample_weight : (N,) array or None

    Raises
    ------
    InputError, ShapeError, DtypeError
        If one of them does not fit, or all training images would have weight 0.
    """
    smoothing = real(label_smoothing, "label_smoothing", minimum=0, maximum=1)
    classes = None if class_weight is None else _of_classes(class_weight, labels, model)
    images = None if sample_weight is None else amounts(sample_weight, "sample_weight", len(labels), "training image")
    if classes is None and images is None and not smoothing:
        return None
    at_label = np.ones(len(labels)) if classes is None else classes[labels]
    if not (at_label if images is None else at_label * images).any():
        raise InputError("class_weight and sample_weight leave no training image a weight above 0")
    return Weighing(images, classes, smoothing)


def _of_classes(value: Any, labels: np.ndarray, model: Sequential) -> np.ndarray:
    """Class weights as a vector over the classes."""
    count = model.output_shape[-1]
    if isinstance(value, str):
        if value != BALANCED:
            raise InputError(f"class_weight must be 'balanced', a mapping or an array of numbers, not {shown(value)}")
        return balanced(labels, count)
    if not isinstance(value, Mapping):
        return amounts(value, "class_weight", count, "class")
    names = [] if model.classes is None else list(model.classes)
    made = np.ones(count)
    for key, weight in value.items():
        made[_class(key, names, count)] = real(weight, f"class_weight of class {shown(key)}", minimum=0)
    return made


def _class(key: Any, names: Sequence[str], count: int) -> int:
    """The number of a class that is given by number or name."""
    if isinstance(key, str):
        if key in names:
            return names.index(key)
        known = f"the classes are {listed(names)}" if names else f"give numbers from 0 to {count - 1}"
        raise InputError(f"class_weight: there is no class {shown(key)}; {known}")
    return integer(key, "a class in class_weight", minimum=0, maximum=count - 1)


def balanced(labels: np.ndarray, classes: int) -> np.ndarray:
    """Weights that make all occurring classes equally important: ``N / (classes that occur * images of the class)``.

    Parameters
    ----------
    labels : (N,) ndarray of int64
    classes : int

    Returns
    -------
    (classes,) ndarray of float64
        1 for a class without images.
    """
    counts = np.bincount(labels, minlength=classes)
    present = counts > 0
    return np.divide(len(labels), present.sum() * counts, out=np.ones(classes), where=present)


def recorded(weights: Weighing | None) -> dict[str, Any]:
    """The weights for ``config.toml``; a resumed run takes them from there."""
    if weights is None:
        return {}
    return {
        "class_weights": None if weights.classes is None else weights.classes.tolist(),
        "label_smoothing": weights.smoothing or None,
    }


def settings(weights: Weighing | None) -> dict[str, Any]:
    """The weights for a checkpoint, which a continued run must match; image weights as a digest."""
    made = {"class_weights": None, "label_smoothing": None, **recorded(weights)}
    images = None if weights is None else weights.images
    return {**made, "sample_weight": None if images is None else digest([images])}


def words(weights: Weighing) -> str:
    """The weights in a few words, for the log."""
    parts = []
    if weights.classes is not None:
        parts.append(f"class weights {', '.join(f'{weight:.3g}' for weight in weights.classes)}")
    if weights.images is not None:
        parts.append(f"image weights from {weights.images.min():.3g} to {weights.images.max():.3g}")
    if weights.smoothing:
        parts.append(f"label smoothing {weights.smoothing:g}")
    return "; ".join(parts)
