"""Reads folders of images: one folder for each class, with image files in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import DataError
from .decoding import decode_all
from .depth import settled
from .files import entries, listed
from .gathering import Gathered, gather
from .images import FORMAT_NAMES, is_image
from .types import Options, Reader, Source, Split

_TRAIN = ("train", "training")
_VALIDATION = ("validation", "val", "valid")
_TEST = ("test", "testing")
_HINT = "put the images of each class into a folder of their own, as FOLDER/happy/1.png, FOLDER/sad/2.png"


def matches(path: Path) -> bool:
    """Whether `path` is a folder."""
    return path.is_dir()


def read(path: Path, options: Options) -> Source:
    """Read a folder of class folders, or a folder with such folders for ``train`` and ``validation`` or ``test``.

    The classes are the folders' names in alphabetical order. Sub-folders named ``train`` (or ``training``) and
    ``validation`` (``val``, ``valid``) or ``test`` (``testing``) are splits; without a validation folder, the test
    folder is the validation split. A test folder without class folders is skipped.

    Parameters
    ----------
    path : Path
        The folder.
    options : Options
        `size` is taken: every image is brought to this height and width, and to gray (C = 1) or colour (C = 3); and
        `bits`: what is white in images of 16 bits.

    Returns
    -------
    Source
        Images of shape (N, H, W, 1), or (N, H, W, 3) where they are in colour, of uint8, or of float32 where some are
        of 16 bits; notes on what was passed over.

    Raises
    ------
    DataError
        If a file cannot be decoded, images differ in size or kind and `size` is not given, a class is empty, splits
        have different classes, or the images do not fit into memory.
    """
    return _Folder(path, options).read()


class _Part(NamedTuple):
    """The images of one split, and their labels."""

    found: Gathered
    labels: np.ndarray


class _Folder:
    """A folder of images while it is read: what was found so far, and the notes about it."""

    def __init__(self, path: Path, options: Options) -> None:
        self.path, self.size, self.bits, self.into = path, options.size, options.bits, options.into
        self.notes: list[str] = []
        self.unread: Counter[str] = Counter()
        self.several = 0

    def read(self) -> Source:
        """Read all splits."""
        name = self.path.resolve().name or "images"
        by_name = {folder.name.lower(): folder for folder in _folders(self.path)}

        def split_folder(names: tuple[str, ...]) -> Path | None:
            return next((by_name[name] for name in names if name in by_name), None)

        train_folder = split_folder(_TRAIN)
        if train_folder is None or not _folders(train_folder):
            train, classes = self._split(self.path)
            return self._source(name, classes, train)
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
        return self._source(name, classes, train, validation, test)

    def _source(self, name: str, classes: list[str], *parts: _Part | None) -> Source:
        """The splits, all of their images in the same units."""
        x, brightness, notes = settled(self.path, self.bits, [None if part is None else part.found for part in parts])
        self.notes += notes
        splits = [
            None if part is None or images is None else Split(images, part.labels) for part, images in zip(parts, x)
        ]
        train, validation, test = (*splits, None, None)[:3]
        assert train is not None
        return Source(name, train, classes, validation, test, notes=self._notes(), brightness=brightness)

    def _other(self, folder: Path, train_folder: Path, classes: list[str]) -> _Part:
        """Read a folder that must have the classes of the training folder."""
        found = [entry.name for entry in _folders(folder)]
        if found and found != classes:
            differing = listed(sorted(set(found) ^ set(classes)))
            raise DataError(
                f"{folder}: its class folders are not those of {train_folder} ({differing}); make them the same"
            )
        return self._split(folder)[0]

    def _split(self, folder: Path) -> tuple[_Part, list[str]]:
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
        gathered = gather(self.path, len(files), decode_all(files, self.size), self.size, self.into)
        self.several += gathered.several
        return _Part(gathered, np.array(labels, np.int64)), [class_folder.name for class_folder in classes]

    def _count_unread(self, paths: Iterable[Path]) -> None:
        self.unread.update(_ending(path) for path in paths)

    def _notes(self) -> tuple[str, ...]:
        """The notes about the whole folder."""
        if self.unread:
            self.notes.append(f"{self.path}: {described(self.unread)} in class folders")
        if self.several:
            self.notes.append(
                f"{self.path}: of {self.several} files that hold several pictures the first of each was read"
            )
        return tuple(self.notes)


def images_under(folder: Path) -> tuple[list[Path], Counter[str]]:
    """The image files in a folder and its sub-folders, by name; and the number of other files, by ending.

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
            if not entry.is_symlink():  # a link may lead to a folder above
                inner, more = images_under(entry)
                files += inner
                unread += more
        else:
            unread[_ending(entry)] += 1
    return files, unread


def described(unread: Counter[str]) -> str:
    """A note: how many files of which ending were not read, and which files would be.

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
    """The sub-folders of a folder."""
    return [entry for entry in entries(folder) if entry.is_dir()]


def _holds_classes(folder: Path) -> bool:
    """Whether a folder has class folders, at least one of them with an image."""
    return any(is_image(path) for class_folder in _folders(folder) for path in entries(class_folder))


READER = Reader(
    "folder of class folders", "a folder of class folders of images", matches, read, ("size", "bits", "into")
)
