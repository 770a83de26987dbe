"""The backends behind one signature: ``reference``, ``serial``, ``multicore``, ``cuda``.

A backend's operations are functions of one module with the signature of :mod:`pyconv.reference`; arrays
arrive there validated: C-contiguous NHWC, one dtype, with the geometry from :mod:`pyconv.shapes`. A new
backend is a module with those functions and one line in ``_TABLE``.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from . import runlog
from . import threads as _threads
from .arrays import as_array, no_array
from .errors import BackendUnavailable, DtypeError, ShapeError
from .values import choice

_log = runlog.logger("pyconv")

DTYPES = (np.dtype(np.float32), np.dtype(np.float64))

BUILD_HINT = (
    "pyconv's compiled module pyconv._cpu is missing: build it with `pip install .` and leave the source folder, or "
    "with `pip install -e .` to work in it"
)


def warn_if_not_built() -> None:
    """Say at import, once, how to build the compiled module where it is missing."""
    if importlib.util.find_spec("pyconv._cpu") is None:
        warnings.warn(BUILD_HINT, RuntimeWarning, stacklevel=3)


class Backend:
    """One place to run operations: a module of them, its name, and what it takes at the door.

    Every operation of the module is an attribute: ``backend.conv2d(x, weight, bias, geometry, ...)``.
    """

    def __init__(self, name: str, module: ModuleType, *, many_threads: bool) -> None:
        self.name = name
        self.algorithms: tuple[str, ...] = tuple(module.algorithms)
        self._module = module
        self._many_threads = many_threads

    def __getattr__(self, operation: str) -> Any:
        if operation.startswith("_"):
            raise AttributeError(operation)
        return getattr(self._module, operation)

    def __repr__(self) -> str:
        return f"<pyconv backend {self.name}>"

    def __reduce__(self) -> tuple[Callable[..., Backend], tuple[str]]:
        return get, (self.name,)

    def threads(self, requested: int | None) -> int:
        """Threads that an operation runs on here when the user asks for `requested`."""
        if self._many_threads:
            return _threads.resolve(requested)
        if requested is not None:
            _threads.asked_for(requested, "threads")
        return 1

    def check_algorithm(self, algorithm: str) -> str:
        """`algorithm` if this backend has it, or "auto"; else an error that lists the known ones."""
        return choice(algorithm, f"algorithm of backend {self.name}", ("auto", *self.algorithms))

    def admit(self, value: Any, name: str, ndim: int) -> Any:
        """`value` as an array that operations here take: float32 or float64, aligned, C-contiguous."""
        admit = getattr(self._module, "admit", admit_numpy)
        try:
            return admit(value, name, ndim)
        except ValueError as error:
            raise no_array(name, error) from None

    def permute(self, array: Any, axes: tuple[int, ...]) -> Any:
        """`array` with its axes reordered, contiguous."""
        permute = getattr(self._module, "permute", _permute_numpy)
        return permute(array, axes)


def admit_numpy(value: Any, name: str, ndim: int) -> np.ndarray:
    """`value` as a C-contiguous, aligned NumPy array of `ndim` dimensions and a dtype that is computed in."""
    array = as_array(value, name)
    if array.dtype not in DTYPES or not array.dtype.isnative:
        raise DtypeError(
            f"{name} has dtype {array.dtype.str if array.dtype in DTYPES else array.dtype}; "
            "convert it to float32 or float64 first"
        )
    if array.ndim != ndim:
        raise ShapeError(f"{name} must have {ndim} dimensions, not {array.ndim}: got shape {array.shape}")
    flags = array.flags
    return array if flags.c_contiguous and flags.aligned else np.require(array, requirements=["C", "A"])


def _permute_numpy(array: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    return np.ascontiguousarray(array.transpose(axes))


def _load_reference() -> Backend:
    return Backend("reference", importlib.import_module("pyconv.reference"), many_threads=False)


def _compiled() -> ModuleType:
    try:
        return importlib.import_module("pyconv._cpu")
    except ModuleNotFoundError as error:
        if error.name != "pyconv._cpu":
            raise
        raise BackendUnavailable(BUILD_HINT) from None


def _load_serial() -> Backend:
    return Backend("serial", _compiled(), many_threads=False)


def _load_multicore() -> Backend:
    module = _compiled()
    if not module.has_openmp:
        raise BackendUnavailable("pyconv was built without OpenMP: install a compiler with it and build again")
    return Backend("multicore", module, many_threads=True)


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
    return Backend("cuda", importlib.import_module("pyconv.cuda.operations"), many_threads=False)


_TABLE: dict[str, Callable[[], Backend]] = {
    "reference": _load_reference,
    "serial": _load_serial,
    "multicore": _load_multicore,
    "cuda": _load_cuda,
}


NAMES = ("auto", *_TABLE)
"""What `backend` may be."""


@functools.cache
def _loaded(name: str) -> Backend:
    return _TABLE[name]()


@functools.cache
def _auto() -> Backend:
    """The best backend for arrays in main memory: all cores, or one where OpenMP is missing.

    That is a warning, for pip shows none of the build's. Worker processes are told which backend to take.
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
        If it cannot run here; the message says why. No other backend is taken in its place.
    """
    if isinstance(name, Backend):
        return name
    name = choice(name, "backend", NAMES)
    return _auto() if name == "auto" else _loaded(name)


def backends() -> dict[str, str | None]:
    """Every backend by name, and why it cannot be used here, or None where it can.

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
