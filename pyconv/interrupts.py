"""Ctrl-C and its kin in a command's first second, while Python still imports what the command needs."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from types import FrameType

from . import limits

#: What an interruption leaves that came too early.
NOTHING = "interrupted before there was anything to keep"


_USUAL = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
}


def expect_early_ones() -> None:
    """In a process that runs one of the commands, let a signal end it with one line and status 130 from here on.

    Not by an exception: NumPy, for one, takes a KeyboardInterrupt in its import for a broken installation. There is
    nothing yet to clean up, so that the process may leave at once.
    """
    words = sys.orig_argv
    if "-m" not in words[:-1] or not words[words.index("-m") + 1].startswith("pyconv."):
        return  # a user's own program: what happens there is not ours to decide
    for number, usual in _USUAL.items():
        if signal.getsignal(number) == usual:  # not one that is ignored, as under nohup
            signal.signal(number, _leave)


def expect_late_ones() -> None:
    """Imports are done: let these signals raise KeyboardInterrupt from here on, as Ctrl-C does by itself."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) in (_leave, signal.SIG_DFL):
            signal.signal(number, _interrupt)


def as_usual() -> None:
    """Undo :func:`expect_late_ones`: the command is over, its process may be a user's own program."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is _interrupt:
            signal.signal(number, signal.SIG_DFL)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _leave(number: int, frame: FrameType | None) -> None:
    """End the process at once."""
    text, status = NOTHING, 130
    granted = limits.processes()
    if number == signal.SIGINT and granted is not None and not granted.left:  # OpenBLAS sends itself one then
        text = (
            f"error: a library cannot start its threads: the control group's limit of {granted.most} processes and "
            "threads is reached; raise pids.max, or set OMP_NUM_THREADS=1"
        )
        status = 1
    with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, full, or None
        sys.stderr.write(f"pyconv: {text}\n")
        sys.stderr.flush()
    os._exit(status)
