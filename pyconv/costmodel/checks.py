"""The numbers that the cost model takes: a bad one is refused by name, before anything is computed or measured."""

from __future__ import annotations

from ..errors import InputError
from ..optim.base import non_negative
from ..values import integer


def counts(**values: int) -> None:
    """Integers of at least 1, or an `InputError` that names the argument."""
    for name, value in values.items():
        integer(value, name, minimum=1)


def not_negative(**values: float) -> None:
    """Finite numbers of at least 0, or an `InputError` that names the argument."""
    for name, value in values.items():
        non_negative(name, value)


def positive(**values: float) -> None:
    """Finite numbers above 0, or an `InputError` that names the argument."""
    for name, value in values.items():
        if non_negative(name, value) == 0:
            raise InputError(f"{name} must be above 0, not {value!r}")


def at_least_one(**values: float) -> None:
    """Numbers of at least 1, infinity among them, or an `InputError` that names the argument."""
    for name, value in values.items():
        if not value >= 1:  # NaN is not
            raise InputError(f"{name} must be at least 1, not {value!r}")
