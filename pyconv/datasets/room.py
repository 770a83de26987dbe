"""Checks that there is memory for a data set's arrays before they are made; else the kernel would kill the process."""

from __future__ import annotations

from pathlib import Path

from .. import limits
from ..errors import DataError


def check_room(path: str | Path, what: str, needed: int, advice: str = "") -> None:
    """Raise an error if the memory that is left is too small.

    Parameters
    ----------
    path : str or Path
        The data's, for the message.
    what : str
        What needs the memory, such as "60,000 images of 48x48".
    needed : int
        Bytes.
    advice : str
        What else would help, besides more memory.

    Raises
    ------
    DataError
        If too little is left; the message has both numbers.
    """
    reason = limits.shortage(needed)
    if reason is not None:
        other = f", or {advice}" if advice else ""
        raise DataError(f"{path}: {what} need {limits.amount(needed)} of memory, and {reason}{other}")
