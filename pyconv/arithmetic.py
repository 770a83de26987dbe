"""pyconv's own arithmetic in NumPy: apart from what the user's program tells NumPy and the processor to do."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import numpy as np

P = ParamSpec("P")
R = TypeVar("R")


def _processor() -> tuple[Callable[[], int], Callable[[int], None]]:
    """What makes subnormal numbers zero on the calling thread, and what puts it back."""
    try:
        compiled = importlib.import_module("pyconv._subnormals")
    except ImportError:  # not built: they are kept
        return lambda: 0, lambda before: None
    return compiled.flush, compiled.restore


_flush, _restore = _processor()


def quiet(function: Callable[P, R]) -> Callable[P, R]:
    """Let NumPy ignore underflow, overflow and the like in `function`, whatever ``np.seterr`` says outside.

    Tiny probabilities and moments underflow in every training run, and do no harm; what diverges is found by looking
    at losses and parameters.

    Parameters
    ----------
    function : callable

    Returns
    -------
    callable
        The same, under pyconv's own error state.
    """

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with np.errstate(all="ignore"):
            return function(*args, **kwargs)

    return run


def own(function: Callable[P, R]) -> Callable[P, R]:
    """As :func:`quiet`, and let subnormal numbers be zero on the calling thread until `function` returns.

    The processor takes up to a hundred times as long for them. The compiled kernels do the same on their threads
    (``_kernels/subnormals.h``), so that the bits do not depend on where a number is computed. No generator may be
    decorated: its caller runs between its steps.

    Parameters
    ----------
    function : callable

    Returns
    -------
    callable
        The same, in pyconv's own arithmetic.
    """

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with np.errstate(all="ignore"):
            before = _flush()
            try:
                return function(*args, **kwargs)
            finally:
                _restore(before)

    return run
