"""A case: something odd that is done, and what may come of it."""

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
    """What is done, in words, and what does it."""

    words: str
    run: Callable[[], Any]


class Complaint(Exception):
    """A refusal that is not one short line, or a status that is not among the documented ones."""


def check_message(text: str) -> None:
    """Refuse a message of an error that is longer than a line, or than anybody reads."""
    if len(text.splitlines()) != 1 or not text.strip():
        raise Complaint(f"the message is not one line: {text[:300]!r}")
    if len(text) > LONGEST:
        raise Complaint(f"the message has {len(text)} characters: {text[:200]!r}…")


def judge(case: Case) -> str | None:
    """Do what the case does; None if it ends well or in an error of pyconv's, else what is wrong."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("error", "Warning: converting a masked element")
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
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
        # Python's own, as documented; NumPy says how much was asked for.
        return None if "Unable to allocate" in str(error) else f"MemoryError: {error}"
    except BaseException as error:
        return _where(error)
    return None


def _where(error: BaseException) -> str:
    """An exception, with the deepest line of pyconv's that it came through."""
    place, trace = "", error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if f"{os.sep}pyconv{os.sep}" in name:
            place = f"{name.rpartition(f'{os.sep}pyconv{os.sep}')[2]}:{trace.tb_lineno} "
        trace = trace.tb_next
    return f"{place}{type(error).__name__}: {ascii(str(error))[1:300]}"


def kinds(folder: Path) -> dict[str, Callable[[int], Case]]:
    """What makes the cases of each kind, by their numbers; files are made in `folder`."""
    from . import arguments, commands, files

    return {module.__name__.rpartition(".")[2]: module.maker(folder) for module in (arguments, commands, files)}


def generator(kind: str, number: int) -> random.Random:
    """The generator that a case draws from."""
    return random.Random(f"{kind} {number}")


def own_folder() -> Path:
    """A folder for this process's files, which becomes its working folder."""
    folder = Path(tempfile.mkdtemp(prefix="pyconv-fuzz-")) / "outer" / "inner"  # so that ".." is the process's own too
    folder.mkdir(parents=True)
    os.chdir(folder)
    return folder
