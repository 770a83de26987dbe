"""The types of data sets: images with labels in splits, and the description of a reader."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .brightness import Brightness


class Split(NamedTuple):
    """Images and their labels; unpacks as ``x, y``.

    Attributes
    ----------
    x : ndarray, shape (N, H, W, C), uint8 or float32
        Images, C-contiguous, in the units of their source (0 to 255 for uint8): normalisation belongs to the model.
        Of an ``.npy``, which may be larger than memory, a map of the file, of float64 too, or a
        :class:`~pyconv.datasets.rows.Rows` of such a map, which copies only the images that it is asked for.
    y : ndarray, shape (N,), int64
        Labels: indices into the data set's `classes`.
    """

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class Dataset:
    """A data set, ready for training.

    Attributes
    ----------
    name : str
        Its name in the log.
    train, validation : Split
        Images to learn from, and images to measure accuracy on.
    classes : list of str
        Name of each label, in the order of the labels.
    test : Split or None
        Images that the source sets apart for one last measurement (FER2013's ``PrivateTest``), or None.
    notes : tuple of str
        What a user should know about how the source was read: files that were passed over, for one. A line each.
    brightness : (float, float) or None
        What of images of 16 bits became 0 and 255; None where there are none.
    """

    name: str
    train: Split
    validation: Split
    classes: list[str]
    test: Split | None = None
    notes: tuple[str, ...] = ()
    brightness: Brightness | None = None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of one image, ``(H, W, C)``."""
        return self.train.x.shape[1:]


@dataclass(frozen=True)
class Source:
    """The result of a reader, before splits are made and checked: `validation` and `test` may be None."""

    name: str
    train: Split
    classes: list[str]
    validation: Split | None = None
    test: Split | None = None
    notes: tuple[str, ...] = ()
    brightness: Brightness | None = None
    """What of images of 16 bits became 0 and 255; None where there are none."""
    numbered: bool = False
    """Whether the labels are numbers in the source, so that the label of the first class can be chosen."""


class Options(NamedTuple):
    """A user's options for reading a source; no reader uses all of them."""

    size: tuple[int, ...] | None = None
    """(H, W) or (H, W, C) to resize and convert images to."""
    first_label: int | None = None
    """The number of the first class."""
    bits: int | str | None = None
    """Bits in use of images of 16, or "data" to scale by the training images' own range."""
    into: Callable[[tuple[int, ...], np.dtype], np.ndarray] | None = None
    """Makes the array of decoded images, of a shape and a dtype, if they do not go into memory."""


class Reader(NamedTuple):
    """A form of data on disk: the test whether a path has this form, and the function that reads it.

    Attributes
    ----------
    form : str
        Its name.
    example : str
        What a user gives, with an article, such as "an .npz".
    matches : callable
        ``matches(path)``: whether a path has this form.
    read : callable
        ``read(path, options)``: reads the data.
    takes : tuple of str
        Names of the options that it uses.
    """

    form: str
    example: str
    matches: Callable[[Path], bool]
    read: Callable[[Path, Options], Source]
    takes: tuple[str, ...] = ()
