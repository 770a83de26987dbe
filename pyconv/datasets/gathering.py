"""Gathers pictures into one array, and checks that they have one size and one kind (gray or colour)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .. import limits
from ..errors import DataError
from .images import Picture
from .room import check_room


class Gathered(NamedTuple):
    """Pictures in one array."""

    x: np.ndarray
    """(N, H, W, C): uint8; float32 where some are of 16 bits, whose brightness is as in their files, 0 to 65535."""
    deep: np.ndarray
    """(N,) bool: which pictures are of 16 bits."""
    darkest: float
    brightest: float
    """Smallest and largest brightness of the pictures of 16 bits."""
    where: str
    """The place of the brightest one."""
    several: int
    """How many files hold further pictures."""


def gather(
    place: Path, count: int, found: Iterable[tuple[Path | str, Picture]], size: tuple[int, ...] | None,
    into: Callable[[tuple[int, ...], np.dtype], np.ndarray] | None = None,
) -> Gathered:  # fmt: skip
    """Put pictures into one array, and check that they have one size and kind.

    Parameters
    ----------
    place : Path
        The place of all pictures, for messages.
    count : int
        How many there are, at least one.
    found : iterable of (Path or str, Picture)
        Each picture with its own place.
    size : (H, W), (H, W, C) or None
        The size to which they have been brought.
    into : callable, optional
        Makes the array, if it is not to be in memory; see ``Options``.

    Returns
    -------
    Gathered

    Raises
    ------
    DataError
        If they differ, or there is no memory for them.
    """
    made = _Gathering(place, count, size, into)
    for position, (where, picture) in enumerate(found):
        made.add(position, where, picture)
    return made.result()


class _Gathering:
    """The array while it is filled."""

    def __init__(
        self, place: Path, count: int, size: tuple[int, ...] | None,
        into: Callable[[tuple[int, ...], np.dtype], np.ndarray] | None,
    ) -> None:  # fmt: skip
        self.place, self.count, self.size, self.into = place, count, size, into
        self.x: np.ndarray | None = None
        self.deep = np.zeros(count, bool)
        self.darkest, self.brightest, self.where = np.inf, -np.inf, ""
        self.several = 0
        self.first: tuple[Path | str, Picture] | None = None
        self.definite: tuple[Path | str, Picture] | None = None  # the first that is certainly gray or certainly colour

    def add(self, position: int, where: Path | str, picture: Picture) -> None:
        """Put the next picture into the array."""
        self.several += picture.several
        if self.first is None:
            self.first = where, picture
        if self.x is None:
            self.x = self._room(picture.pixels.shape, picture.pixels.dtype)
        other, first = self.first
        if self.size is None and (picture.height, picture.width) != (first.height, first.width):
            raise self._differs(where, picture, other, first)
        if not picture.either and (self.size is None or len(self.size) == 2):
            if self.definite is None:
                self.definite = where, picture
                if picture.pixels.shape[2] > self.x.shape[3]:  # so far gray pictures in formats that store colours
                    self._make(position, (*self.x.shape[1:3], 3), self.x.dtype)
            elif picture.channels != self.definite[1].channels:
                raise self._differs(where, picture, *self.definite)
        if picture.deep:
            self._note_brightness(position, where, picture)
        self.x[position] = picture.pixels

    def _note_brightness(self, position: int, where: Path | str, picture: Picture) -> None:
        assert self.x is not None
        if self.x.dtype == np.uint8:  # those before it were of 8 bits
            self._make(position, self.x.shape[1:], np.dtype(np.float32))
        self.deep[position] = True
        self.darkest = min(self.darkest, float(picture.pixels.min()))
        most = float(picture.pixels.max())
        if most > self.brightest:
            self.brightest, self.where = most, str(where)

    def _make(self, filled: int, shape: tuple[int, ...], dtype: np.dtype) -> None:
        """Move the images to another array, of another dtype or with more channels, which are then equal."""
        assert self.x is not None
        made = self._room(shape, dtype)
        made[:filled] = self.x[:filled]
        self.x = made

    def _room(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """An array for all images, if there is room for it."""
        if self.into is not None:
            return self.into((self.count, *shape), dtype)
        what = f"{self.count:,} images of {shape[1]}x{shape[0]}"
        smaller = "make them smaller, with --size 64x64 (size=(64, 64)), or decode them to files (load's into=)"
        needed = self.count * int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        check_room(self.place, what, needed, smaller)
        try:
            return np.empty((self.count, *shape), dtype)
        except MemoryError:  # a limit on the process's addresses (ulimit -v)
            raise DataError(
                f"{self.place}: {what} need {limits.amount(needed)} of memory, which the system refuses; {smaller}"
            ) from None

    def _differs(self, where: Path | str, picture: Picture, other: Path | str, first: Picture) -> DataError:
        """The error for an image that is of another size or kind than the first."""
        height, width = (first.height, first.width) if self.size is None else self.size
        kinds = {picture.channels, first.channels}
        flag, argument = f"{width}x{height}", f"{height}, {width}"
        if len(kinds) > 1:
            flag, argument = f"{flag}x{max(kinds)}", f"{argument}, {max(kinds)}"
        return DataError(
            f"{where}: is {picture.kind}, but {other} is {first.kind}; bring all images to one size and kind, or let "
            f"pyconv do it: --size {flag}, or size=({argument}) in Python"
        )

    def result(self) -> Gathered:
        """All pictures."""
        assert self.x is not None
        return Gathered(self.x, self.deep, float(self.darkest), float(self.brightest), self.where, self.several)
