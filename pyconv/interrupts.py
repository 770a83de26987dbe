"""Handles Ctrl-C, SIGTERM and SIGHUP in a command's first second, while Python still imports what the command needs."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from types import FrameType

from . import limits
from .invocation import follows, started

#: The message of an interruption that came before anything was done.
NOTHING = "interrupted before there was anything to keep"


_USUAL = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
}


def expect_early_ones() -> None:
    """In a process that runs a command, let a signal end it with one line and status 130 from here on.

    No exception is raised, because NumPy, for one, takes a KeyboardInterrupt during its import for a broken
    installation. There is nothing to clean up yet, so the process leaves at once.
    """
    if started() is None:
        return  # in a user's own program, signals are the user's to handle
    for number, usual in _USUAL.items():
        if signal.getsignal(number) == usual:  # a signal that is ignored, as under nohup, stays ignored
            signal.signal(number, _leave)


def expect_late_ones() -> None:
    """After the imports: let SIGTERM and SIGHUP raise KeyboardInterrupt from here on, as Ctrl-C does."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) in (_leave, signal.SIG_DFL):
            signal.signal(number, _interrupt)


def as_usual() -> None:
    """Undo :func:`expect_late_ones` when the command is over: its process may be a user's own program."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is _interrupt:
            signal.signal(number, signal.SIG_DFL)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _leave(number: int, frame: FrameType | None) -> None:
    """End the process at once."""
    text, status = NOTHING, 130
    granted = limits.processes()
    if number == signal.SIGINT and granted is not None and not granted.left:  # OpenBLAS sends this to itself
        text = (
            f"error: a library cannot start its threads: the control group's limit of {granted.most} processes and "
            "threads is reached; raise pids.max, or set OMP_NUM_THREADS=1"
        )
        status = 1
    if status != 130 or not follows():  # a launcher passes a signal on to all ranks
        with contextlib.suppress(OSError, ValueError, AttributeError):  # standard error is closed, full, or None
            sys.stderr.write(f"pyconv: {text}\n")
            sys.stderr.flush()
    os._exit(status)
