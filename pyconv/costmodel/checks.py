"""The numbers that the cost model takes: a bad one is refused by name, before anything is computed or measured."""

from __future__ import annotations

from ..values import integer, real


def counts(**values: int) -> None:
    """Integers of at least 1, or an `InputError` that names the argument."""
    for name, value in values.items():
        integer(value, name, minimum=1)


def not_negative(**values: float) -> None:
    """Finite numbers of at least 0, or an `InputError` that names the argument."""
    for name, value in values.items():
        real(value, name, minimum=0)


def positive(**values: float) -> None:
    """Finite numbers above 0, or an `InputError` that names the argument."""
    for name, value in values.items():
        real(value, name, above=0)


def at_least_one(**values: float) -> None:
    """Numbers of at least 1, infinity among them, or an `InputError` that names the argument."""
    for name, value in values.items():
        real(value, name, minimum=1, infinite=True)
