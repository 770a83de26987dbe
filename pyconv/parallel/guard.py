"""Checks that a script which starts processes has a main guard, because spawned processes import the script."""

from __future__ import annotations

import multiprocessing
import os
import sys

from ..descriptors import open_standard
from ..errors import InputError

EXIT_UNGUARDED = 86  # status of a process that tried to start workers while it imported the script

MESSAGE = (
    "the script starts workers when it is merely imported, which every worker process does; "
    'put that call under: if __name__ == "__main__":'
)


def check_main_guard() -> None:
    """Leave, if this process is a worker that still imports the script: its parent then says what is wrong.

    A program from standard input has no file that other processes could import: they do not try to.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        os._exit(EXIT_UNGUARDED)
    main = sys.modules["__main__"]
    if getattr(main, "__file__", None) == "<stdin>":
        del main.__file__
    if multiprocessing.current_process().daemon:
        raise InputError(
            "this process is daemonic (of a multiprocessing.Pool, say) and may start none itself: take workers=1 here, "
            "or start this process with daemon=False or in a concurrent.futures.ProcessPoolExecutor"
        )
    if multiprocessing.get_start_method(allow_none=True) not in (None, *multiprocessing.get_all_start_methods()):
        raise InputError(
            "this process was started by joblib (loky), in a way that its own processes cannot know: take workers=1 "
            "here, or let joblib run one job at a time"
        )
    open_standard()  # before memory and pipes get their descriptors


def is_daemonic() -> bool:
    """Whether this process may not start processes, as those of a ``multiprocessing.Pool``."""
    return multiprocessing.current_process().daemon
