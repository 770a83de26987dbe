"""Convolution and its two gradients by FFT: whether that is faster, and whether its rounding error is small enough."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np

from ... import _cpu
from ...arithmetic import quiet
from ...arrays import aligned
from ...errors import ShapeError
from ...shapes import ConvGeometry
from . import bound, prices
from .bound import Windows
from .correlation import Correlation
from .operands import operands
from .patches import Patches
from .sizes import FORWARD, INPUT_GRAD, WEIGHT_GRAD, plan
from .transforms import Finish, run

#: The share of float32's results that is computed again, rather than all of them in float64.
SMALL_SHARE = 0.1


def pays(what: int, g: ConvGeometry, dtype: np.dtype, against: str = "auto") -> bool:
    """Whether transforms take fewer cycles than the compiled algorithm `against`, by the estimates of both."""
    return g.kh * g.kw >= prices.LEAST_TAPS and _pays(what, g, dtype == np.float64, against, _cpu.isa())


@functools.lru_cache(4096)
def _pays(what: int, g: ConvGeometry, double: bool, against: str, isa: str) -> bool:
    dtype = np.dtype(np.float64 if double else np.float32)
    cycles = estimate(what, g, dtype)
    return cycles is not None and cycles < _cpu.estimate(what, g, dtype, against)


def estimate(what: int, g: ConvGeometry, dtype: np.dtype) -> float | None:
    """The cycles that transforms take; None where nobody would use them."""
    return plan(what, g, dtype == np.float64).cycles if g.kh * g.kw >= prices.LEAST_TAPS else None


def conv2d(
    x: Any, weight: Any, bias: Any, g: ConvGeometry, *, activation: str | None = None, threads: int = 1,
    out: Any = None, checked: bool = False,
) -> Any:  # fmt: skip
    """Convolution with bias and activation, ``(N, OH, OW, K)``; None if it is `checked` and may not stand."""
    y = _result(out, g.output_shape, x.dtype)

    def finish(values: Any, images: slice, rows: slice, columns: slice) -> None:
        if bias is not None:
            values = np.add(values, bias, out=values)
        if activation == "relu":
            values = np.maximum(values, 0, out=values)
        y[images, rows, columns] = values

    return y if _compute(FORWARD, x, weight, g, threads, finish, checked) else None


def conv2d_input_grad(
    grad_out: Any, weight: Any, g: ConvGeometry, *, threads: int = 1, out: Any = None, checked: bool = False
) -> Any:
    """Gradient for the images, ``(N, H, W, C)``; None if it is `checked` and may not stand."""
    gx = _result(out, g.input_shape, grad_out.dtype)

    def finish(values: Any, images: slice, rows: slice, columns: slice) -> None:
        gx[images, rows, columns] = values

    return gx if _compute(INPUT_GRAD, grad_out, weight, g, threads, finish, checked) else None


def conv2d_weight_grad(
    x: Any, grad_out: Any, g: ConvGeometry, *, threads: int = 1, out: Any = None, checked: bool = False
) -> Any:
    """Gradient for the filters, ``(kh, kw, C // groups, K)``; None if it is `checked` and may not stand."""
    gw = _result(out, g.weight_shape, x.dtype)

    def finish(values: Any, images: slice, rows: slice, columns: slice) -> None:
        gw[rows] = values[0].reshape(gw[rows].shape)

    return gw if _compute(WEIGHT_GRAD, x, grad_out, g, threads, finish, checked) else None


def _result(out: Any, shape: tuple[int, ...], dtype: np.dtype) -> Any:
    if out is None:
        return aligned(shape, dtype)
    if out.shape != shape:
        raise ShapeError(f"out must have the result's shape {shape}, not {out.shape}")
    return out


@quiet
def _compute(what: int, a: Any, b: Any, g: ConvGeometry, threads: int, finish: Finish, checked: bool) -> bool:
    """Compute, and return whether the result may stand."""
    if checked:
        return (_checked_weight_grad if what == WEIGHT_GRAD else functools.partial(_checked, what))(
            a, b, g, threads, finish
        )
    made = plan(what, g, a.dtype == np.float64)
    run(made, *operands(made, a, b, g), g, threads, finish, False)
    return True


def _checked(what: int, a: Any, b: Any, g: ConvGeometry, threads: int, finish: Finish) -> bool:
    """The forward pass or the input's gradient, with patches where its numbers are uncertain.

    Where too many of float32's are, float64 is tried.
    """
    if not np.isfinite(b).all():
        return False
    of = Correlation.of(what, a, b, g)
    windows = Windows(of, threads)
    tolerance = bound.TOLERANCE * float(np.finfo(a.dtype).eps)
    directly = _cpu.estimate(what, g, a.dtype)
    if not windows.finite:
        a = np.where(np.isfinite(a), a, a.dtype.type(0))
    for dtype in {a.dtype: None, np.dtype(np.float64): None}:
        a, b = a.astype(dtype, copy=False), b.astype(dtype, copy=False)
        made = plan(what, g, dtype == np.float64)
        most = SMALL_SHARE if dtype != np.float64 else 1 - made.cycles / directly
        ready = operands(made, a, b, g)
        eps = float(np.finfo(dtype).eps)
        error = bound.error(made, ready[0], b, g, eps)
        uncertain = windows.uncertain(error, tolerance)
        if uncertain.mean() < most / 4 or Patches(of, windows, uncertain, most).few:  # the rest is likely to be few too
            error += bound.error_back(made, run(made, *ready, g, threads, finish, True), eps)
            patches = Patches(of, windows, windows.uncertain(error, tolerance), most)
            if patches.few:
                patches.apply(finish, threads)
                return True
    return False


def _checked_weight_grad(x: Any, grad_out: Any, g: ConvGeometry, threads: int, finish: Finish) -> bool:
    """The filters' gradient, whose windows are as large as the images.

    A lower bound of their sums of magnitudes is the sum over an eighth of the images, which transforms can compute:
    nothing cancels in it, so it is much larger than its own rounding unless the images' range is too wide anyway.
    """
    eps = float(np.finfo(x.dtype).eps)
    some = dataclasses.replace(g, n=-(-g.n // 8))
    sums = np.empty((g.kh, g.kw, g.c // g.groups * g.k))

    def keep(values: Any, images: slice, rows: slice, columns: slice) -> None:
        sums[rows] = values[0]

    def transformed(images: Any, errors: Any, g: ConvGeometry, finish: Finish) -> Any:
        made = plan(WEIGHT_GRAD, g, images.dtype == np.float64)
        ready = operands(made, images, errors, g)
        energy = run(made, *ready, g, threads, finish, True)
        return bound.error(made, ready[0], errors, g, eps) + bound.error_back(made, energy, eps)

    uncertain = transformed(np.abs(x[: some.n]), np.abs(grad_out[: some.n]), some, keep)
    error = transformed(x, grad_out, g, finish)
    least = bound.TOLERANCE * eps * (sums - uncertain)
    return bool((least > np.maximum(error, bound.LEAST)).all())
