"""Measures the prices of transforms, in cycles of the kernels' estimates: ``python bench/price_fft.py``.

Every operation of a list is timed on one thread, beside a direct convolution whose estimate gives the unit. The prices
that explain the times best, none of them negative, are printed for ``pyconv/backends/fft/prices.py``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import fields

import numpy as np
import scipy.optimize

from pyconv import _cpu
from pyconv.backends import fft
from pyconv.backends.fft.prices import Work
from pyconv.backends.fft.sizes import FORWARD, INPUT_GRAD, WEIGHT_GRAD, plan, work
from pyconv.shapes import ConvGeometry, conv_geometry

#: Images, size, channels, filters, kernel.
CASES = (
    (1, 64, 1, 1, 63), (1, 128, 1, 1, 31), (1, 256, 1, 1, 31), (1, 256, 1, 1, 101), (1, 512, 1, 1, 31),
    (1, 512, 1, 1, 255), (1, 1024, 1, 1, 63), (8, 64, 1, 1, 25), (4, 128, 3, 1, 31), (1, 256, 1, 8, 31),
    (8, 64, 8, 8, 15), (16, 48, 16, 16, 21), (4, 96, 32, 32, 15), (1, 128, 16, 16, 31), (32, 32, 32, 64, 13),
)  # fmt: skip


def seconds(run: Callable[[], object], calls: int = 5) -> float:
    """The least CPU time of a call."""
    run()
    taken = []
    for _ in range(calls):
        start = time.process_time()
        run()
        taken.append(time.process_time() - start)
    return min(taken)


def unit(rng: np.random.Generator) -> float:
    """Seconds of one estimated cycle: a direct convolution of one image."""
    g = conv_geometry((1, 256, 256, 1), (31, 31, 1, 1), padding="same")
    x, weight = (rng.standard_normal(shape, np.float32) for shape in (g.input_shape, g.weight_shape))
    return seconds(lambda: _cpu.conv2d(x, weight, None, g, algorithm="direct")) / _cpu.estimate(
        FORWARD, g, np.float32, "direct"
    )


def timed(what: int, g: ConvGeometry, rng: np.random.Generator) -> float:
    """Seconds of one operation with its check."""
    x, weight, grad_out = (rng.standard_normal(s, np.float32) for s in (g.input_shape, g.weight_shape, g.output_shape))
    if what == FORWARD:
        return seconds(lambda: fft.conv2d(x, weight, None, g, checked=True))
    if what == INPUT_GRAD:
        return seconds(lambda: fft.conv2d_input_grad(grad_out, weight, g, checked=True))
    return seconds(lambda: fft.conv2d_weight_grad(x, grad_out, g, checked=True))


def main() -> None:
    """Measure and print."""
    rng = np.random.default_rng(0)
    names = [each.name for each in fields(Work) if each.name != "moved"]  # no plan gathers windows side by side here
    rows, cycles, labels = [], [], []
    for n, size, c, k, kernel in CASES:
        g = conv_geometry((n, size, size, c), (kernel, kernel, c, k), padding="same")
        for what in (FORWARD, INPUT_GRAD, WEIGHT_GRAD):
            made = plan(what, g, False)
            todo = work(what, g, made.vertical, made.horizontal)
            rows.append([1.0, *(getattr(todo, name) for name in names)])
            cycles.append(timed(what, g, rng) / unit(rng))
            labels.append((what, n, size, c, k, kernel, made.cycles))
    matrix, found = np.array(rows), np.array(cycles)
    prices, _ = scipy.optimize.nnls(matrix / found[:, None], np.ones(len(found)))  # relative errors count
    for label, estimate, measured in zip(labels, matrix @ prices, found):
        print(*label[:-1], f"{measured / 1e6:.2f} measured, {estimate / 1e6:.2f} explained, {label[-1] / 1e6:.2f} now")
    print("CALL", round(prices[0]))
    for name, price in zip(names, prices[1:]):
        print(name, f"{price:.3g}")


if __name__ == "__main__":
    main()
