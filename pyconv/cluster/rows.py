"""RowSplit: which rows of images and of results each rank holds when a convolution is split by rows, and what it lacks.

A result's row belongs to the rank that has the middle row of its window. So with "same" padding and stride 1 each rank
gets the rows of the result that it has of the images, and lacks (m - 1) / 2 rows of each neighbour for kernels of
height m: equation (6) of the paper.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ..shapes import ConvGeometry


def spans(counts: Sequence[int]) -> list[range]:
    """The rows of each rank, if they have so many, one after the other."""
    ends = [sum(counts[: index + 1]) for index in range(len(counts))]
    return [range(end - count, end) for end, count in zip(ends, counts)]


def evenly(rows: int, ranks: int) -> list[int]:
    """How many of `rows` rows each rank gets, as evenly as possible."""
    return [rows * (rank + 1) // ranks - rows * rank // ranks for rank in range(ranks)]


def within(rows: range, bounds: range) -> range:
    """The part of `rows` that is in `bounds`."""
    start = min(max(rows.start, bounds.start), bounds.stop)
    return range(start, max(min(rows.stop, bounds.stop), start))


def parts(images: int, rows: range, inside: range) -> list[range]:
    """The parts of a rank's rows that are computed each by itself.

    Of one image, the rows that need no halo (`inside`), while it comes, then those above and those below; of several
    images, whose rows are not contiguous, all at once.
    """
    if images != 1 or not inside:
        return [rows] if rows else []
    around = [inside, range(rows.start, inside.start), range(inside.stop, rows.stop)]
    return [part for part in around if part]


@dataclass(frozen=True)
class RowSplit:
    """A convolution of which each rank has some rows.

    Attributes
    ----------
    g : ConvGeometry
        Of whole images.
    heights : tuple of int
        Rows of the images that each rank has, from the top down; they add up to ``g.h``.
    """

    g: ConvGeometry
    heights: tuple[int, ...]

    @property
    def _span(self) -> int:
        """Rows from a window's first to its last."""
        return (self.g.kh - 1) * self.g.dh + 1

    @cached_property
    def inputs(self) -> list[range]:
        """The images' rows of each rank."""
        return spans(self.heights)

    @cached_property
    def outputs(self) -> list[range]:
        """The result's rows of each rank."""
        g, middle = self.g, (self._span - 1) // 2
        starts = []
        for rows in self.inputs:
            first = -(-(rows.start + g.pt - middle) // g.sh)  # the first whose window's middle is there
            inside = min(max(first, 0), g.oh)
            starts.append(0 if rows.start == 0 else g.oh if rows.start == g.h else inside)
        return [range(start, stop) for start, stop in zip(starts, [*starts[1:], g.oh])]

    # ---- the result from the images ---------------------------------------------------------------

    def read(self, rows: range) -> range:
        """The images' rows that these rows of the result are made of; none, if all is padding."""
        if not rows:
            return range(0, 0)
        g = self.g
        window = range(rows.start * g.sh - g.pt, (rows.stop - 1) * g.sh - g.pt + self._span)
        return within(window, range(g.h))

    def read_inside(self, rows: range, have: range) -> range:
        """Those of these rows of the result that are made of the images' rows `have`."""
        g = self.g
        start = rows.start if have.start == 0 else -(-(have.start + g.pt) // g.sh)
        stop = rows.stop if have.stop == g.h else (have.stop - self._span + g.pt) // g.sh + 1
        return within(range(start, max(stop, start)), rows)

    def forward(self, rows: range) -> ConvGeometry:
        """The geometry of these rows of the result, from the rows of the images that :meth:`read` says."""
        g, found = self.g, self.read(rows)
        top = found.start - (rows.start * g.sh - g.pt)
        bottom = (rows.stop - 1) * g.sh - g.pt + self._span - found.stop
        return dataclasses.replace(g, h=len(found), pt=top, pb=bottom, oh=len(rows))

    # ---- the images' gradient from the result's ---------------------------------------------------

    def reached(self, rows: range) -> range:
        """The result's rows in whose windows these rows of the images are."""
        g = self.g
        first = -(-(rows.start + g.pt - self._span + 1) // g.sh)
        last = (rows.stop - 1 + g.pt) // g.sh
        return within(range(first, max(last + 1, first)), range(g.oh)) if rows else range(0, 0)

    def reached_inside(self, rows: range, have: range) -> range:
        """Those of these rows of the images that are in windows of the result's rows `have` only."""
        g = self.g
        start = rows.start if have.start == 0 else (have.start - 1) * g.sh + self._span - g.pt
        stop = rows.stop if have.stop == g.oh else have.stop * g.sh - g.pt
        return within(range(start, max(stop, start)), rows)

    def backward(self, rows: range) -> tuple[range, ConvGeometry]:
        """The rows among these that have a gradient, and its geometry, from the rows that :meth:`reached` says.

        The images' other rows in these windows count as padding.
        """
        g, found = self.g, self.reached(rows)
        first, last = found.start * g.sh - g.pt, (found.stop - 1) * g.sh - g.pt + self._span
        inside = within(range(first, last), rows)
        top, bottom = inside.start - first, last - inside.stop
        return inside, dataclasses.replace(g, h=len(inside), pt=top, pb=bottom, oh=len(found))
