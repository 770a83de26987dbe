"""Normalization: how a network normalises its images before the first layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pyconv.arithmetic import own
from pyconv.arrays import as_array
from pyconv.errors import InputError, shown


class Normalization:
    """``(x - mean) / std``, channel by channel, in the units of the raw images.

    Parameters
    ----------
    mean, std : float or sequence of float
        One number for all channels, or one for each; `std` above 0. Identity by default.

    Attributes
    ----------
    mean, std : (channels,) or (1,) ndarray of float64
        Read-only.
    """

    def __init__(self, mean: float | Sequence[float] = 0.0, std: float | Sequence[float] = 1.0) -> None:
        self.mean, self.std = _numbers("mean", mean), _numbers("std", std)
        if len(self.mean) != len(self.std) and 1 not in (len(self.mean), len(self.std)):
            raise InputError(f"mean has {len(self.mean)} channels, std has {len(self.std)}")
        if (self.std <= 0).any():
            raise InputError(f"std must be above 0 in every channel, not {shown(float(self.std.min()))}")
        self._identity = bool((self.mean == 0).all() and (self.std == 1).all())
        self._in_dtype: dict[type, tuple[Any, Any]] = {}

    def __repr__(self) -> str:
        return f"Normalization(mean={self.mean.tolist()}, std={self.std.tolist()})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Normalization):
            return NotImplemented
        return np.array_equal(self.mean, other.mean) and np.array_equal(self.std, other.std)

    __hash__ = None  # type: ignore[assignment]

    @property
    def channels(self) -> int:
        """How many channels it has numbers for; 1 fits any number of channels."""
        return max(len(self.mean), len(self.std))

    @property
    def identity(self) -> bool:
        """Whether it changes nothing."""
        return self._identity

    @own
    def apply(self, x: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Normalise images.

        Parameters
        ----------
        x : (N, ..., C) ndarray of uint8, float32 or float64
            Not changed, unless it is `out`.
        out : ndarray of float32 or float64, shape of `x`
            Receives the result, which is computed in the precision of `out`.

        Returns
        -------
        ndarray
            `out`.
        """
        dtype = out.dtype.type
        if dtype not in self._in_dtype:
            one = len(self.mean) == len(self.std) == 1
            both = self.mean, 1 / self.std
            self._in_dtype[dtype] = tuple(dtype(each[0]) if one else each.astype(dtype) for each in both)  # type: ignore
        mean, inverse = self._in_dtype[dtype]
        np.subtract(x, mean, out=out, dtype=dtype, casting="same_kind")
        out *= inverse
        return out

    def config(self) -> dict[str, Any]:
        """The normalisation as a dict that JSON and TOML can hold.

        Returns
        -------
        dict of str to list of float
            ``mean`` and ``std``.
        """
        return {"mean": self.mean.tolist(), "std": self.std.tolist()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Normalization:
        """The reverse of :meth:`config`.

        Parameters
        ----------
        config : mapping
            With ``mean`` and ``std``, and nothing else.

        Returns
        -------
        Normalization

        Raises
        ------
        InputError
            If something is missing, unknown or impossible.
        """
        if not isinstance(config, Mapping) or set(config) != {"mean", "std"}:
            raise InputError(f"a normalization has mean and std, not {shown(config)}")
        return cls(config["mean"], config["std"])


def _numbers(name: str, value: Any) -> np.ndarray:
    """`value` as a read-only vector of finite float64, or an `InputError` with `name`."""
    given = as_array(value, f"the normalization's {name}")
    numbers = np.array(given, np.float64, ndmin=1) if given.dtype.kind in "iuf" else np.empty(0)
    if numbers.ndim != 1 or not numbers.size or not np.isfinite(numbers).all():
        raise InputError(f"the normalization's {name} must be one finite number for each channel, not {shown(value)}")
    numbers.flags.writeable = False
    return numbers
