"""Decorators that set the state of floating-point arithmetic around pyconv's functions, and put it back.

NumPy's errors are ignored, and the processor makes subnormal numbers zero."""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

import numpy as np

P = ParamSpec("P")
R = TypeVar("R")


def _processor() -> tuple[Callable[[], int], Callable[[int], None]]:
    """The function that makes subnormal numbers zero on the calling thread, and the one that undoes it."""
    try:
        compiled = importlib.import_module("pyconv._subnormals")
    except ImportError:  # not built: subnormal numbers are kept
        return lambda: 0, lambda before: None
    return compiled.flush, compiled.restore


_flush, _restore = _processor()


def total(numbers: Iterable[float]) -> float:
    """The sum of numbers of at least 0, rounded once; infinity if a float cannot hold it."""
    try:
        return math.fsum(numbers)
    except OverflowError:  # all of them are finite, and their sum is not
        return math.inf


def quiet(function: Callable[P, R]) -> Callable[P, R]:
    """Let NumPy ignore underflow, overflow and invalid operations in `function`, whatever ``np.seterr`` says outside.

    Tiny probabilities and moments underflow in every training run, without harm. Divergence is found by looking at
    losses and parameters instead.

    Parameters
    ----------
    function : callable

    Returns
    -------
    callable
        The same function, under pyconv's own error state.
    """

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with np.errstate(all="ignore"):
            return function(*args, **kwargs)

    return run


def own(function: Callable[P, R]) -> Callable[P, R]:
    """As :func:`quiet`, and treat subnormal numbers as zero on the calling thread until `function` returns.

    With subnormal numbers a processor takes up to a hundred times as long. The compiled kernels treat them as zero on
    their threads too (``_kernels/subnormals.h``), so the bits do not depend on where a number is computed. Do not
    decorate a generator: its caller runs between its steps.

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
