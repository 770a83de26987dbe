"""The errors that pyconv raises on purpose: one line each, with what is wrong, where, and what to do.

The commands print such an error after ``pyconv: error:`` and exit with its ``exit_status``; any other
exception is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable
from typing import Any


class PyconvError(Exception):
    """Base class of every error that pyconv raises on purpose.

    Parameters
    ----------
    message : str
        One line; a newline or the like, as the name of a file may have, is written with its escape.
    """

    exit_status = 1

    def __init__(self, message: object = "") -> None:
        super().__init__(printable(str(message)))


class InputError(PyconvError, ValueError):
    """An argument or the data is wrong: nothing has been run."""

    exit_status = 2


class ShapeError(InputError):
    """Array shapes, strides or paddings do not fit together."""


class DtypeError(InputError, TypeError):
    """An array has a dtype that the operation does not compute in."""


class DataError(InputError):
    """A data file cannot be used; the message names the file and, where there is one, the row."""


class CheckpointError(InputError):
    """A checkpoint or model file is damaged, of another version, or belongs to another model."""


class UnknownNameError(InputError):
    """A name is not one of the known ones; the message lists those."""


class BackendUnavailable(PyconvError, RuntimeError):
    """The backend asked for cannot run here; the message says why."""

    exit_status = 2


class RunError(PyconvError, RuntimeError):
    """A run failed after it had started."""


class DivergedError(RunError):
    """The loss or the parameters became NaN or infinite."""


class WorkerError(RunError):
    """A worker process died, stopped answering or failed."""


class Interrupted(KeyboardInterrupt):
    """The run was interrupted by a signal, after it had written a checkpoint where it keeps one."""

    exit_status = 130


def install_line(extra: str) -> str:
    """The words of a message on how to install one of pyproject.toml's extras: from the source, the only way there is.

    An index's package of the name ``pyconv`` is another project's; this distribution is called ``pyconv-parallel``.
    """
    return f"pip install '.[{extra}]' in pyconv's source folder"


def printable(text: str) -> str:
    """`text` with the escapes of what cannot be printed: newlines, control characters, bytes that are no text."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def is_text(name: str) -> bool:
    """Whether a name can be written as UTF-8; one from a file system may hold bytes that are no text."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Shown(reprlib.Repr):
    """What Python writes of a value, in so few words that a message stays one line."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxstring = self.maxother = 60

    def repr_int(self, value: int, level: int) -> str:
        bits = value.bit_length()  # of thousands of digits Python writes none
        return repr(value) if bits < 200 else f"an integer of {bits} bits"

    def repr_instance(self, value: Any, level: int) -> str:
        if isinstance(value, (bytes, bytearray)):
            return super().repr_instance(bytes(value[: self.maxother]), level)
        shape, dtype = (getattr(value, name, None) for name in ("shape", "dtype"))
        if isinstance(shape, tuple) and shape and dtype is not None and not isinstance(value, type):
            return f"an array of {dtype} and shape {shape}"
        return super().repr_instance(value, level)


_shown = _Shown()
_MOST_SHOWN = 120


def shown(value: object) -> str:
    """Quote a value in a message: as Python writes it, on one line, and not more than some words of it.

    An array is named by its dtype and shape.
    """
    try:
        text = " ".join(_shown.repr(value).split())
    except Exception:  # a class may do anything when it is asked for its words
        text = f"an object of type {type(value).__name__}"
    text = text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "…"
    return printable(text)


def unknown_name(kind: str, name: object, known: Iterable[str]) -> UnknownNameError:
    """Build the error for a name that is not known, with the nearest known one and the list of all."""
    names = list(known)
    if not names:
        return UnknownNameError(f"unknown {kind} {shown(name)}; there is none")
    near = difflib.get_close_matches(name[:100], names, n=1) if isinstance(name, str) else []
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    return UnknownNameError(f"unknown {kind} {shown(name)}{hint} known: {', '.join(names)}")
