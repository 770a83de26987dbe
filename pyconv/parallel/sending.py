"""Packs a user's objects as bytes for worker processes, so that a worker which cannot read them can say so.

A worker reads only bytes that came from the process which started it.
"""

from __future__ import annotations

from multiprocessing.reduction import ForkingPickler
from typing import Any

from .parcel import parcel

EXIT_UNREADABLE = 87  # status of a worker that cannot read what it was sent; it has left a message


def packed(value: Any, name: str) -> bytes:
    """`value` as bytes for worker processes, or an `InputError` that calls it `name`."""
    return bytes(ForkingPickler.dumps(parcel(value, name)))


def unpacked(data: bytes) -> Any:
    """The value that :func:`packed` was given, in the worker."""
    return ForkingPickler.loads(data)
