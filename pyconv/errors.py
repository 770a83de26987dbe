"""The errors that pyconv raises on purpose: one line each, with what is wrong, where, and what to do.

Also the functions with which messages quote values and names.

The commands print such an error after ``pyconv: error:`` and exit with its ``exit_status``; any other
exception is a bug and keeps its traceback.
"""

from __future__ import annotations

import contextlib
import difflib
import reprlib
from collections.abc import Iterable, Iterator
from typing import Any


class PyconvError(Exception):
    """Base class of every error that pyconv raises on purpose.

    Parameters
    ----------
    message : str
        One line; a newline or the like, as the name of a file may have, is written with its escape.
    """

    exit_status = 1
    told = False  # whether another process of the same run has reported it: a command does not print it again

    def __init__(self, message: object = "") -> None:
        super().__init__(printable(str(message)))


class InputError(PyconvError, ValueError):
    """An argument or the data is wrong; nothing was run."""

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
    """A name is not one of the known names, which the message lists."""


class NotRecorded(Exception):
    """An operation cannot be part of a programme (:meth:`pyconv.backends.Backend.programme`); no user meets this."""


class BackendUnavailable(PyconvError, RuntimeError):
    """The requested backend cannot run here; the message says why."""

    exit_status = 2


class RunError(PyconvError, RuntimeError):
    """A run failed after it had started."""


class DivergedError(RunError):
    """The loss or the parameters became NaN or infinite."""


class WorkerError(RunError):
    """A worker process died, stopped answering or failed."""


class Interrupted(KeyboardInterrupt):
    """The run was interrupted by a signal; if it keeps checkpoints, it wrote one first."""

    exit_status = 130
    told = False


def install_line(extra: str) -> str:
    """The words that say how to install one of pyproject.toml's extras; it can be installed from the source only.

    On package indexes the name ``pyconv`` belongs to another project; this distribution is called ``pyconv-parallel``.
    """
    return f"pip install '.[{extra}]' in pyconv's source folder"


@contextlib.contextmanager
def needed(sentence: str, *, extra: str, error: type[Exception] = BackendUnavailable) -> Iterator[None]:
    """Within it an optional package is imported; if that fails, the error says how to install the package.

    Parameters
    ----------
    sentence : str
        What needs which package, as ``"ONNX files need onnx"``.
    extra : str
        The extra of pyproject.toml that installs it.
    error : class
        The error that is raised.
    """
    try:
        yield
    except ImportError as reason:
        raise error(f"{sentence}, which cannot be imported ({reason}): {install_line(extra)}") from None


def printable(text: str) -> str:
    """`text` with escapes for all that cannot be printed: newlines, control characters, bytes that are no text."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def is_text(name: str) -> bool:
    """Whether a name can be written as UTF-8; the name of a file may hold bytes that are no text."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Shown(reprlib.Repr):
    """Python's repr of a value, cut so short that a message stays one line."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxstring = self.maxother = 60

    def repr_int(self, value: int, level: int) -> str:
        bits = value.bit_length()  # Python refuses to write thousands of digits
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
_MOST_KNOWN = 250


def shown(value: object) -> str:
    """A value as a message quotes it: its repr, on one line, cut after some words.

    An array is named by its dtype and shape.
    """
    try:
        text = " ".join(_shown.repr(value).split())
    except Exception:  # a class's __repr__ may raise anything
        text = f"an object of type {type(value).__name__}"
    text = text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "…"
    return printable(text)


def short(text: str, most: int = 80) -> str:
    """The beginning of a name from outside, for a message; the whole name if it is of ordinary length."""
    return text if len(text) <= most else f"{text[:most]}…"


def unknown_name(kind: str, name: object, known: Iterable[str]) -> UnknownNameError:
    """The error for an unknown name, with the most similar known name and the list of all."""
    names = list(known)
    if not names:
        return UnknownNameError(f"unknown {kind} {shown(name)}; there is none")
    near = difflib.get_close_matches(name[:100], names, n=1) if isinstance(name, str) else []
    hint = f"; did you mean {shown(near[0])}?" if near else ";"
    return UnknownNameError(f"unknown {kind} {shown(name)}{hint} known: {short(', '.join(names), _MOST_KNOWN)}")
