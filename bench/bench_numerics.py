"""How far results are off, beside the sum of magnitudes of their own window; and what the look at transforms costs.

The first part is no time: images of wide range go through every algorithm, and the largest error over its window's sum
is recorded. The second takes a network's training steps with and without the guard, in turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from harness.images import images_for, normalised
from harness.timing import Times
from harness.training import SGD

import pyconv
from pyconv import _cpu, nn, optim, reference
from pyconv.shapes import conv_geometry

EXPERIMENT = "numerics"
#: The guard may take so much of a step.
TARGET = 1.02
STEPS, WARM_UP = 200, 20
SHAPE, FILTERS = (2, 24, 26, 32), (3, 3, 32, 32)


def noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_normal(shape)


def behind_relu(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.maximum(rng.standard_normal(shape), 0)


def sensor(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    image = rng.integers(1, 4096, shape).astype(float)
    return np.where(rng.random(shape) < 0.005, 65535, np.where(rng.random(shape) < 0.02, 0, image))


def half_black(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_normal(shape) * (np.arange(shape[2]) < shape[2] // 2)[:, None]


def marked(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.where(rng.random((*shape[:3], 1)) < 0.01, 1e9, rng.standard_normal(shape))


def one_large(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    image = np.zeros(shape)
    image[tuple(rng.integers(size) for size in shape)] = 1e20
    return image


IMAGES: dict[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {
    "noise": noise, "behind a ReLU": behind_relu, "12 bits, dead and hot pixels": sensor, "half black": half_black,
    "1 % of 1e9": marked, "one pixel of 1e20": one_large,
}  # fmt: skip
ALGORITHMS = ("direct", "winograd_2x2", "winograd_3x3", "winograd_4x4", "winograd_1d", "auto")


@pytest.mark.parametrize("operation", ("forward", "input_grad", "weight_grad"))
@pytest.mark.parametrize("image", IMAGES)
def test_error_beside_the_window(image: str, operation: str, measure, rng: np.random.Generator) -> None:
    g = conv_geometry(SHAPE, FILTERS, padding=1)
    weight, other = (rng.standard_normal(shape).astype(np.float32) for shape in (g.weight_shape, g.output_shape))
    a = IMAGES[image](rng, g.output_shape if operation == "input_grad" else g.input_shape).astype(np.float32)
    compute, twin, b = {
        "forward": (_cpu.conv2d, reference.conv2d, weight),
        "input_grad": (_cpu.conv2d_input_grad, reference.conv2d_input_grad, weight),
        "weight_grad": (_cpu.conv2d_weight_grad, reference.conv2d_weight_grad, other),
    }[operation]
    more = (None, g) if operation == "forward" else (g,)
    exact = twin(a.astype(float), b.astype(float), *more)
    sums = twin(np.abs(a.astype(float)), np.abs(b.astype(float)), *more)

    def worst(algorithm: str) -> float:
        error = np.abs(compute(a, b, *more, algorithm=algorithm) - exact)
        return float(np.divide(error, sums, out=np.where(error > 0, np.inf, 0.0), where=sums > 0).max())

    for algorithm in ALGORITHMS:
        found = measure.once(lambda: worst(ALGORITHMS[0])) if algorithm == ALGORITHMS[0] else worst(algorithm)
        measure.add(
            experiment=EXPERIMENT, case=image, operation=operation, column=algorithm, threads=1,
            worst=found if np.isfinite(found) else None, geometry=f"{SHAPE} · {FILTERS}",
        )  # fmt: skip
    if operation != "weight_grad":
        assert worst("auto") <= 1e-5


def windows_of(image: np.ndarray, size: int, places: tuple[int, int]) -> np.ndarray:
    """Sums over size × size pixels, from each of so many places on."""
    seen = np.lib.stride_tricks.sliding_window_view(image, (size, size), axis=(1, 2)).sum((-1, -2))
    return seen[:, : places[0], : places[1]]


@pytest.mark.parametrize("channels", (32, 128))
@pytest.mark.parametrize("image", ("noise", "behind a ReLU"))
def test_share_by_other_designs(image: str, channels: int, measure, rng: np.random.Generator) -> None:
    """The share of results that would have to be summed again, 4 × 4 tiles, by three ways to bound them.

    The guard's rule; a bound that holds for every filter, from the sum of its smallest weights; and the result itself.
    """
    n, h, w = 2, 24, 24
    x, weight = IMAGES[image](rng, (n, h, w, channels)), rng.standard_normal((3, 3, channels, 64))
    padded = np.pad(x, ((0, 0), (1, 5), (1, 5), (0, 0)))
    light, energy = np.abs(padded).sum(-1), (padded**2).sum(-1)
    s, q = windows_of(light, 3, (h, w))[..., None], windows_of(energy, 3, (h, w))[..., None]
    tile = windows_of(energy, 6, (h, w))[:, ::4, ::4].repeat(4, axis=1).repeat(4, axis=2)[..., None]
    magnitudes = np.sort(np.abs(weight).reshape(-1, 64), axis=0)
    spread = magnitudes.sum(0) ** 2 / (magnitudes**2).sum(0) / len(magnitudes)
    rounding = 2.5e-6 * np.sqrt(tile * (magnitudes**2).mean(0))  # five times its root mean square
    # A window of u numbers of size 2 q / s or more has at least that times the sum of the u smallest weights.
    smallest = np.concatenate([np.zeros((1, 64)), magnitudes.cumsum(0)])
    sums = 2 * q / s * smallest[(s**2 / (4 * q)).astype(int)[..., 0]]
    y = pyconv.conv2d(x, weight, padding=1, backend="serial", algorithm="direct")
    again = {
        "by the guard": spread * s**2 < 6 * np.maximum(q, tile / 4),
        "by the smallest weights": 1e-5 * sums < rounding,
        "by the result": 1e-5 * np.abs(y) < rounding,
    }
    measure.once(lambda: None)
    for column, wrong in again.items():
        measure.add(
            experiment=EXPERIMENT, case=f"{image}, {channels} channels", operation="share summed again", column=column,
            share=float(wrong.mean()),
        )  # fmt: skip


@pytest.mark.parametrize("batch", (64,))
def test_cost_of_the_guard(batch: int, measure, quick: bool) -> None:
    """CPU time of steps, which alternate: with the guard, without it, without, with."""
    model = nn.build("fer")
    x, labels, data = images_for(model, 1024)
    steps = (STEPS // 10 if quick else STEPS) + WARM_UP
    seconds: dict[bool, list[float]] = {True: [], False: []}
    began, guarded = time.process_time(), True

    def after_each(report: dict) -> bool:
        nonlocal began, guarded
        if report["step"] > WARM_UP:
            seconds[guarded].append(time.process_time() - began)
        guarded = report["step"] % 4 in (0, 3)
        _cpu._set_guarded(guarded)
        began = time.process_time()
        return report["step"] == steps

    try:
        measure.once(
            lambda: pyconv.fit(
                model, normalised(x), labels, epochs=-(-steps * batch // 1024), batch_size=batch,
                optimizer=optim.SGD(**SGD), backend="serial", threads_per_worker=1, normalize=False, progress="off",
                on_step=after_each,
            )
        )  # fmt: skip
    finally:
        _cpu._set_guarded(None)
    times = {name: Times(tuple(seconds[on])) for name, on in (("without", False), ("with the guard", True))}
    for name, taken in times.items():
        measure.add(
            experiment=EXPERIMENT, case=f"fer, {data}", operation=f"training step, batch {batch}", column=name,
            threads=1, batch=batch, **taken.as_record(), ratio=taken.median / times["without"].median,
            target=TARGET if name != "without" else None,
        )  # fmt: skip
