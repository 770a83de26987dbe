"""What a network remembers of the numbers that it was trained on, to notice examples in another scale."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pyconv.errors import InputError, shown

from .normalization import Normalization

#: Numbers so many times larger than any in training are in another scale; 255 against 1 is, a bright image is not.
_LARGER = 10

#: Examples none of whose numbers reach this part of training's are in another scale; 1 against 255 is.
_SMALLER = 1 / 100

#: Standard deviations from the mean within which practically all numbers lie, also those of sparse images.
_SPREAD = 10


@dataclass(frozen=True)
class InputRange:
    """The dtype, the smallest and the largest number of some examples.

    Attributes
    ----------
    dtype : str
        Name of the dtype, as ``"uint8"``; empty where it is not known.
    low, high : float
        Smallest and largest number, in the units of the raw examples.
    """

    dtype: str
    low: float
    high: float

    @classmethod
    def of(cls, x: np.ndarray) -> InputRange:
        """Look at examples.

        Parameters
        ----------
        x : ndarray of finite numbers, of any shape but an empty one

        Returns
        -------
        InputRange
        """
        return cls(x.dtype.name, float(x.min()), float(x.max()))

    @classmethod
    def implied(cls, normalization: Normalization) -> InputRange | None:
        """The range for which a normalisation was made, generously; None of the identity.

        Parameters
        ----------
        normalization : Normalization

        Returns
        -------
        InputRange or None
        """
        if normalization.identity:
            return None
        spread = _SPREAD * normalization.std
        return cls("", float((normalization.mean - spread).min()), float((normalization.mean + spread).max()))

    @property
    def reach(self) -> float:
        """The largest number by magnitude."""
        return max(abs(self.low), abs(self.high))

    def is_far(self, other: InputRange) -> bool:
        """Whether `other` is in another scale than this range, as 0 to 1 is beside 0 to 255.

        Parameters
        ----------
        other : InputRange

        Returns
        -------
        bool
            False where all numbers of either are zero: they have no scale.
        """
        if not (self.reach and other.reach):
            return False
        return other.reach > _LARGER * self.reach or other.reach < _SMALLER * self.reach

    def complaint(self, x: np.ndarray, name: str) -> str | None:
        """Say that examples are in another scale than this range.

        Parameters
        ----------
        x : ndarray
            Examples, at least one.
        name : str
            What to call them.

        Returns
        -------
        str or None
            One line, or None where they fit.
        """
        given = InputRange.of(x)
        if not self.is_far(given):
            return None
        trained = "was trained on" if self.dtype else "has a normalisation for"
        return f"{name}: {given}, but the network {trained} {self}; bring both to one scale, or results mean nothing"

    def __str__(self) -> str:
        return f"{self.dtype + ' ' if self.dtype else ''}{self.low:g} to {self.high:g}"

    def config(self) -> dict[str, Any]:
        """As a dict that JSON can hold.

        Returns
        -------
        dict
            ``dtype``, ``low`` and ``high``.
        """
        return asdict(self)

    @classmethod
    def from_config(cls, config: Mapping[str, Any] | None) -> InputRange | None:
        """The reverse of :meth:`config`.

        Parameters
        ----------
        config : mapping or None
            With ``dtype``, ``low`` and ``high``, and nothing else; files of networks that were never trained, and
            older files, have None.

        Returns
        -------
        InputRange or None

        Raises
        ------
        InputError
            If something is missing, unknown or impossible.
        """
        if config is None:
            return None
        if isinstance(config, Mapping) and set(config) == {"dtype", "low", "high"} and isinstance(config["dtype"], str):
            low, high = config["low"], config["high"]
            numbers = all(isinstance(end, (int, float)) and math.isfinite(end) for end in (low, high))
            if numbers and low <= high:
                return cls(config["dtype"], float(low), float(high))
        raise InputError(f"an input range has dtype, low and high, not {shown(config)}")


def warn_outside(message: str) -> None:
    """Warn at the line of the program that called pyconv.

    Parameters
    ----------
    message : str
    """
    depth, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in (
        "pyconv",
        "contextlib",
    ):
        depth, frame = depth + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=depth)
