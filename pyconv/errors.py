"""The errors that pyconv raises on purpose: one line each, with what is wrong, where, and what to do.

The commands print such an error after ``pyconv: error:`` and exit with its ``exit_status``; any other
exception is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PyconvError(Exception):
    """Base class of every error that pyconv raises on purpose."""

    exit_status = 1


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


def is_text(name: str) -> bool:
    """Whether a name can be written as UTF-8; one from a file system may hold bytes that are no text."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def unknown_name(kind: str, name: object, known: Iterable[str]) -> UnknownNameError:
    """Build the error for a name that is not known, with the nearest known one and the list of all."""
    names = list(known)
    if not names:
        return UnknownNameError(f"unknown {kind} {name!r}; there is none")
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    return UnknownNameError(f"unknown {kind} {name!r}{hint} known: {', '.join(names)}")
