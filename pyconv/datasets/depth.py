"""Scales the 16-bit images of a data set to the units of 8 bits, and says so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..threads import counted
from .brightness import Brightness, of_bits
from .gathering import Gathered


def settled(
    place: Path, bits: int | str | None, parts: Sequence[Gathered | None]
) -> tuple[list[np.ndarray | None], Brightness | None, list[str]]:
    """Bring the images of all splits to the units of 8 bits, in place; if one is of 16 bits, all are float32.

    Parameters
    ----------
    place : Path
        The data's, for messages.
    bits : int, "data" or None
        The range as the user gives it.
    parts : sequence of Gathered or None
        The splits, the training images first.

    Returns
    -------
    images : list of ndarray or None
        (N, H, W, C), uint8 or float32.
    brightness : Brightness or None
        How they were scaled; None if there are none of 16 bits.
    notes : list of str
        Lines about it for the user.

    Raises
    ------
    DataError
        If a pixel is larger than the user's range, no image is of 16 bits, or all pixels are equal.
    """
    there = [part for part in parts if part is not None]
    count = sum(int(part.deep.sum()) for part in there)
    if not count:
        if bits is not None:
            raise DataError(f"{place}: --bits {bits} is for images of 16 bits, and there are none; leave it out")
        return [None if part is None else part.x for part in parts], None, []
    how, words = _chosen(place, bits, there)
    for part in there:
        for position in np.flatnonzero(part.deep):
            part.x[position] = how.scaled(part.x[position])
    dark, bright = min(part.darkest for part in there), max(part.brightest for part in there)
    note = (
        f"{place}: {counted(count, 'image')} of 16 bits, whose pixels are {dark:g} to {bright:g}: {how.low:g} to "
        f"{how.high:g}, {words}, are 0 to 255 here, as floating-point numbers"
    )
    return [None if part is None else part.x.astype(np.float32, copy=False) for part in parts], how, [note]


def _chosen(place: Path, bits: int | str | None, parts: Sequence[Gathered]) -> tuple[Brightness, str]:
    """The values that become black and white, and the reason in words."""
    if bits is None:
        return of_bits(None), "the range of their type (--bits 12, or --bits data, for another)"
    if isinstance(bits, str):
        deep = [part for part in parts if part.deep.any()]
        how = Brightness(deep[0].darkest, deep[0].brightest)
        if how.low == how.high:
            raise DataError(f"{place}: all pixels of the images of 16 bits are {how.low:g}; leave out --bits data")
        return how, "the range of the training images"
    how = of_bits(bits)
    brightest = max(parts, key=lambda part: part.brightest)
    if brightest.brightest > how.high:
        raise DataError(
            f"{brightest.where}: has a pixel of {brightest.brightest:g}, and {counted(bits, 'bit')} hold at most "
            f"{how.high:g}; give more --bits, or leave it out"
        )
    return how, f"the range of {counted(bits, 'bit')}"
