"""Several of Python's threads compute at the same time, with a GIL or without one, and get the bits of one alone.

The compiled modules declare that they need no GIL. The threads share the workspace that is kept between calls, the way
in which OpenMP's threads wait, and choices that are kept in Python's dictionaries; a network has a lock.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import pyconv
from pyconv import nn

THREADS, ROUNDS = 8, 12
#: Batch, side, channels, filters, kernel: workspaces of very different sizes, so that one replaces the other.
SIZES = ((1, 9, 3, 5, 3), (2, 24, 16, 33, 3), (3, 17, 8, 7, 5), (1, 40, 1, 4, 7), (4, 12, 32, 64, 1))


def together(work: Callable[[int], object]) -> list[object]:
    """Results of ``work(number)`` by THREADS threads that begin at the same moment."""
    start = threading.Barrier(THREADS)

    def begin(number: int) -> object:
        start.wait()
        return work(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(begin, range(THREADS)))


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python has no free threads")
def test_the_modules_do_not_bring_the_gil_back() -> None:
    program = "import sys, pyconv; pyconv.fit; from pyconv.parallel import _atomics; print(sys._is_gil_enabled())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_convolutions_and_gradients(rng: np.random.Generator, dtype: type) -> None:
    cases = []
    for n, side, channels, filters, kernel in SIZES:
        x = rng.standard_normal((n, side, side, channels)).astype(dtype)
        w = rng.standard_normal((kernel, kernel, channels, filters)).astype(dtype)
        cases.append((x, w, rng.standard_normal(pyconv.conv2d(x, w).shape).astype(dtype)))

    def passes(case: tuple[np.ndarray, ...], threads: int) -> list[np.ndarray]:
        x, w, grad = case
        options = {"backend": "multicore", "threads": threads}
        return [
            pyconv.conv2d(x, w, **options),
            pyconv.conv2d_input_grad(grad, w, x.shape, **options),
            pyconv.conv2d_weight_grad(x, grad, w.shape[:2], **options),
        ]

    expected = [passes(case, 1) for case in cases]

    def work(number: int) -> int:
        wrong = 0
        for turn in range(ROUNDS):
            which = (number + turn) % len(cases)
            got = passes(cases[which], 1 + (number + turn) % 2)
            wrong += sum(not np.array_equal(a, b) for a, b in zip(got, expected[which], strict=True))
        return wrong

    assert together(work) == [0] * THREADS


def test_a_network_for_each_thread(rng: np.random.Generator) -> None:
    x = rng.random((8, 12, 12, 1), dtype=np.float32)
    labels = rng.integers(0, 3, 8)

    def steps(number: int) -> tuple[float, bytes]:
        layers = [nn.Conv2D(4 + number % 3, 3, activation="relu"), nn.MaxPool2D(2), nn.Dropout(0.3), nn.Flatten()]
        model = nn.Sequential([*layers, nn.Dense(3)], input_shape=(12, 12, 1), seed=number)
        loss = 0.0
        for step in range(ROUNDS):
            loss, gradient = model.loss_and_gradient(x, labels, step=step)
            model.flat[...] -= np.float32(0.1) * gradient
        return loss, model.flat.tobytes()

    expected = [steps(number) for number in range(THREADS)]
    assert together(steps) == expected


def test_one_network_for_all_threads(rng: np.random.Generator) -> None:
    x = rng.random((16, 12, 12, 1), dtype=np.float32)
    model = nn.build("3-4-8-5", input_shape=(12, 12, 1), classes=5, seed=1)
    expected = model.predict_proba(x).tobytes()

    def work(number: int) -> bool:
        return all(model.predict_proba(x).tobytes() == expected for _ in range(ROUNDS))

    assert together(work) == [True] * THREADS
