"""What a worker process is told of a user's own, as bytes, so that one that cannot read them can say so.

Nothing is read but what a process has been told by the one that started it.
"""

from __future__ import annotations

from multiprocessing.reduction import ForkingPickler
from typing import Any

from .parcel import parcel

EXIT_UNREADABLE = 87  # of a worker that cannot read what it is told; it has left a message


def packed(value: Any, name: str) -> bytes:
    """`value` as bytes for worker processes; an `InputError` that calls it `name` if it cannot be sent."""
    return bytes(ForkingPickler.dumps(parcel(value, name)))


def unpacked(data: bytes) -> Any:
    """What :func:`packed` was given, in the worker."""
    return ForkingPickler.loads(data)
