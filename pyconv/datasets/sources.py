"""From what the user names to a data set: the table of readers, and the checks that all of them share."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .. import runlog
from ..errors import DataError, InputError, UnknownNameError, is_text, unknown_name
from ..errors import shown as shown_value
from ..values import integer, real, sequence
from ..values import path as as_path
from . import fer2013, folder, idx, npz
from .files import reading, shown
from .labels import empty_classes
from .split import hold_out, subset
from .synthetic import faces_source
from .types import Dataset, Options, Source, Split


class Reader(NamedTuple):
    """A form of data: whether a path is of it, and what reads it."""

    form: str
    matches: Callable[[Path], bool]
    read: Callable[[Path, Options], Source]
    takes: tuple[str, ...] = ()
    """Which of the options it can heed."""


READERS = (
    Reader("FER2013 CSV", fer2013.matches, fer2013.read),
    Reader("NumPy archive", npz.matches, npz.read, ("first_label",)),
    Reader("IDX folder", idx.matches, idx.read, ("first_label",)),
    Reader("folder of class folders", folder.matches, folder.read, ("size",)),
)
"""Forms of data on disk; the first that matches reads."""

NAMED: dict[str, Callable[..., Source]] = {"faces": faces_source}
"""Data sets that pyconv makes itself, by name; each is called with `limit` and `seed`."""

_FORMS = "a FER2013 .csv, an .npz, a folder of IDX files or a folder of class folders of images"

_MOST_SIDE = 1 << 14

_log = runlog.logger("pyconv.datasets")


def load(
    source: str | os.PathLike[str],
    *,
    limit: int | None = None,
    seed: int = 0,
    validation_fraction: float = 0.1,
    size: Sequence[int] | None = None,
    first_label: int | None = None,
) -> Dataset:
    """Load a data set by name or from disk.

    Parameters
    ----------
    source : str or path
        ``"faces"`` (synthetic, see :func:`faces`), or the path of a FER2013 ``.csv`` (any of its forms), an ``.npz``
        with ``x`` and ``y``, a folder of IDX files, or a folder of class folders of images. A name wins
        over a path: write ``./faces`` for a folder of that name.
    limit : int, optional
        Keep this many training images, each class in its proportion and with at least one image. The validation split
        stays whole.
    seed : int
        Decides what is held out and what `limit` keeps, and draws the synthetic faces.
    validation_fraction : float
        Share of the training images to hold out for validation where the data brings no split of its own, the same
        share of each class.
    size : (int, int) or (int, int, int), optional
        Height and width to bring the images of a folder to, and channels: 1 for gray, 3 for colour.
    first_label : int, optional
        The label of the first class, in IDX files and ``.npz``: 1 where labels count from 1. 0 by default.

    Returns
    -------
    Dataset
        What there is to know about how the source was read is in its `notes`, and in the log of ``pyconv.datasets``.

    Raises
    ------
    DataError
        If the data cannot be used: the message names the file, the row where there is one, and what to do.
    UnknownNameError
        If `source` is neither a known name nor a path.
    InputError
        If `limit`, `seed`, `validation_fraction`, `size` or `first_label` is out of range, or the form of data is not
        one that heeds it.
    """
    seed = integer(seed, "seed", minimum=0)
    if limit is not None:
        limit = integer(limit, "limit", minimum=1)
    validation_fraction = real(validation_fraction, "validation_fraction", above=0, below=1)
    try:
        text = os.fsdecode(source)
    except TypeError:
        raise InputError(f"source must be the name of a data set or a path, not {shown_value(source)}") from None
    options = Options(_size(size), None if first_label is None else integer(first_label, "first_label", minimum=0))
    if text in NAMED:
        _check_options(options, text, ())
        found = NAMED[text](limit=limit, seed=seed)
    else:
        found = _read(text, options)
    return _dataset(found, text, limit, seed, validation_fraction, options.first_label or 0)


def _size(size: Sequence[int] | None) -> tuple[int, ...] | None:
    """`size` as two or three integers."""
    if size is None:
        return None
    numbers = sequence(size)
    if numbers is None or len(numbers) not in (2, 3):
        raise InputError(f"size must be (height, width) or (height, width, channels), not {shown_value(size)}")
    numbers = tuple(integer(number, "every number of size", minimum=1, maximum=_MOST_SIDE) for number in numbers)
    if len(numbers) == 3 and numbers[2] not in (1, 3):
        raise InputError(f"size has 1 channel (gray) or 3 (colour), not {numbers[2]}")
    return numbers


def _check_options(options: Options, text: str, takes: tuple[str, ...]) -> None:
    """Refuse what would be left unheeded."""
    for name, value in options._asdict().items():
        if value is not None and name not in takes:
            forms = " and ".join(reader.form for reader in READERS if name in reader.takes)
            raise InputError(f"{text}: {name} is for data of the form {forms}; leave it out here")


def _read(text: str, options: Options) -> Source:
    """Read a path with the first reader that matches it."""
    if not text or "\0" in text:
        raise unknown_name("data set", text, NAMED)
    path = as_path(text, "source")
    try:
        exists = path.exists()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None
    if not exists:
        if path.name == text and not path.suffix:
            known = unknown_name("data set", text, NAMED)
            raise UnknownNameError(f"{known}; nor is there a file or folder of this name: give {_FORMS}")
        raise DataError(f"{path}: no such file or folder; give {_FORMS}")
    with reading(path):  # a folder may exist and yet not be open to us
        for reader in READERS:
            if reader.matches(path):
                if not path.is_dir() and not path.is_file():
                    raise DataError(f"{path}: neither a file nor a folder; copy its content to a file")
                _check_options(options, text, reader.takes)
                _log.info("reading %s", path.resolve().name)
                return reader.read(path, options)
    raise DataError(f"{path}: not a form of data that pyconv reads; give {_FORMS}")


def _dataset(found: Source, source: str, limit: int | None, seed: int, fraction: float, first_label: int) -> Dataset:
    """Check the names and the splits, hold out and limit."""
    _check_names(found.classes, source)
    shape = found.train.x.shape[1:]
    for name, split in (("training", found.train), ("validation", found.validation), ("test", found.test)):
        if split is not None:
            _check(split, name, found, source, shape)
    labels = found.train.y
    if len(np.unique(labels)) < 2:
        only = found.classes[labels[0]]
        raise DataError(f"{source}: the training images are all of one class ({only}); give at least two classes")
    rows: np.ndarray | None = None
    validation = found.validation
    if validation is None:
        rows, held_out = hold_out(labels, fraction, seed)
        if not held_out.size:
            raise DataError(f"{source}: {len(labels)} images are too few to hold some out for validation; give more")
        validation = _take(found.train, held_out)
    if limit is not None and limit < (len(labels) if rows is None else len(rows)):
        kept = subset(labels if rows is None else labels[rows], limit, seed)
        rows = kept if rows is None else rows[kept]
    train = found.train if rows is None else _take(found.train, rows)
    notes = list(found.notes)
    empty = empty_classes(labels, found.classes, first_label if found.numbered else None)
    if empty is not None:
        notes.append(f"{source}: {empty}")
    for note in notes:
        _log.warning(note)
    test = found.test and _contiguous(found.test)
    return Dataset(found.name, _contiguous(train), _contiguous(validation), found.classes, test, tuple(notes))


def _check_names(classes: list[str], source: str) -> None:
    """Names of classes are told apart by, written to files and printed."""
    counts = Counter(classes)
    twice = next((name for name in classes if counts[name] > 1), None)
    if twice is not None:
        raise DataError(f"{source}: {counts[twice]} classes are called {shown(twice)}; give each a name of its own")
    for name in classes:
        if not is_text(name):
            raise DataError(f"{source}: the class name {shown(name)} is not UTF-8 text; rename the class")


def _check(split: Split, name: str, found: Source, source: str, shape: tuple[int, ...]) -> None:
    """Check one split against the training split."""
    if not len(split.y):
        raise DataError(f"{source}: the {name} split is empty; give at least one image")
    if split.x.shape[1:] != shape:
        raise DataError(
            f"{source}: {name} images have shape {split.x.shape[1:]}, training images {shape}; bring them to one shape"
        )
    if split.x.dtype != found.train.x.dtype:
        raise DataError(
            f"{source}: {name} images are {split.x.dtype}, training images {found.train.x.dtype}; store both alike"
        )
    beyond = np.flatnonzero(split.y >= len(found.classes))
    if beyond.size:
        raise DataError(
            f"{source}: {name} label {split.y[beyond[0]]} (image {beyond[0]}) does not occur in training, "
            f"whose labels are 0 to {len(found.classes) - 1}; give splits with the same classes"
        )


def _take(split: Split, rows: np.ndarray) -> Split:
    """Some examples of a split, copied."""
    return Split(split.x[rows], split.y[rows])


def _contiguous(split: Split) -> Split:
    """A split with C-contiguous arrays, copied only where they are not."""
    return Split(np.ascontiguousarray(split.x), np.ascontiguousarray(split.y))
