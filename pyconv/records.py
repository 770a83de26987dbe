"""Records from files: whether each field that is read is there, and of its kind."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from . import values
from .errors import DataError, InputError, is_text, shown

Kind = Callable[[Any, str], object]
"""A check: it takes a value and its name, and raises an `InputError` where the value is of another kind."""

_MOST = 1e30


def count(value: Any, name: str) -> None:
    """An integer of at least 0."""
    values.integer(value, name, minimum=0)


def size(value: Any, name: str) -> None:
    """An integer from 1 to a thousand million, of something that is counted."""
    values.integer(value, name, minimum=1, maximum=10**9)


def duration(value: Any, name: str) -> None:
    """A number above 0, of a size that can be divided by and drawn."""
    values.real(value, name, minimum=1 / _MOST, maximum=_MOST)


def measure(value: Any, name: str) -> None:
    """A number of at least 0, of a size that can be drawn."""
    values.real(value, name, minimum=0, maximum=_MOST)


def finite(value: Any, name: str) -> None:
    """A number, of a size that can be drawn."""
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


def optional(kind: Kind) -> Kind:
    """Of `kind`, or None."""

    def check(value: Any, name: str) -> None:
        if value is not None:
            kind(value, name)

    return check


def check(record: Any, where: str, kinds: Mapping[str, Kind], needed: Collection[str] = (), prefix: str = "") -> None:
    """Check the fields of a record that a file holds.

    Parameters
    ----------
    record : object
        What should be a table.
    where : str
        File, and row where it has some, for the message.
    kinds : mapping of str to Kind
        Of the fields that are read; others may be there.
    needed : collection of str
        Fields that must be there.
    prefix : str
        What the message writes before a field's name.

    Raises
    ------
    DataError
        If it is no table, lacks a field, or one is of another kind.
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
