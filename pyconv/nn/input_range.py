"""InputRange: the range of the numbers that a network was trained on, to notice examples in another scale."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pyconv.arithmetic import quiet
from pyconv.errors import InputError, shown

from .normalization import Normalization

#: Numbers more than so many times as large as any in training are in another scale: 255 is to 1, a bright image is not.
_LARGER = 10

#: Examples with no number above this part of training's largest are in another scale: 1 is to 255.
_SMALLER = 1 / 100

#: So many standard deviations around the mean hold practically all numbers, also in sparse images.
_SPREAD = 10


@dataclass(frozen=True)
class InputRange:
    """The dtype, the smallest and the largest number of some examples.

    Attributes
    ----------
    dtype : str
        Name of the dtype, such as ``"uint8"``; empty if unknown.
    low, high : float
        Smallest and largest number, in the units of the raw examples.
    """

    dtype: str
    low: float
    high: float

    @classmethod
    def of(cls, x: np.ndarray) -> InputRange:
        """The range of some examples.

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
        """The (generous) range for which a normalisation was made; None for the identity.

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
        """The largest absolute value."""
        return max(abs(self.low), abs(self.high))

    def is_far(self, other: InputRange) -> bool:
        """Whether `other` is in another scale than this range, as 0 to 1 is to 0 to 255.

        Parameters
        ----------
        other : InputRange

        Returns
        -------
        bool
            False if all numbers of either are zero: they have no scale.
        """
        if not (self.reach and other.reach):
            return False
        return other.reach > _LARGER * self.reach or other.reach < _SMALLER * self.reach

    @quiet
    def complaint(self, x: np.ndarray, name: str) -> str | None:
        """What to say about examples that are in another scale than this range.

        Parameters
        ----------
        x : ndarray
            Examples, at least one.
        name : str
            What the message calls them.

        Returns
        -------
        str or None
            One line, or None if they fit.
        """
        given = InputRange.of(x)
        if not self.is_far(given):
            return None
        trained = "was trained on" if self.dtype else "has a normalisation for"
        return f"{name}: {given}, but the network {trained} {self}; bring both to one scale, or results mean nothing"

    def __str__(self) -> str:
        return f"{self.dtype + ' ' if self.dtype else ''}{self.low:g} to {self.high:g}"

    def config(self) -> dict[str, Any]:
        """The range as a dict that JSON can hold.

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
            With ``dtype``, ``low`` and ``high``, and nothing else. It is None in older files, and in files of networks
            that were never trained.

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
    """Warn, with the line of the user's program that called pyconv.

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
