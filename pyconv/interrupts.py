"""Ctrl-C in a command's first second, while Python still imports what the command needs."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

#: What an interruption leaves that came too early.
NOTHING = "interrupted before there was anything to keep"


def expect_early_ones() -> None:
    """In a process that runs one of the commands, let Ctrl-C end it with one line and status 130 from here on.

    Not by an exception: NumPy, for one, takes a KeyboardInterrupt in its import for a broken installation. There is
    nothing yet to clean up, so that the process may leave at once.
    """
    words = sys.orig_argv
    if "-m" not in words[:-1] or not words[words.index("-m") + 1].startswith("pyconv."):
        return  # a user's own program: what happens there is not ours to decide
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def expect_late_ones() -> None:
    """Imports are done: let Ctrl-C raise KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(number: int, frame: FrameType | None) -> None:
    sys.stderr.write(f"pyconv: {NOTHING}\n")
    sys.stderr.flush()
    os._exit(130)
