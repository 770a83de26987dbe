"""Keeps descriptors 0, 1 and 2 open in every process that opens files, and silences standard error for C libraries.

A process that was started with descriptor 2 closed gives that number to the next file it opens. What a library then
prints to standard error lands in that file, be it a log, a checkpoint or the memory that workers share.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
from collections.abc import Iterator

STANDARD = (0, 1, 2)


def open_standard() -> None:
    """Open those of the descriptors 0, 1 and 2 that are closed, on the null device; child processes inherit them.

    Call it before opening a file that stays open. Python's ``sys.stdin``, ``sys.stdout`` and ``sys.stderr`` do not
    change.
    """
    with contextlib.suppress(OSError):  # no null device, or no descriptor left: the next file to be opened will say so
        while (number := os.open(os.devnull, os.O_RDWR)) in STANDARD:  # open takes the lowest number that is free
            os.set_inheritable(number, True)
        os.close(number)


def open_streams() -> None:
    """Give a program ``sys.stdout`` and ``sys.stderr``; Python sets them to None if the descriptor was closed."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            with contextlib.suppress(OSError):
                stream = io.FileIO(number, "w", closefd=False)
                setattr(sys, name, io.TextIOWrapper(io.BufferedWriter(stream), "utf-8", "backslashreplace"))


def silence(number: int) -> None:
    """Let nothing more be written to descriptor `number`: replace it by the null device."""
    with contextlib.suppress(OSError):
        null = os.open(os.devnull, os.O_WRONLY)
        if null != number:
            os.dup2(null, number)
            os.close(null)


_lock = threading.Lock()
_inside = 0
_kept: int | None = None


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Within it no thread writes to standard error: for C libraries that print an error and raise it too."""
    global _inside, _kept
    with _lock:
        if not _inside:
            with contextlib.suppress(OSError):  # closed, or no descriptor left
                _kept = os.dup(2)
                silence(2)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside and _kept is not None:
                os.dup2(_kept, 2)
                os.close(_kept)
                _kept = None
