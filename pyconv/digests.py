"""Short names for contents: the beginning of a hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np

DIGITS = 16


def digest(parts: Iterable[Any]) -> str:
    """Name contents by sixteen hexadecimal digits of their SHA-256.

    Parameters
    ----------
    parts : iterable of bytes, str or ndarray
        Taken one after the other; of an array its bytes in C order, of a string those in UTF-8.

    Returns
    -------
    str
    """
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            found.update(part.encode())
        else:
            found.update(np.ascontiguousarray(part).data if isinstance(part, np.ndarray) else part)
    return found.hexdigest()[:DIGITS]
