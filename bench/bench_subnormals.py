"""Subnormal numbers do not slow training down: the README's example with Adam, over 3000 steps.

When gradients have become zero, their running means shrink by a tenth in each step, and are subnormal after about 800
steps. Processors compute with such numbers many times as slowly; pyconv treats them as zero. Single operations on
subnormal and on usual numbers are timed too. It takes a minute on an idle core.
"""

from __future__ import annotations

import functools
import time

import numpy as np
import pytest
from harness.images import images_for
from harness.timing import Times
from harness.verify import relative_error

import pyconv
from pyconv import nn, optim
from pyconv.parallel import Job, engine_for

EXPERIMENT = "subnormals"
STEPS, STRETCH, BATCH = 3000, 250, 64
#: The slowest stretch of steps may take so many times the median of all stretches.
FLAT = 1.05
TINY = 1e-40


def test_time_of_a_step_stays(measure, quick: bool) -> None:
    steps, stretch = (STEPS // 10, STRETCH // 10) if quick else (STEPS, STRETCH)
    model = nn.build("5-50-100-10")
    x, labels, data = images_for(model, 8192)
    model.normalization = nn.Normalization([float(x.mean())], [float(x.std())])
    job = Job(optim.Adam(1e-3), BATCH, 1000, backend="serial", workers=1, threads_per_worker=1)
    engine = engine_for(model, x, labels, job)
    seconds, losses = [], []

    def train() -> None:
        epoch, last = 0, time.process_time()
        while len(seconds) < steps:
            for report in engine.epoch(epoch):
                now = time.process_time()  # CPU time, which other programs do not change
                seconds.append(now - last)
                losses.append(report.loss)
                last = now
            epoch += 1

    measure.once(train)
    engine.close()
    assert np.mean(losses[-50:]) < np.mean(losses[:50]) / 2, "it learns"
    mean = engine.state()["optimizer.mean"]
    for begin in range(0, steps, stretch):
        taken = Times(tuple(seconds[begin : begin + stretch]))
        measure.add(
            experiment=EXPERIMENT, case="5-50-100-10, Adam", operation=f"training step, batch {BATCH}, {data}",
            column="pyconv, 1 thread", x=begin + stretch, threads=1, **taken.as_record(),
            ratio=taken.median / float(np.median(seconds[stretch:])), target=FLAT,
            subnormal_share=float(np.mean((mean != 0) & (np.abs(mean) < np.finfo(np.float32).tiny))),
        )  # fmt: skip


@pytest.mark.parametrize("algorithm", ("naive", "direct", "winograd"))
def test_convolution_of_tiny_numbers(algorithm: str, measure, rng: np.random.Generator) -> None:
    x = rng.standard_normal((8, 24, 24, 32), np.float32)
    weight = rng.standard_normal((3, 3, 32, 64), np.float32)
    images = {"images of 1": x, "images of 1e-40": x * np.float32(TINY)}
    run = functools.partial(pyconv.conv2d, weight=weight, padding=1, backend="serial", algorithm=algorithm)
    error = relative_error(run(x), pyconv.conv2d(x.astype(float), weight.astype(float), padding=1, backend="reference"))
    measure(
        {column: functools.partial(run, array) for column, array in images.items()},
        experiment=EXPERIMENT,
        case=f"32→64 3×3, 24², {algorithm}",
        operation="forward",
        relative_error=error,
    )


@pytest.mark.parametrize("name", sorted(optim.OPTIMIZERS))
def test_update_of_fading_moments(name: str, measure, rng: np.random.Generator) -> None:
    n = 720_000
    optimizer = optim.by_name(name, **({"momentum": 0.9} if name == "sgd" else {}))
    gradient = np.where(rng.random(n) < 0.15, 0, rng.standard_normal(n)).astype(np.float32)
    candidates = {}
    for column, fading in (("usual moments", 0.1), ("15 % of the moments fading", TINY)):
        flat, state = rng.standard_normal(n, np.float32), optimizer.init(n)
        moments = {key: np.where(gradient == 0, np.float32(fading), np.float32(0.1)) for key in state}
        candidates[column] = functools.partial(_update, optimizer, flat, gradient, state, moments)
    measure(candidates, experiment=EXPERIMENT, case=name, operation=f"update of {n} parameters", relative_error=None)


def _update(optimizer: optim.Optimizer, flat: np.ndarray, gradient: np.ndarray, state: dict, moments: dict) -> None:
    for key, vector in state.items():  # set them again, or they would be subnormal in the second call
        vector[...] = moments[key]
    optimizer.update(flat, gradient, state, 1000)
