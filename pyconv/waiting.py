"""Loads OpenMP so that pyconv can choose how its threads wait: spinning, or on a busy machine asleep."""

from __future__ import annotations

import atexit
import contextlib
import importlib
import os
from collections.abc import Callable
from typing import Any

VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
"""Variables by which a user decides how threads wait."""

SPINS = "300000"
"""How often a thread looks for work before it sleeps: GNU OpenMP's default, some milliseconds."""

_decided = [name for name in VARIABLES if name in os.environ]  # their state when OpenMP's library read them
_module: Any = None


def _nothing(threads: int) -> None:
    pass


watch: Callable[[int], None] = _nothing
"""Call it before an operation on so many threads; from time to time it decides anew how threads wait."""


def start() -> None:
    """Load OpenMP's library, and let its threads spin, or sleep if they have to wait for a CPU.

    GNU OpenMP reads two lengths of spinning when it is loaded: ``GOMP_SPINCOUNT``, and one for when there are more
    threads than CPUs, which is zero if ``OMP_WAIT_POLICY`` is passive. Both variables are set for that moment only, so
    that child processes and other libraries find what the user has set. If another package has loaded the library
    already, threads that should sleep spin for some microseconds first. Decision 24 has the reasons.
    """
    global _module, watch
    if _decided or _module is not None:
        return
    ours = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": SPINS}
    os.environ.update(ours)
    try:
        with contextlib.suppress(ImportError):  # not built: the code that needs it will say so
            _module = importlib.import_module("pyconv._waiting")
    finally:
        for name in ours:
            del os.environ[name]
    if _module is not None and _module.can_watch:
        watch = _module.watch
        _module.start()
        atexit.register(_module.stop)


def rule() -> Any | None:
    """A rule of its own for a thread that waits for something else: it takes seconds, and the share of them waited.

    Returns
    -------
    object or None
        ``look(seconds, waited)`` decides whether to sleep at once, and `brief` says so; see ``_waiting.pyx``. None if
        the code is not built.
    """
    with contextlib.suppress(ImportError):
        return importlib.import_module("pyconv._waiting").Rule()
    return None


def passive() -> bool:
    """Whether the user has said that threads sleep while they wait."""
    return "OMP_WAIT_POLICY" in _decided and os.environ.get("OMP_WAIT_POLICY", "").strip().lower() == "passive"


def describe() -> str:
    """How threads wait in this process, as text."""
    if _decided:
        return f"as {' and '.join(_decided)} says: how threads wait does not change"
    if _module is None or not _module.can_watch:
        return "as OpenMP's library has it"
    sleeping, _ = _module.state()
    return f"they {'sleep' if sleeping else 'spin'} now; they sleep while they have to wait for CPUs that others use"
