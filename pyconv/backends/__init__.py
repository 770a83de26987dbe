"""The backends by name, all with the same operations: ``reference``, ``serial``, ``multicore``, ``cuda``.

contract.py   the base class: the operations that a backend must have, and defaults of the others
literal.py    ``reference``
compiled.py   ``serial`` and ``multicore``
gpu.py        ``cuda``

How a call reaches the code that computes it::

    pyconv.conv2d, a layer of pyconv.nn       check arguments, make a geometry (ops/, shapes.py)
      -> Backend.conv2d                       the backend's table of algorithms (contract.py)
           reference -> reference.py          NumPy, as the equation is written
           serial, multicore -> _cpu.pyx      a plan: the named or the cheapest kernel, on one thread or on several
                          -> _kernels/        C, compiled for each instruction set
           cuda -> cuda/                      a kernel compiled by SourceModule, on arrays in GPU memory

A new backend is a subclass of :class:`Backend` and one line in ``_TABLE``. A backend's modules are imported when it is
first asked for, because they may be missing.
"""

from __future__ import annotations

import copyreg
import functools
import importlib
import importlib.util
import logging
import warnings
from collections.abc import Callable

from .. import runlog
from .. import threads as _threads
from ..errors import BackendUnavailable
from ..values import choice
from .contract import DTYPES, Backend, dropout_mask

__all__ = ["BUILD_HINT", "DTYPES", "NAMES", "Backend", "algorithms", "backends", "dropout_mask", "get"]

_log = runlog.logger("pyconv")

BUILD_HINT = (
    "pyconv's compiled module pyconv._cpu is missing: build it with `pip install .` and leave the source folder, or "
    "with `pip install -e .` to work in it"
)


def warn_if_not_built() -> None:
    """If the compiled module is missing, say once, at import, how to build it."""
    if importlib.util.find_spec("pyconv._cpu") is None:
        warnings.warn(BUILD_HINT, RuntimeWarning, stacklevel=3)


def _load_reference() -> Backend:
    from .literal import Reference

    return Reference()


def _check_compiled() -> None:
    try:
        importlib.import_module("pyconv._cpu")
    except ModuleNotFoundError as error:
        if error.name != "pyconv._cpu":
            raise
        raise BackendUnavailable(BUILD_HINT) from None


def _load_serial() -> Backend:
    _check_compiled()
    from .compiled import Serial

    return Serial()


def _load_multicore() -> Backend:
    _check_compiled()
    from .. import _cpu
    from .compiled import Multicore

    if not _cpu.has_openmp:
        raise BackendUnavailable("pyconv was built without OpenMP: install a compiler with it and build again")
    return Multicore()


def _load_cuda() -> Backend:
    try:
        module = importlib.import_module("pyconv.cuda")
    except ModuleNotFoundError as error:
        if error.name != "pyconv.cuda":
            raise
        raise BackendUnavailable("this build of pyconv has no CUDA backend") from None
    reason = module.unavailable()
    if reason is not None:
        raise BackendUnavailable(reason)
    from .gpu import Cuda

    return Cuda()


_TABLE: dict[str, Callable[[], Backend]] = {
    "reference": _load_reference,
    "serial": _load_serial,
    "multicore": _load_multicore,
    "cuda": _load_cuda,
}


NAMES = ("auto", *_TABLE)
"""The values of the argument `backend`."""


@functools.cache
def _loaded(name: str) -> Backend:
    made = _TABLE[name]()
    copyreg.pickle(type(made), _by_name)  # what is sent or copied is the one backend of that name
    return made


def _by_name(ops: Backend) -> tuple[Callable[[str], Backend], tuple[str]]:
    return get, (ops.name,)


@functools.cache
def _auto() -> Backend:
    """The best backend for arrays in main memory: all cores, or one core if OpenMP is missing.

    The second is logged as a warning, because pip does not show the build's. Worker processes are given a backend's
    name.
    """
    level = logging.INFO
    try:
        chosen, why = _loaded("multicore"), f"up to {_threads.counted(_threads.default(), 'thread')}"
    except BackendUnavailable as reason:
        chosen, why = _loaded("serial"), f"one thread: {reason}"
        level = logging.WARNING
    _log.log(level, "backend auto: %s (%s)", chosen.name, why)
    return chosen


def get(name: str | Backend = "auto") -> Backend:
    """The backend called `name`.

    Raises
    ------
    UnknownNameError
        If there is no such backend.
    BackendUnavailable
        If it cannot run here; the message says why. No other backend is used instead.
    """
    if isinstance(name, Backend):
        return name
    name = choice(name, "backend", NAMES)
    return _auto() if name == "auto" else _loaded(name)


def backends() -> dict[str, str | None]:
    """All backends by name; the value is None, or the reason why a backend cannot be used here.

    Returns
    -------
    dict
        ``{"reference": None, "serial": None, "multicore": None, "cuda": "PyCUDA is not installed: ..."}``
    """
    reasons: dict[str, str | None] = {}
    for name in _TABLE:
        try:
            _loaded(name)
            reasons[name] = None
        except BackendUnavailable as reason:
            reasons[name] = str(reason)
    return reasons


def algorithms(backend: str = "auto") -> tuple[str, ...]:
    """Names of a backend's convolution algorithms, in the order in which the documentation teaches them.

    Parameters
    ----------
    backend : str
        A name from :func:`backends`. The CUDA variants are listed on machines without a GPU too.

    Returns
    -------
    tuple of str
        Any of them, or "auto", is the `algorithm` of a convolution.
    """
    if isinstance(backend, str) and backend == "cuda":
        names: tuple[str, ...] = tuple(importlib.import_module("pyconv.cuda").algorithms)
        return names
    return get(backend).algorithms
