"""Folders of images: one folder for each class, with image files in it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..errors import DataError
from .decoding import decode_all
from .files import entries, listed
from .images import FORMAT_NAMES, Picture, is_image
from .types import Options, Source, Split

_TRAIN = ("train", "training")
_VALIDATION = ("validation", "val", "valid")
_TEST = ("test", "testing")
_HINT = "put the images of each class into a folder of their own, as FOLDER/happy/1.png, FOLDER/sad/2.png"


def matches(path: Path) -> bool:
    """Whether `path` is a folder."""
    return path.is_dir()


def read(path: Path, options: Options) -> Source:
    """Read a folder of class folders, or one with such folders for ``train`` and ``validation`` or ``test``.

    The classes are the folders' names in alphabetical order. Sub-folders named ``train`` (or ``training``) and
    ``validation`` (``val``, ``valid``) or ``test`` (``testing``) are splits; where there is no validation folder the
    test folder serves as one. A test folder without class folders is passed over.

    Parameters
    ----------
    path : Path
        The folder.
    options : Options
        `size` is taken: every image is brought to this height and width, and to gray (C = 1) or colour (C = 3).

    Returns
    -------
    Source
        Images of shape (N, H, W, 1), or (N, H, W, 3) where they are in colour; notes on what was passed over.

    Raises
    ------
    DataError
        If a file cannot be decoded, sizes or kinds differ and `size` does not make them one, a class is empty, splits
        have different classes, or the images do not fit into the machine's memory.
    """
    return _Folder(path, options.size).read()


class _Folder:
    """A folder of images while it is read: what was found, and what there is to say about it."""

    def __init__(self, path: Path, size: tuple[int, ...] | None) -> None:
        self.path, self.size = path, size
        self.notes: list[str] = []
        self.unread: Counter[str] = Counter()
        self.several = 0

    def read(self) -> Source:
        """Read the splits that there are."""
        name = self.path.resolve().name or "images"
        by_name = {folder.name.lower(): folder for folder in _folders(self.path)}

        def split_folder(names: tuple[str, ...]) -> Path | None:
            return next((by_name[name] for name in names if name in by_name), None)

        train_folder = split_folder(_TRAIN)
        if train_folder is None or not _folders(train_folder):
            train, classes = self._split(self.path)
            return Source(name, train, classes, notes=self._notes())
        train, classes = self._split(train_folder)
        validation_folder, test_folder = split_folder(_VALIDATION), split_folder(_TEST)
        validation = None
        if validation_folder is not None:
            validation = self._other(validation_folder, train_folder, classes)
        test = None
        if test_folder is not None and not _holds_classes(test_folder):
            kept = "validation is held out of the training images, and " if validation is None else ""
            self.notes.append(
                f"{test_folder}: no class folders with images in them: passed over; {kept}there is no test"
            )
        elif test_folder is not None:
            test = self._other(test_folder, train_folder, classes)
        if validation is None:
            validation, test = test, None
        return Source(name, train, classes, validation, test, notes=self._notes())

    def _other(self, folder: Path, train_folder: Path, classes: list[str]) -> Split:
        """Read a folder that must have the classes of the training folder."""
        found = [entry.name for entry in _folders(folder)]
        if found and found != classes:
            differing = listed(sorted(set(found) ^ set(classes)))
            raise DataError(
                f"{folder}: its class folders are not those of {train_folder} ({differing}); make them the same"
            )
        return self._split(folder)[0]

    def _split(self, folder: Path) -> tuple[Split, list[str]]:
        """Read the class folders of one folder."""
        classes = _folders(folder)
        if not classes:
            raise DataError(f"{folder}: has no class folders; {_HINT}")
        files: list[Path] = []
        labels: list[int] = []
        self._count_unread(entry for entry in entries(folder) if not entry.is_dir())
        for label, class_folder in enumerate(classes):
            found = entries(class_folder)
            images = [path for path in found if is_image(path)]
            if not images:
                raise DataError(
                    f"{class_folder}: has no {FORMAT_NAMES} files; add images of this class or remove the folder"
                )
            self._count_unread(path for path in found if not is_image(path))
            files += images
            labels += [label] * len(images)
        x = self._gather(files)
        return Split(x, np.array(labels, np.int64)), [class_folder.name for class_folder in classes]

    def _gather(self, files: list[Path]) -> np.ndarray:
        """Decode files into one array, and see that they are of one size and kind."""
        x: np.ndarray | None = None
        first: tuple[Path, Picture] | None = None
        definite: tuple[Path, Picture] | None = None  # the first that is gray or colour for certain
        for position, (path, picture) in enumerate(decode_all(files, self.size)):
            self.several += picture.several
            channels = picture.pixels.shape[2]
            if first is None:
                first = path, picture
            if x is None:
                x = _room(self.path, len(files), picture.pixels.shape)
            if self.size is None and (picture.height, picture.width) != (first[1].height, first[1].width):
                raise self._differs(path, picture, *first)
            if not picture.either and (self.size is None or len(self.size) == 2):
                if definite is None:
                    definite = path, picture
                    if channels > x.shape[3]:  # so far gray ones that their formats had to store in colours
                        x = _widened(self.path, x, position)
                elif picture.channels != definite[1].channels:
                    raise self._differs(path, picture, *definite)
            x[position] = picture.pixels
        assert x is not None
        return x

    def _differs(self, path: Path, picture: Picture, other: Path, first: Picture) -> DataError:
        """The error for an image that is of another size or kind than the first."""
        height, width = (first.height, first.width) if self.size is None else self.size
        kinds = {picture.channels, first.channels}
        flag, argument = f"{width}x{height}", f"{height}, {width}"
        if len(kinds) > 1:
            flag, argument = f"{flag}x{max(kinds)}", f"{argument}, {max(kinds)}"
        return DataError(
            f"{path}: is {picture.kind}, but {other} is {first.kind}; bring all images to one size and kind, or let "
            f"pyconv do it: --size {flag}, or size=({argument}) in Python"
        )

    def _count_unread(self, paths: Iterable[Path]) -> None:
        self.unread.update(_ending(path) for path in paths)

    def _notes(self) -> tuple[str, ...]:
        """What there is to say about the whole folder."""
        if self.unread:
            self.notes.append(f"{self.path}: {described(self.unread)} in class folders")
        if self.several:
            self.notes.append(
                f"{self.path}: of {self.several} files that hold several pictures the first of each was read"
            )
        return tuple(self.notes)


def images_under(folder: Path) -> tuple[list[Path], Counter[str]]:
    """Image files in a folder and the folders in it, by name, and how many files of which ending are none.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    files : list of Path
    unread : Counter of str

    Raises
    ------
    DataError
        If a folder cannot be read.
    """
    files: list[Path] = []
    unread: Counter[str] = Counter()
    for entry in entries(folder):
        if is_image(entry):
            files.append(entry)
        elif entry.is_dir():
            if not entry.is_symlink():  # it may lead back up
                inner, more = images_under(entry)
                files += inner
                unread += more
        else:
            unread[_ending(entry)] += 1
    return files, unread


def described(unread: Counter[str]) -> str:
    """How many files of which ending were not read, and what would have been.

    Parameters
    ----------
    unread : Counter of str

    Returns
    -------
    str
    """
    kinds = listed(f"{count} {kind}" for kind, count in unread.most_common())
    return f"not read: {sum(unread.values())} ({kinds}); what is read are {FORMAT_NAMES} files"


def _ending(path: Path) -> str:
    return "folders" if path.is_dir() else path.suffix.lower() or "without an ending"


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder."""
    return [entry for entry in entries(folder) if entry.is_dir()]


def _holds_classes(folder: Path) -> bool:
    """Whether a folder has class folders, and an image in any of them."""
    return any(is_image(path) for class_folder in _folders(folder) for path in entries(class_folder))


def _room(folder: Path, count: int, shape: tuple[int, ...]) -> np.ndarray:
    """An array for `count` images, if the machine has the memory."""
    needed = count * int(np.prod(shape, dtype=np.int64))
    try:
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):  # a system that does not say
        there = needed
    try:
        if needed > there:
            raise MemoryError
        return np.empty((count, *shape), np.uint8)
    except MemoryError:
        raise DataError(
            f"{folder}: {count:,} images of {shape[1]}x{shape[0]} need {needed / 2**30:,.1f} GiB of memory, this "
            f"machine has {there / 2**30:,.1f} GiB; make them smaller, with --size 64x64, or size=(64, 64) in Python"
        ) from None


def _widened(folder: Path, x: np.ndarray, filled: int) -> np.ndarray:
    """The same gray images in three equal channels."""
    wide = _room(folder, len(x), (*x.shape[1:3], 3))
    wide[:filled] = x[:filled]
    return wide
