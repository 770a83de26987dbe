"""Checks the numbers that the cost model takes, before anything is computed or measured; errors name the argument."""

from __future__ import annotations

import functools
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np

from ..errors import InputError, shown
from ..nn import Sequential
from ..values import integer, real

Function = TypeVar("Function", bound=Callable[..., Any])


def plain(function: Function) -> Function:
    """`function`, with NumPy's numbers among its arguments made Python's, whose integer products do not overflow."""

    @functools.wraps(function)
    def called(*args: Any, **options: Any) -> Any:
        return function(*map(_plain, args), **{name: _plain(value) for name, value in options.items()})

    return called  # type: ignore[return-value]


def _plain(value: Any) -> Any:
    number = (
        isinstance(value, (np.generic, np.ndarray)) and value.ndim == 0 and not isinstance(value, np.ma.MaskedArray)
    )
    return value.item() if number else value


def _ordinary(value: Any, name: str) -> Any:
    """`value`, unless it is a Fraction or a Decimal, which do not multiply with floats."""
    if isinstance(value, (Fraction, Decimal)):
        raise InputError(f"{name} must be a float, not {shown(value)}")
    return value


def network(model: Any) -> None:
    """Raise an `InputError` if `model` is no network."""
    if not isinstance(model, Sequential):
        raise InputError(f"model must be a network, such as nn.build('fer'), not {shown(model)}")


def counts(**values: int) -> None:
    """Integers of at least 1, or an `InputError` that names the argument."""
    for name, value in values.items():
        integer(value, name, minimum=1)


def not_negative(**values: float) -> None:
    """Finite numbers of at least 0, or an `InputError` that names the argument."""
    for name, value in values.items():
        real(_ordinary(value, name), name, minimum=0)


def positive(**values: float) -> None:
    """Finite numbers above 0, or an `InputError` that names the argument."""
    for name, value in values.items():
        real(_ordinary(value, name), name, above=0)


def at_least_one(**values: float) -> None:
    """Numbers of at least 1, infinity among them, or an `InputError` that names the argument."""
    for name, value in values.items():
        real(_ordinary(value, name), name, minimum=1, infinite=True)
