"""Renumbers integer labels from 0, names the classes, and finds mistakes: gaps, empty classes, one-hot rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import DataError
from .files import listed
from .types import Split

_MANY_CLASSES = 1000  # up to so many classes, gaps between labels cost too little to refuse them

_COUNT_FROM = "if labels count from {0}, add --first-label {0}, or first_label={0} in Python"


def numbered(
    path: Path, splits: Sequence[Split | None], first: int, names: list[str] | None = None
) -> tuple[list[Split | None], list[str]]:
    """Renumber labels from 0, and name the classes.

    Parameters
    ----------
    path : Path
        The source of the labels, for messages.
    splits : sequence of Split or None
        The training split comes first.
    first : int
        The label of the first class.
    names : list of str, optional
        Names of the classes; by default the labels themselves.

    Returns
    -------
    splits : list of Split or None
    classes : list of str

    Raises
    ------
    DataError
        If a label is below `first`, there are fewer names than classes, or most numbers up to the largest label do not
        occur.
    """
    there = [split.y for split in splits if split is not None and len(split.y)]
    for labels in there:
        below = np.flatnonzero(labels < first)
        if below.size:
            raise DataError(
                f"{path}: label {labels[below[0]]} (image {below[0]}), but labels count from {first}; "
                + ("give a smaller first label" if first else "labels must be class numbers from 0")
            )
    count = int(splits[0].y.max()) + 1 - first  # type: ignore[union-attr]
    if names is None:
        _check_gaps(path, count, there, first)
        names = [str(label) for label in range(first, first + count)]
    elif len(names) < count:
        from_one = first == 0 and len(names) == count - 1 and min(int(labels.min()) for labels in there) > 0
        hint = f"; {_COUNT_FROM.format(1)}" if from_one else ""
        raise DataError(f"{path}: classes must be a vector of at least {count} strings, not {len(names)}{hint}")
    shifted = [None if split is None else Split(split.x, split.y - first if first else split.y) for split in splits]
    return shifted, names


def _check_gaps(path: Path, count: int, labels: list[np.ndarray], first: int) -> None:
    """Refuse labels far above the number of classes: they are a mistake, not a reason for `count` outputs."""
    present = np.unique(np.concatenate(labels))
    if count > _MANY_CLASSES and count > 10 * len(present):
        expected = np.arange(first, first + len(present))
        missing = int(expected[expected != present][0])
        raise DataError(
            f"{path}: y has the label {first + count - 1}, but only {len(present)} different labels occur, and "
            f"{missing} is not among them; number the classes from 0 without gaps"
        )


def empty_classes(labels: np.ndarray, classes: Sequence[str], first: int | None) -> str | None:
    """A note about classes without a training image.

    Parameters
    ----------
    labels : (N,) ndarray of int64
        The training images' labels, from 0.
    classes : sequence of str
    first : int or None
        The user's label of the first class; None if the source's labels are no numbers.

    Returns
    -------
    str or None
        A line, or None if every class has an image.
    """
    present = np.unique(labels)
    if len(present) == len(classes):
        return None
    missing = np.setdiff1d(np.arange(len(classes)), present)
    text = f"{len(missing)} of {len(classes)} classes have no training image: {listed(classes[i] for i in missing)}"
    lowest = int(present[0])
    if first is not None and lowest:
        text += f"; {_COUNT_FROM.format(first + lowest)}"
    return text


def matrix_hint(labels: np.ndarray) -> str:
    """What labels of several columns probably are, and what to do.

    Parameters
    ----------
    labels : (N, columns) ndarray

    Returns
    -------
    str
        One sentence without a full stop.
    """
    columns = labels.shape[1]
    if labels.dtype.kind in "biuf" and labels.size:
        zeros_and_ones = bool(((labels == 0) | (labels == 1)).all())
        sums = labels.sum(axis=1, dtype=np.float64)
        if zeros_and_ones and (sums == 1).all():
            return "they are one-hot: give their argmax(axis=1)"
        if zeros_and_ones:
            return "they name several classes an image or none (multi-label), and pyconv trains on one class an image"
        if labels.dtype.kind == "f" and (labels >= 0).all() and np.allclose(sums, 1, atol=1e-3):
            return "they are shares of each class (soft labels), and pyconv trains on one class an image"
        if columns == 8 and labels.dtype.kind in "iu":
            return "if they are QMNIST's eight columns, the class is column 0"
    return f"they have {columns} columns: give the one that is the class"
