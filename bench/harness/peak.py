"""Measures the FMA peak of this machine, with which every kernel's GFLOP/s are compared."""

from __future__ import annotations

import ctypes
import functools
import os
import shlex
import shutil
import subprocess
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import threadpoolctl

ISAS = ("baseline", "avx2", "avx512")


@dataclass(frozen=True)
class Peak:
    """The best float32 rate of this machine.

    Attributes
    ----------
    gflops : float
        10⁹ operations a second over all `threads`, a multiply-add counted as two.
    threads : int
        Threads that ran at once.
    source : str
        How it was measured: the register-only loop of ``peak.c``, or BLAS where there is no C compiler.
    """

    gflops: float
    threads: int
    source: str


@functools.cache
def fma_peak(threads: int = 1, isa: str | None = None) -> Peak:
    """Measure the peak on `threads` threads; `isa` is one of :data:`ISAS`, by default the best that runs here.

    The best of many short runs counts, not their median, because the peak is what the machine can do.
    """
    library = _compiled()
    if library is None:
        return Peak(_sgemm_gflops(threads), threads, "BLAS sgemm of 1024 × 1024 (no C compiler for the FMA loop)")
    chosen, loop, flops = _loop(library, isa)
    rounds = 400_000
    best = max(_rate(lambda: loop(rounds, 0.999, 0.001), threads) for _ in range(20))
    return Peak(best * rounds * flops * threads / 1e9, threads, f"FMA loop, {chosen}")


def _loop(library: ctypes.CDLL, isa: str | None) -> tuple[str, Callable[[int, float, float], float], int]:
    """The loop for an instruction set, which one that is, and the operations of a round."""
    available = [name for number, name in enumerate(ISAS) if library.peak_available(number)]
    chosen = isa if isa in available else available[-1]
    loop = getattr(library, f"peak_{chosen}")
    loop.restype, loop.argtypes = ctypes.c_double, (ctypes.c_long, ctypes.c_float, ctypes.c_float)
    return chosen, loop, ctypes.c_long.in_dll(library, f"peak_{chosen}_flops_a_round").value


def in_registers(flops: int, threads: int) -> Callable[[], None]:
    """A function that does about `flops` operations on `threads` threads and touches no memory.

    How much faster two threads are depends on the clock and on other programs, not on caches.
    """
    library = _compiled()
    if library is None:
        raise RuntimeError("the FMA loop needs a C compiler")
    _, loop, of_a_round = _loop(library, None)
    rounds = flops // (of_a_round * threads)
    return lambda: _together(lambda: loop(rounds, 0.999, 0.001), threads)


def _rate(work: Callable[[], object], threads: int) -> float:
    """Calls a second and thread of `work` when `threads` threads run it at once."""
    start = time.perf_counter()
    _together(work, threads)
    return 1 / (time.perf_counter() - start)


def _together(work: Callable[[], object], threads: int) -> None:
    """Call `work` on `threads` threads at once (ctypes releases the GIL)."""
    others = [threading.Thread(target=work) for _ in range(threads - 1)]
    for thread in others:
        thread.start()
    work()
    for thread in others:
        thread.join()


@functools.cache
def _compiled() -> ctypes.CDLL | None:
    """``peak.c`` as a library, or None if it cannot be compiled."""
    compiler = shlex.split(os.environ.get("CC", "") or sysconfig.get_config_var("CC") or "cc")
    if shutil.which(compiler[0]) is None:
        compiler = ["cc"]
    source = Path(__file__).with_name("peak.c")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "peak.so")
        command = [*compiler, "-O2", "-fPIC", "-shared", "-o", str(library), str(source)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        return ctypes.CDLL(str(library))


def _sgemm_gflops(threads: int) -> float:
    size = 1024
    a, b = (np.random.default_rng(i).standard_normal((size, size), dtype=np.float32) for i in (0, 1))
    with threadpoolctl.threadpool_limits(threads, "blas"):
        return max(2 * size**3 * _rate(lambda: a @ b, 1) / 1e9 for _ in range(10))
