"""Checks the values of arguments and of files, one function for each kind of value.

A function takes the value and the argument's name, and returns the value as Python's own type; NumPy's numbers and 0-d
arrays count as numbers. A wrong value raises an `InputError` of one short line, whatever the value is.
"""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .errors import DtypeError, InputError, is_text, shown, unknown_name

MOST = 2**63 - 1
"""The largest integer of any argument, unless the argument says otherwise: an int64's."""

_NAME_BYTES = 255  # of a file's or folder's name, in every file system that is in use
_PATH_BYTES = 4095


def integer(value: Any, name: str, *, minimum: int, maximum: int | None = MOST) -> int:
    """`value` as an int from `minimum` to `maximum` (None: no maximum), or an `InputError` that names the argument."""
    number = value
    if type(value) is not int:  # nearly always it is one
        try:
            if isinstance(value, (bool, np.bool_)):
                raise TypeError
            number = operator.index(value)
        except TypeError:
            raise InputError(f"{name} must be an integer, not {shown(value)}") from None
    if number < minimum:
        raise InputError(f"{name} must be at least {minimum}, not {shown(number)}")
    if maximum is not None and number > maximum:
        raise InputError(f"{name} must be at most {maximum}, not {shown(number)}")
    return number


def real(
    value: Any,
    name: str,
    *,
    above: float | None = None,
    minimum: float | None = None,
    below: float | None = None,
    maximum: float | None = None,
    infinite: bool = False,
) -> float:
    """`value` as a float within the limits, or an `InputError` that names the argument; -0.0 comes back as 0.0.

    Text, complex numbers and True do not count as numbers; infinity does if `infinite`.
    """
    number = _float(value)
    within = (
        number is not None
        and (infinite or math.isfinite(number))
        and (above is None or number > above)
        and (minimum is None or number >= minimum)
        and (below is None or number < below)
        and (maximum is None or number <= maximum)
        and not math.isnan(number)
    )
    if number is None or not within:
        kind = "a number" if infinite else "a finite number"
        raise InputError(f"{name} must be {kind}{limits(above, minimum, below, maximum)}, not {shown(value)}")
    return number + 0.0


def limits(
    above: float | None = None, minimum: float | None = None, below: float | None = None, maximum: float | None = None
) -> str:
    """The limits of a number in words, as " above 0 and at most 1"."""
    words = (("above", above), ("of at least", minimum), ("below", below), ("at most", maximum))
    found = [f"{word} {bound:g}" for word, bound in words if bound is not None]
    return f" {' and '.join(found)}" if found else ""


def _float(value: Any) -> float | None:
    """`value` as a float, or None if it is no real number that a float can hold."""
    if type(value) is float:  # nearly always
        return value
    if isinstance(value, (bool, np.bool_, str, bytes, bytearray, complex, np.complexfloating)):
        return None
    if isinstance(value, np.ndarray) and (value.ndim or value.dtype.kind not in "iuf" or masked(value)):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def masked(value: Any) -> bool:
    """Whether an array, or one in a list of arrays, has a mask, which NumPy's conversions silently drop."""
    if isinstance(value, np.ma.MaskedArray):
        return True
    return isinstance(value, (list, tuple)) and any(
        masked(item) for item in value if isinstance(item, (list, tuple, np.ndarray))
    )


def sequence(value: Any) -> tuple[Any, ...] | None:
    """The items of a list, a tuple or a vector, or None for anything else: a number, a 0-d array, text, a set."""
    if isinstance(value, np.ndarray):
        return tuple(value) if value.ndim and not masked(value) else None
    return (
        tuple(value)
        if isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray, memoryview))
        else None
    )


def items(value: Any, name: str, what: str) -> tuple[Any, ...]:
    """The items of an iterable, or an `InputError` that asks for a list of `what`.

    Text, mappings and arrays are refused, because their items are not what is asked for.
    """
    other = (str, bytes, bytearray, memoryview, Mapping, np.ndarray)
    if isinstance(value, other) or not isinstance(value, Iterable):
        raise InputError(f"{name} must be a list of {what}, not {shown(value)}")
    return tuple(value)


