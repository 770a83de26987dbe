"""Into: a folder of ``.npy`` files that decoded images are written to, where they may be larger than memory."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..files import write_atomically
from . import npy
from .files import entries
from .types import Options, Reader, Source

_NAMES = (("images", "labels"), ("val_images", "val_labels"), ("test_images", "test_labels"))
_PART = ".part.npy"


class Into:
    """A folder for one data set: ``images.npy``, ``labels.npy``, ``classes.npy``, and so on for other splits.

    Parameters
    ----------
    folder : Path
        Made if there is none; an empty one is taken.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._arrays: list[np.memmap] = []

    def filled(self, reader: Reader, path: Path, options: Options) -> Source:
        """Have a reader decode into the folder.

        Parameters
        ----------
        reader : Reader
        path : Path
            What it reads.
        options : Options
            With :meth:`array` as their `into`.

        Returns
        -------
        Source
            Of the files that were written.

        Raises
        ------
        DataError
            If the folder holds anything or cannot be written, or the reader refuses the data; then nothing stays in it.
        """
        self._write(lambda: self.folder.mkdir(parents=True, exist_ok=True))
        if entries(self.folder):
            raise DataError(f"{self.folder}: is not empty; give a new folder for the decoded images")
        try:
            found = reader.read(path, options)
            self._write(lambda: self._keep(found))
        except BaseException:
            self._remove("*.npy")
            raise
        self._remove(f"*{_PART}")
        mapped = npy.read(self.folder / "images.npy", Options())
        return replace(found, train=mapped.train, validation=mapped.validation, test=mapped.test)

    def array(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """An array in a file of its own, whose room on the disk is taken at once.

        Parameters
        ----------
        shape : tuple of int
        dtype : dtype

        Returns
        -------
        numpy.memmap

        Raises
        ------
        DataError
            If the disk has no room for it.
        """
        path = self.folder / f"{len(self._arrays)}{_PART}"
        made: np.memmap = self._write(lambda: np.lib.format.open_memmap(path, "w+", dtype, shape))
        self._write(lambda: _take_room(path))
        self._arrays.append(made)
        return made

    def _keep(self, found: Source) -> None:
        """Give the files their names, and write labels and classes."""
        splits = (found.train, found.validation, found.test)
        for (images, labels), split in zip(_NAMES, splits, strict=True):
            if split is None:
                continue
            own = next((at for at, array in enumerate(self._arrays) if array is split.x), None)
            if own is None:  # another dtype than it was gathered in
                own = len(self._arrays)
                self.array(split.x.shape, split.x.dtype)[...] = split.x
            self._arrays[own].flush()
            (self.folder / f"{own}{_PART}").rename(self.folder / f"{images}.npy")
            self._save(labels, split.y)
        self._save("classes", np.array(found.classes, str))  # the last to reach the disk

    def _save(self, name: str, array: np.ndarray) -> None:
        data = io.BytesIO()
        np.save(data, array)
        write_atomically(self.folder / f"{name}.npy", data.getvalue())

    def _remove(self, pattern: str) -> None:
        self._arrays.clear()
        for path in self.folder.glob(pattern):
            path.unlink(missing_ok=True)

    def _write(self, work: Callable[[], Any]) -> Any:
        """Do something that writes, with its errors in one line."""
        try:
            return work()
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise DataError(f"{self.folder}: cannot be written ({reason}); give another folder, with room") from None


def _take_room(path: Path) -> None:
    """Take a file's room on the disk, since a full one would end the process in the midst of writing to the map."""
    if not hasattr(os, "posix_fallocate"):  # macOS
        return
    with path.open("rb+") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
