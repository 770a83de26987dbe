"""Straight lines through measured times, with confidence intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError, shown
from ..values import integer, real

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Fit:
    """A constant of the machine that was fitted to measurements.

    Attributes
    ----------
    value : float
        The best estimate, in `unit`.
    low, high : float
        Ends of the 95 % confidence interval; not below 0.
    unit : str
        Such as "s/operation".
    points : int
        Number of measurements.
    """

    value: float
    low: float
    high: float
    unit: str
    points: int

    def __post_init__(self) -> None:
        for name in ("value", "low", "high"):
            object.__setattr__(self, name, real(getattr(self, name), name, minimum=0, infinite=name == "high"))
        integer(self.points, "points", minimum=0)
        if not isinstance(self.unit, str):
            raise InputError(f"unit must be text, not {shown(self.unit)}")

    def __str__(self) -> str:
        return f"{self.value:.3g} {self.unit} (95 %: {self.low:.3g} to {self.high:.3g}, {self.points} points)"


def line(amounts: Sequence[float], seconds: Sequence[float], unit: str) -> tuple[Fit, Fit]:
    """Fit ``seconds = start + amount · rate``, neither below 0; errors are weighted relative to each time.

    Parameters
    ----------
    amounts : sequence of float
        Operations or bytes, at least three of them.
    seconds : sequence of float
        How long each took.
    unit : str
        The amounts' unit, such as "operation".

    Returns
    -------
    start, rate : Fit
        In seconds, and in seconds a unit.

    Raises
    ------
    InputError
        If there are fewer than three points: an interval needs one more than there are constants.
    """
    x, y = np.asarray(amounts, float), np.asarray(seconds, float)
    if x.shape != y.shape or x.size < 3:
        raise InputError(f"a line with an interval needs at least 3 measurements, not {x.size} and {y.size}")
    # Scaled to about 1: otherwise the solver's finite steps would be lost in numbers such as 1e-11.
    x_scale, y_scale = x.max(), y.max()
    rough = np.array([y.min() / y_scale / 2, 1.0])
    import scipy.optimize  # imported here: it takes a second, which every worker process would spend too
    import scipy.stats

    values, covariance = scipy.optimize.curve_fit(
        lambda amount, start, rate: start + rate * amount,
        x / x_scale,
        y / y_scale,
        p0=rough,
        sigma=y / y_scale,
        bounds=(0, np.inf),
    )
    half = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, x.size - 2) * np.sqrt(np.diag(covariance))
    half = np.where(np.isfinite(half), half, 0.0)

    def fit(index: int, scale: float, unit: str) -> Fit:
        value, margin = values[index] * scale, half[index] * scale
        return Fit(float(value), float(max(value - margin, 0)), float(value + margin), unit, x.size)

    return fit(0, y_scale, "s"), fit(1, y_scale / x_scale, f"s/{unit}")


def median_of(samples: Sequence[float], unit: str) -> Fit:
    """The median of `samples`, with a 95 % interval from their order, for any distribution."""
    ordered = np.sort(np.asarray(samples, float))
    if not ordered.size:
        raise InputError("the median of no measurement")
    import scipy.stats

    low, high = scipy.stats.binom.interval(CONFIDENCE, ordered.size, 0.5)
    last = ordered.size - 1
    return Fit(
        float(np.median(ordered)), float(ordered[int(max(low, 0))]), float(ordered[int(min(high, last))]), unit,
        ordered.size,
    )  # fmt: skip
