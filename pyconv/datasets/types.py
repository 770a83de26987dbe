"""What every reader returns: images with labels, in splits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Split(NamedTuple):
    """Images and their labels; unpacks as ``x, y``.

    Attributes
    ----------
    x : ndarray, shape (N, H, W, C), uint8 or float32
        Images, C-contiguous, in the units of their source (0 to 255 for uint8): normalisation belongs to the model.
    y : ndarray, shape (N,), int64
        Labels: indices into the data set's `classes`.
    """

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class Dataset:
    """A data set as it is trained on.

    Attributes
    ----------
    name : str
        What to call it in a log.
    train, validation : Split
        Images to learn from, and images to measure accuracy on.
    classes : list of str
        Name of each label, in the order of the labels.
    test : Split or None
        Images that the source sets apart for one last measurement (FER2013's ``PrivateTest``), or None.
    notes : tuple of str
        What a user should know about how the source was read: files that were passed over, for one. A line each.
    """

    name: str
    train: Split
    validation: Split
    classes: list[str]
    test: Split | None = None
    notes: tuple[str, ...] = ()

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of one image, ``(H, W, C)``."""
        return self.train.x.shape[1:]


@dataclass(frozen=True)
class Source:
    """What a reader found, before splits are made and checked: `validation` and `test` may be None."""

    name: str
    train: Split
    classes: list[str]
    validation: Split | None = None
    test: Split | None = None
    notes: tuple[str, ...] = ()
    numbered: bool = False
    """Whether the labels are numbers in the source, so that it is open from which one they count."""


class Options(NamedTuple):
    """What the user may say about how a source is to be read; not every reader takes everything."""

    size: tuple[int, ...] | None = None
    """(H, W) or (H, W, C) to bring images to."""
    first_label: int | None = None
    """The number of the first class."""
