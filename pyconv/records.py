"""Checks records that were read from files: whether each field is there, and of its kind."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from . import values
from .errors import DataError, InputError, is_text, shown

Kind = Callable[[Any, str], object]
"""A check: it takes a value and its name, and raises an `InputError` if the value is of another kind."""

_MOST = 1e30


def count(value: Any, name: str) -> None:
    """An integer of at least 0."""
    values.integer(value, name, minimum=0)


def size(value: Any, name: str) -> None:
    """An integer from 1 to a thousand million: a number of things."""
    values.integer(value, name, minimum=1, maximum=10**9)


def duration(value: Any, name: str) -> None:
    """A number above 0 that can be divided by and drawn."""
    values.real(value, name, minimum=1 / _MOST, maximum=_MOST)


def measure(value: Any, name: str) -> None:
    """A number of at least 0 that can be drawn."""
    values.real(value, name, minimum=0, maximum=_MOST)


def finite(value: Any, name: str) -> None:
    """A number that can be drawn."""
    values.real(value, name, minimum=-_MOST, maximum=_MOST)


def share(value: Any, name: str) -> None:
    """A number from 0 to 1."""
    values.real(value, name, minimum=0, maximum=1)


def text(value: Any, name: str) -> None:
    """Some words."""
    if not isinstance(value, str) or not is_text(value) or len(value) > 10_000_000:
        raise InputError(f"{name} must be text, not {shown(value)}")


def table(value: Any, name: str) -> None:
    """A table of any entries."""
    if not isinstance(value, Mapping):
        raise InputError(f"{name} must be a table, not {shown(value)}")


def texts(value: Any, name: str) -> None:
    """A list of words."""
    if not isinstance(value, list):
        raise InputError(f"{name} must be a list of texts, not {shown(value)}")
    for item in value:
        text(item, name)


def measures(value: Any, name: str) -> None:
    """A list of numbers of at least 0."""
    if not isinstance(value, list):
        raise InputError(f"{name} must be a list of numbers, not {shown(value)}")
    for item in value:
        measure(item, name)


def flag(value: Any, name: str) -> None:
    """True or False."""
    values.flag(value, name)


def count_rows(value: Any, name: str) -> None:
    """A list of lists of integers of at least 0."""
    if not isinstance(value, list) or not all(isinstance(row, list) for row in value):
        raise InputError(f"{name} must be a list of rows of integers, not {shown(value)}")
    for row in value:
        for item in row:
            count(item, name)


def optional(kind: Kind) -> Kind:
    """The check of a value that is None or of `kind`."""

    def check(value: Any, name: str) -> None:
        if value is not None:
            kind(value, name)

    return check


def check(record: Any, where: str, kinds: Mapping[str, Kind], needed: Collection[str] = (), prefix: str = "") -> None:
    """Check the fields of a record that a file holds.

    Parameters
    ----------
    record : object
        The record; it should be a table.
    where : str
        For the message: the file, and the row if there is one.
    kinds : mapping of str to Kind
        By name, the kinds of the fields that are read; there may be others.
    needed : collection of str
        Fields that must be there.
    prefix : str
        Written before a field's name in the message.

    Raises
    ------
    DataError
        If it is no table, lacks a field, or has a field of another kind.
    """
    if not isinstance(record, Mapping):
        raise DataError(f"{where}: must be a table, not {shown(record)}")
    for name in needed:
        if name not in record:
            raise DataError(f"{where}: lacks {prefix}{name}")
    try:
        for name, kind in kinds.items():
            if name in record:
                kind(record[name], prefix + name)
    except InputError as error:
        raise DataError(f"{where}: {error}") from None
