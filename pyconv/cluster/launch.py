"""Finds out from the environment whether this process was started alone, or by a launcher as one of several."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping
from dataclasses import dataclass

from ..invocation import LAUNCHERS


@dataclass(frozen=True)
class Launch:
    """How a launcher has started this process.

    Attributes
    ----------
    size, rank : int
        How many processes were started, and the number of this one.
    """

    size: int
    rank: int


def launched(environment: Mapping[str, str] = os.environ) -> Launch | None:
    """How this process was started, or None if no launcher says that it is one of several.

    A child of a rank, as of a ``multiprocessing.Pool``, inherits the variables and is no rank.

    Parameters
    ----------
    environment : mapping
        By default, the process's environment.
    """
    if multiprocessing.parent_process() is not None:
        return None
    found = said(environment)
    return found if found is not None and found.size > 1 else None


def said(environment: Mapping[str, str]) -> Launch | None:
    """What an environment says of how its process was started, or None if it says nothing of a launcher."""
    for size, rank in LAUNCHERS:
        try:
            return Launch(int(environment[size]), int(environment[rank]))
        except (KeyError, ValueError):
            continue
    return None
