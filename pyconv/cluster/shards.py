"""Shard: the training images that one rank of a cluster holds.

Every rank holds the images that its lanes take in the present epoch. They are a representative part of the data, as is
every part of the stratified order (Algorithm 4 of the paper, step 1). The order of the next epoch is a function of seed
and epoch, so all ranks know which rank holds an image now and which will need it. Between two epochs the ranks send
each other the images that move, and no file is read again. The mini-batches do not depend on which rank holds which
image.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..datasets import Split, normalization
from ..datasets.fingerprint import fingerprint, first_not_finite
from ..datasets.rows import Rows, check_whole
from ..errors import InputError
from .world import Message, World

PIECE = 1 << 22  # bytes that a rank sends, and receives, at a time


@dataclass(frozen=True)
class Facts:
    """What training needs to know about all images, although no rank holds all of them.

    Attributes
    ----------
    shape : tuple of int
        ``(N, H, W, C)``.
    dtype : str
    low, high : float
        Smallest and largest pixel.
    mean, std : list of float
        Of each channel, as :func:`pyconv.datasets.normalization` gives them.
    fingerprint : str
    """

    shape: tuple[int, ...]
    dtype: str
    low: float
    high: float
    mean: list[float]
    std: list[float]
    fingerprint: str

    @classmethod
    def of(cls, x: np.ndarray | Rows, labels: np.ndarray) -> Facts:
        """Compute the facts from all images.

        Parameters
        ----------
        x : (N, H, W, C) ndarray or Rows
        labels : (N,) int64 ndarray

        Raises
        ------
        InputError
            If there are none, or a pixel is NaN or infinite.
        """
        if x.ndim != 4 or not x.size:
            raise InputError(f"x must be images of shape (N, H, W, C), at least one, not {x.shape}")
        wrong = first_not_finite(x)
        if wrong is not None:
            raise InputError(f"x has a NaN or infinite pixel, first in image {wrong}; mend or leave out such images")
        mean, std = normalization(Split(x, labels))  # type: ignore[arg-type]  # Rows will do
        name = fingerprint(x, labels)
        return cls(x.shape, x.dtype.name, float(x.min()), float(x.max()), mean.tolist(), std.tolist(), name)

    @property
    def image_bytes(self) -> int:
        """Bytes of one image."""
        return int(np.prod(self.shape[1:], dtype=np.int64)) * np.dtype(self.dtype).itemsize

    def record(self) -> dict[str, Any]:
        """For a message."""
        return asdict(self)


class Shard:
    """The images of one rank, with length, shape and dtype of the array of all images; indexed by image numbers.

    Parameters
    ----------
    world : World
    facts : Facts

    Attributes
    ----------
    facts : Facts
    """

    def __init__(self, world: World, facts: Facts) -> None:
        self.world, self.facts = world, facts
        self._owner = np.concatenate([np.full(len(self.block(rank)), rank, np.uint16) for rank in range(world.size)])
        self._rows = np.empty((len(self.block(world.rank)), *facts.shape[1:]), facts.dtype)
        self._hold(np.array(self.block(world.rank), np.int64))

    # ---- as an array of all images ----------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of all images."""
        return self.facts.shape

    @property
    def dtype(self) -> np.dtype:
        """The pixels' dtype."""
        return np.dtype(self.facts.dtype)

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.facts.shape)

    @property
    def size(self) -> int:
        """Number of pixels of all images."""
        return int(np.prod(self.facts.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """Bytes of the images that are here."""
        return self._rows.nbytes

    def min(self, axis: None = None, out: None = None, **others: Any) -> Any:
        """The smallest pixel of all images, for ``numpy.min`` too; that of a part, or into an array, is refused."""
        check_whole("min", f"{self!r}, of which other ranks hold the other images,", axis, out, others)
        return self.dtype.type(self.facts.low)

    def max(self, axis: None = None, out: None = None, **others: Any) -> Any:
        """The largest pixel of all images, for ``numpy.max`` too; that of a part, or into an array, is refused."""
        check_whole("max", f"{self!r}, of which other ranks hold the other images,", axis, out, others)
        return self.dtype.type(self.facts.high)

    def __len__(self) -> int:
        return self.facts.shape[0]

    def __getitem__(self, which: Any) -> np.ndarray:
        """A copy of the images with these numbers, which must be here."""
        found: np.ndarray = self._rows[self._places(np.asarray(which))]
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise InputError(f"{self!r} is no array: other ranks hold the other images")

    def __repr__(self) -> str:
        return f"Shard({len(self._index)} of {len(self)} images, {self.dtype} {self.shape[1:]})"

    @property
    def held(self) -> np.ndarray:
        """The numbers of the images that are here, in order, ``(n,)`` int64."""
        return self._index

    # ---- who holds what ---------------------------------------------------------------------------

    def block(self, rank: int) -> range:
        """The images that a rank begins with."""
        count, size = len(self), self.world.size
        return range(count * rank // size, count * (rank + 1) // size)

    def fill(self, first: int, images: np.ndarray) -> None:
        """Put images into this rank's block, at the beginning; `first` is the number of the first of them."""
        start = first - self.block(self.world.rank).start
        self._rows[start : start + len(images)] = images

    def _hold(self, numbers: np.ndarray) -> None:
        """Note which images are here, in the order of the rows."""
        self._at = np.argsort(numbers, kind="stable")
        self._index = numbers[self._at]

    def _places(self, numbers: np.ndarray) -> np.ndarray:
        """The rows that hold the images with these numbers."""
        if numbers.dtype.kind not in "iu" or numbers.ndim != 1:
            raise InputError(f"{self!r} is asked for images by their numbers only")
        found = np.searchsorted(self._index, numbers)
        if len(numbers) and not (len(self._index) and (self._index.take(found, mode="clip") == numbers).all()):
            raise InputError(f"{self!r}: another rank holds some of the images that are asked for")
        return self._at[found]

    def arrange(self, owner: np.ndarray) -> None:
        """Exchange images, so that every rank holds its own; all ranks call this alike.

        Images move in pieces, and arriving images take the rows of those that left. Beside the shard, memory is needed
        for two pieces, and for images that arrive before a row is free.

        Parameters
        ----------
        owner : (N,) uint16 ndarray
            The rank that is to hold each image.
        """
        me, piece = self.world.rank, max(PIECE // (self.world.size * self.facts.image_bytes), 1)
        going, coming = _by_rank(self._owner, owner, me), _by_rank(owner, self._owner, me)
        before, after = len(self._rows), int((owner == me).sum())
        numbers = np.full(max(before, after), -1, np.int64)
        numbers[self._at] = self._index
        self._resize(len(numbers))
        free = list(range(before, len(numbers)))
        kept: list[tuple[np.ndarray, np.ndarray]] = []  # images that have arrived and have no row yet
        most = max((len(each) for each in (*going.values(), *coming.values())), default=0)
        for first in range(0, most, piece):
            part = slice(first, first + piece)
            sends: list[Message] = []
            for rank, each in going.items():
                rows = self._places(each[part])
                sends.append((rank, self._rows[rows]))
                numbers[rows] = -1
                free += rows.tolist()
            receives = [
                (rank, np.empty((len(each[part]), *self.shape[1:]), self.dtype)) for rank, each in coming.items()
            ]
            self.world.swap(sends, receives)
            del sends
            kept += [(coming[rank][part], images) for rank, images in receives]
            kept = self._place(kept, numbers, free)
        assert not kept
        self._close_ranks(numbers, after)
        self._resize(after)
        self._hold(numbers[:after].copy())
        self._owner = owner.copy()

    def _place(
        self, kept: list[tuple[np.ndarray, np.ndarray]], numbers: np.ndarray, free: list[int]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Put images into free rows; returns those for which there is no row."""
        left = []
        for which, images in kept:
            count = min(len(which), len(free))
            rows = free[len(free) - count :]
            del free[len(free) - count :]
            self._rows[rows], numbers[rows] = images[:count], which[:count]
            if count < len(which):
                left.append((which[count:], images[count:].copy()))
        return left

    def _close_ranks(self, numbers: np.ndarray, count: int) -> None:
        """Move images behind the first `count` rows to empty rows among these."""
        empty, behind = np.flatnonzero(numbers[:count] < 0), count + np.flatnonzero(numbers[count:] >= 0)
        for to, row in zip(empty, behind, strict=True):
            self._rows[to], numbers[to] = self._rows[row], numbers[row]

    def _resize(self, count: int) -> None:
        """Change the number of rows, without a second copy of the images."""
        if count != len(self._rows):
            self._rows.resize((count, *self.shape[1:]), refcheck=False)


def _by_rank(mine: np.ndarray, theirs: np.ndarray, me: int) -> dict[int, np.ndarray]:
    """Of the images that are `me`'s by the first list of owners: those that are another's by the second, in order."""
    numbers = np.flatnonzero(mine == me)
    ranks = theirs[numbers]
    order = np.argsort(ranks, kind="stable")
    ends = np.flatnonzero(np.diff(ranks[order])) + 1
    groups = np.split(numbers[order], ends) if len(numbers) else []
    return {int(theirs[group[0]]): group for group in groups if theirs[group[0]] != me}