def all_of(value: Any, name: str, kinds: type | tuple[type, ...], what: str, *, least: int = 0) -> tuple[Any, ...]:
    """The items of an iterable: at least `least`, each of one of the `kinds`; or an `InputError` as of `items`."""
    found = items(value, name, what)
    for item in found:
        if not isinstance(item, kinds):
            raise InputError(f"{name} must be a list of {what}, and one of them is {shown(item)}")
    if len(found) < least:
        raise InputError(f"{name} must be a list of {what}, at least {least}; there are {len(found)}")
    return found


def text(value: Any, name: str) -> str:
    """`value` as text that can be written as UTF-8, or an `InputError` that names the argument."""
    if not isinstance(value, str) or not is_text(value):
        raise InputError(f"{name} must be text, not {shown(value)}")
    return str(value)


def flag(value: Any, name: str) -> bool:
    """`value` as a bool, or an `InputError` that names the argument; 0, 1 and text do not count as bools."""
    if type(value) is bool:  # nearly always
        return value
    if isinstance(value, np.ndarray) and value.ndim == 0 and not masked(value):
        value = value[()]
    if not isinstance(value, (bool, np.bool_)):
        raise InputError(f"{name} must be True or False, not {shown(value)}")
    return bool(value)


def choice(value: Any, kind: str, known: Collection[str]) -> str:
    """`value` if it is one of the names `known`, or an `UnknownNameError` that lists those."""
    if not isinstance(value, str) or value not in known:
        raise unknown_name(kind, value, known)
    return str(value)


def mapping(value: Any, name: str, example: str) -> dict[str, Any]:
    """`value` as a dict with text for keys, or an `InputError` that names the argument; None is an empty one."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InputError(f"{name} must be a mapping, such as {example}, not {shown(value)}")
    for key in value:
        if not isinstance(key, str):
            raise InputError(f"{name} must have text for keys, as {example} has, not {shown(key)}")
    return dict(value)


def function(value: Any, name: str, example: str) -> Callable[..., Any]:
    """`value` if it can be called, or an `InputError` that names the argument."""
    if not callable(value):
        raise InputError(f"{name} must be callable, such as {example}, not {shown(value)}")
    called: Callable[..., Any] = value
    return called


def path(value: Any, name: str, *, text: bool = False) -> Path:
    """`value` as a path that the operating system can take, or an `InputError` that names the argument.

    With `text` the path must also be UTF-8 text, because it is written to files.
    """
    try:
        place = os.fspath(value)
    except TypeError:
        place = None
    if not isinstance(place, str):
        raise InputError(f"{name} must be the name of a file or folder, not {shown(value)}")
    why = _no_path(place) or ("the name is not UTF-8 text" if text and not is_text(place) else None)
    if why is not None:
        quoted = repr(place) if len(place) <= 300 else shown(place)
        raise InputError(f"{name} {quoted}: {why}; rename the file or folder")
    return Path(place)


def _no_path(place: str) -> str | None:
    """Why no file can have this name, or None."""
    if not place:
        return "the name is empty"
    if "\0" in place:
        return "a name cannot hold the character NUL"
    try:
        encoded = os.fsencode(place)
    except UnicodeEncodeError:
        return "the name holds characters that no file system takes"
    if len(encoded) > _PATH_BYTES:
        return f"the path is longer than {_PATH_BYTES} bytes"
    if max(map(len, encoded.split(b"/"))) > _NAME_BYTES:
        return f"a name in it is longer than {_NAME_BYTES} bytes"
    return None


_DTYPES: dict[str, np.dtype[Any]] = {"float32": np.dtype(np.float32), "float64": np.dtype(np.float64)}


def float_dtype(value: Any, name: str = "dtype") -> np.dtype:
    """`value` as float32 or float64, or a `DtypeError`; text must be the dtype's name."""
    key: Any = value  # NumPy reads many texts and objects as dtypes, and raises all kinds of errors for the others
    if isinstance(value, type) and (value is float or issubclass(value, np.floating)):
        key = np.dtype(value).name
    elif isinstance(value, np.dtype) and value.isnative:
        key = value.name
    if not isinstance(key, str) or key not in _DTYPES:
        raise DtypeError(f"{name} must be float32 or float64, not {shown(value)}")
    return _DTYPES[key]
