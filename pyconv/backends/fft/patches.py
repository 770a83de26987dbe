"""Patches: the results that are not certain, computed again by direct sums.

They are few as a rule: beside a pixel that is not finite, around the edge of a black region, in the corners of an image
beyond which there are zeros.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .bound import Windows
from .correlation import Correlation
from .transforms import Finish

#: Places down and across of the largest patch.
LARGEST = 32


class Patches:
    """The patches that cover the uncertain blocks of a correlation's results, unless they are too many.

    Attributes
    ----------
    few : bool
        Whether at most the share `most` of the results has to be summed directly.
    """

    def __init__(self, of: Correlation, windows: Windows, uncertain: Any, most: float) -> None:
        self._of = of
        self._places: list[tuple[int, slice, slice]] = []
        left = most * len(of.a) * of.size[0] * of.size[1]
        for image, down, across in _boxes(uncertain, windows) if uncertain.any() else ():
            rows, columns = (
                slice(max((place.start + first) * by + before, 0), min((place.stop + first) * by + before, size))
                for place, first, by, before, size in zip((down, across), windows.first, windows.by, of.before, of.size)
            )
            self._places.append((image, rows, columns))
            seen, _ = of.seen(*self._places[-1])
            if seen.any():  # zeros need no sums
                left -= (rows.stop - rows.start) * (columns.stop - columns.start)
            if left < 0:
                break
        self.few = left >= 0

    def apply(self, finish: Finish, threads: int) -> None:
        """Compute the patches. Those that see zeros only are zeros."""
        for image, rows, columns in self._places:
            pixels, around = self._of.seen(image, rows, columns)
            if pixels.any():
                values = self._of.directly(pixels, around, threads)
            else:
                shape = (1, rows.stop - rows.start, columns.stop - columns.start, self._of.filters.shape[-1])
                values = np.zeros(shape, self._of.a.dtype)
            kept = []
            for axis, (places, step) in enumerate(zip((rows, columns), self._of.step), 1):
                first = -places.start % step
                values = np.take(values, np.arange(first, values.shape[axis], step), axis=axis)
                kept.append(slice((places.start + first) // step, (places.start + first) // step + values.shape[axis]))
            if values.size:
                finish(values, slice(image, image + 1), kept[0], kept[1])


def _boxes(uncertain: Any, windows: Windows) -> Iterator[tuple[int, slice, slice]]:
    """Boxes around the uncertain blocks, none larger than a patch: images, and blocks down and across."""
    down, across = (max(LARGEST // by, 1) for by in windows.by)
    starts = [np.arange(0, length, per) for length, per in zip(uncertain.shape[1:], (down, across))]
    tiles = np.logical_or.reduceat(np.logical_or.reduceat(uncertain, starts[0], axis=1), starts[1], axis=2)
    for image, i, j in zip(*np.nonzero(tiles)):
        tile = uncertain[image, i * down : (i + 1) * down, j * across : (j + 1) * across]
        rows, columns = (np.flatnonzero(tile.any(axis=axis)) for axis in (1, 0))
        yield (
            int(image),
            slice(int(i * down + rows[0]), int(i * down + rows[-1] + 1)),
            slice(int(j * across + columns[0]), int(j * across + columns[-1] + 1)),
        )
