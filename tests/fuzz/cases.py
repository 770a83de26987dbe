"""Case: one odd call, command or file, and the check of how it ends."""

from __future__ import annotations

import os
import random
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pyconv.errors import Interrupted, PyconvError

LONGEST = 500
"""Characters of a message."""


@dataclass(frozen=True)
class Case:
    """One thing that is tried: in words, and as a function."""

    say: Callable[[], str]
    run: Callable[[], Any]

    @property
    def words(self) -> str:
        """What is done, in words; they are made only for the report on a case that fails."""
        return self.say()


class Complaint(Exception):
    """A refusal that is not one short line, or a status that is not among the documented ones."""


def check_message(text: str) -> None:
    """Raise an error if a message has more than a line, or is too long to be read."""
    if len(text.splitlines()) != 1 or not text.strip():
        raise Complaint(f"the message is not one line: {text[:300]!r}")
    if len(text) > LONGEST:
        raise Complaint(f"the message has {len(text)} characters: {text[:200]!r}…")


def judge(case: Case) -> str | None:
    """Run the case; returns None if it succeeds or ends in an error of pyconv's, else what is wrong."""
    try:
        case.run()
    except Complaint as complaint:
        return str(complaint)
    except PyconvError as error:
        try:
            check_message(str(error))
        except Complaint as complaint:
            return str(complaint)
    except Interrupted as error:
        return f"Interrupted: {error}"
    except MemoryError as error:
        # Python's own MemoryError, as documented; NumPy's message says how much was asked for.
        return None if "Unable to allocate" in str(error) else f"MemoryError: {error}"
    except BaseException as error:
        where = _where(error)
        # An error of the user's callback passes as it is.
        return None if where.startswith("loop/callbacks.py:") else where
    return None


def watch_warnings() -> None:
    """Turn warnings about changed numbers into errors, and ignore all other warnings."""
    warnings.simplefilter("ignore")
    warnings.filterwarnings("error", "Warning: converting a masked element")
    warnings.simplefilter("error", np.exceptions.ComplexWarning)


def _where(error: BaseException) -> str:
    """An exception in words, with the deepest line of pyconv's code in its traceback."""
    place, trace = "", error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if f"{os.sep}pyconv{os.sep}" in name:
            place = f"{name.rpartition(f'{os.sep}pyconv{os.sep}')[2]}:{trace.tb_lineno} "
        trace = trace.tb_next
    return f"{place}{type(error).__name__}: {ascii(str(error))[1:300]}"


def generator(kind: str, number: int) -> random.Random:
    """The generator that a case draws from."""
    return random.Random(f"{kind} {number}")


def own_folder() -> Path:
    """A folder for this process's files, which becomes its working folder."""
    folder = Path(tempfile.mkdtemp(prefix="pyconv-fuzz-")) / "outer" / "inner"  # ".." is this process's own too
    folder.mkdir(parents=True)
    os.chdir(folder)
    return folder
