"""The guard that a script with workers, or with a calibration, needs: spawned processes import it."""

from __future__ import annotations

import multiprocessing
import os
import sys

from ..descriptors import open_standard
from ..errors import InputError

EXIT_UNGUARDED = 86  # of a process that found itself starting workers while importing the script

MESSAGE = (
    "the script starts workers when it is merely imported, which every worker process does; "
    'put that call under: if __name__ == "__main__":'
)


def check_main_guard() -> None:
    """In a process that is becoming a worker, and imports the script: leave, so that the parent can say why.

    A program that comes from standard input has no file that other processes could import: they are not sent to look.
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
    open_standard()  # before memory and pipes take their numbers
