"""load(): makes a data set from a name or a path; chooses the reader, and checks what it returns."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np

from .. import runlog
from ..errors import DataError, InputError, UnknownNameError, is_text, unknown_name
from ..errors import shown as shown_value
from ..values import integer, real, sequence
from ..values import path as as_path
from .brightness import BITS, DATA
from .files import reading, shown
from .into import Into
from .labels import empty_classes
from .readers import READERS
from .room import check_room
from .rows import Rows
from .split import hold_out, subset
from .synthetic import faces_source
from .types import Dataset, Options, Source, Split

NAMED: dict[str, Callable[..., Source]] = {"faces": faces_source}
"""Data sets that pyconv makes itself, by name; each is a function of `limit` and `seed`."""

_FORMS = ", ".join(reader.example for reader in READERS[:-1]) + f" or {READERS[-1].example}"

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
    bits: int | str | None = None,
    into: str | os.PathLike[str] | None = None,
) -> Dataset:
    """Load a data set by name or from disk.

    Parameters
    ----------
    source : str or path
        ``"faces"`` (synthetic, see :func:`faces`), or the path of a FER2013 ``.csv`` (any of its forms), an ``.npz``
        with ``x`` and ``y``, an ``.npy`` with the labels beside it, a folder of IDX files, or a folder of class folders
        of images. A name comes before a path: write ``./faces`` for a folder with that name.
    limit : int, optional
        Keep this many training images, with the classes in their proportions and at least one image of each. The
        validation split is kept whole.
    seed : int
        Decides which images are held out and which `limit` keeps, and draws the synthetic faces.
    validation_fraction : float
        Share of the training images to hold out for validation, the same of each class, if the data have no validation
        split of their own.
    size : (int, int) or (int, int, int), optional
        Height and width to resize the images of a folder to, and channels: 1 for gray, 3 for colour.
    first_label : int, optional
        The label of the first class, in IDX files, ``.npz`` and ``.npy``: 1 if labels begin with 1. 0 by default.

    bits : int or "data", optional
        Of images of 16 bits in a folder, how many bits are in use: ``2**bits - 1`` becomes 255. "data" brings the
        range of the training images to 0 to 255. All 16 by default. Such images are float32.
    into : str or path, optional
        A new folder that the decoded images of a folder or of Parquet files are written to, as ``images.npy`` with
        ``labels.npy`` and ``classes.npy``. They may be larger than memory: they are mapped from there, and
        ``load(into + "/images.npy")`` takes them again without decoding. By default they are decoded into memory.

    Returns
    -------
    Dataset
        Its `notes`, and the log of ``pyconv.datasets``, tell what there is to know about how the source was read.

    Raises
    ------
    DataError
        If the data cannot be used: the message names the file, the row if there is one, and what to do.
    UnknownNameError
        If `source` is neither a known name nor a path.
    InputError
        If `limit`, `seed`, `validation_fraction`, `size`, `first_label`, `bits` or `into` is out of range, or does not
        apply to this form of data.
    """
    seed = integer(seed, "seed", minimum=0)
    if limit is not None:
        limit = integer(limit, "limit", minimum=1)
    validation_fraction = real(validation_fraction, "validation_fraction", above=0, below=1)
    try:
        text = os.fsdecode(source)
    except TypeError:
        raise InputError(f"source must be the name of a data set or a path, not {shown_value(source)}") from None
    first = None if first_label is None else integer(first_label, "first_label", minimum=0)
    place = None if into is None else Into(as_path(into, "into"))
    options = Options(_size(size), first, _bits(bits), None if place is None else place.array)
    if text in NAMED:
        _check_options(options, text, ())
        found = NAMED[text](limit=limit, seed=seed)
    else:
        found = _read(text, options, place)
    return _dataset(found, text, limit, seed, validation_fraction, options.first_label or 0)


def _bits(bits: int | str | None) -> int | str | None:
    """`bits` as an integer, or the word for the data's own range."""
    if bits is None or (isinstance(bits, str) and bits == DATA):
        return bits
    if isinstance(bits, str):
        raise InputError(f"bits must be an integer from 1 to {BITS}, or {DATA!r}, not {shown_value(bits)}")
    return integer(bits, "bits", minimum=1, maximum=BITS)


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
    """Refuse options that the form of data would ignore."""
    for name, value in options._asdict().items():
        if value is not None and name not in takes:
            *others, last = (reader.form for reader in READERS if name in reader.takes)
            forms = f"{', '.join(others)} or {last}" if others else last
            raise InputError(f"{text}: {name} is for data of the form {forms}; leave it out here")


def _read(text: str, options: Options, place: Into | None) -> Source:
    """Read a path with the first reader that matches it; with `place`, into files."""
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
    with reading(path):  # the folder may exist, but not be readable
        for reader in READERS:
            if reader.matches(path):
                if not path.is_dir() and not path.is_file():
                    raise DataError(f"{path}: neither a file nor a folder; copy its content to a file")
                _check_options(options, text, reader.takes)
                _log.info("reading %s", path.resolve().name)
                return reader.read(path, options) if place is None else place.filled(reader, path, options)
    raise DataError(f"{path}: not a form of data that pyconv reads; give {_FORMS}")


def _dataset(found: Source, source: str, limit: int | None, seed: int, fraction: float, first_label: int) -> Dataset:
    """Check the names and the splits, hold out images and apply the limit."""
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
        validation = _take(found.train, held_out, source)
    if limit is not None and limit < (len(labels) if rows is None else len(rows)):
        kept = subset(labels if rows is None else labels[rows], limit, seed)
        rows = kept if rows is None else rows[kept]
    train = found.train if rows is None else _take(found.train, rows, source)
    notes = list(found.notes)
    empty = empty_classes(labels, found.classes, first_label if found.numbered else None)
    if empty is not None:
        notes.append(f"{source}: {empty}")
    for note in notes:
        _log.warning(note)
    test = found.test and _contiguous(found.test)
    splits = _contiguous(train), _contiguous(validation)
    return Dataset(found.name, *splits, found.classes, test, tuple(notes), found.brightness)


def _check_names(classes: list[str], source: str) -> None:
    """Check the names of classes: they must be distinct, and text, because they are printed and written to files."""
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


def _take(split: Split, rows: np.ndarray, source: str) -> Split:
    """Some examples of a split: copied, but for those of a mapped file, which may be larger than memory."""
    if isinstance(split.x, np.memmap):
        return Split(cast(np.ndarray, Rows(split.x, rows)), split.y[rows])
    check_room(source, "the images once more, to hold some out for validation,", len(rows) * split.x[:1].nbytes)
    return Split(split.x[rows], split.y[rows])


def _contiguous(split: Split) -> Split:
    """A split with C-contiguous arrays; copied only if they are not."""
    if isinstance(split.x, Rows):
        return split
    if not split.x.flags.aligned:  # numbers at odd addresses of a mapped archive: only copies of them are computed with
        return Split(cast(np.ndarray, Rows(split.x, np.arange(len(split.x)))), np.ascontiguousarray(split.y))
    return Split(np.ascontiguousarray(split.x), np.ascontiguousarray(split.y))
