"""What a step of ``5-50-100-10`` through ``fit`` costs in addition to its arithmetic: the target is 5 %.

A run of one worker on one thread and the network's kernels, called one by one on arrays that are allocated once, take
turns step by step on the same images. The two are compared by CPU time, which other programs do not change. At the end
their parameters must be the same bits. Gathering the images counts for ``fit`` alone.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from harness.arithmetic import Arithmetic
from harness.images import images_for, normalised
from harness.timing import Times
from harness.training import SGD

import pyconv
from pyconv import nn, optim
from pyconv.parallel.sampler import EpochOrder

EXPERIMENT = "step_overhead"
TARGET = 1.05
#: Images of a step, and the steps that are measured; those before them only warm up.
BATCHES = {64: 400, 4: 1000}
WARM_UP = 50


@pytest.mark.parametrize("batch", BATCHES)
def test_step_through_fit(batch: int, measure, quick: bool) -> None:
    steps = BATCHES[batch] // (20 if quick else 1) + WARM_UP
    model = nn.build("5-50-100-10")
    x, labels, data = images_for(model, 4096)
    x, count = normalised(x), 4096 // batch
    optimizer = optim.SGD(**SGD)
    alone = Arithmetic(model, batch, optimizer)
    seconds: dict[str, list[float]] = {"fit": [], "arithmetic": []}
    order = EpochOrder(labels, seed=0, epoch=0, workers=1, batch_size=batch)
    began = 0.0

    def after_each(report: dict[str, Any]) -> bool:
        nonlocal order, began
        seconds["fit"].append(time.process_time() - began)
        epoch, step = divmod(report["step"] - 1, count)
        if step == 0:
            order = EpochOrder(labels, seed=0, epoch=epoch, workers=1, batch_size=batch)
        chosen = order.batch(step)
        alone.images[...], alone.labels[...] = x[chosen], labels[chosen]
        began = time.process_time()
        alone.step(report["lr"])
        seconds["arithmetic"].append(time.process_time() - began)
        began = time.process_time()
        return report["step"] == steps

    with np.errstate(all="ignore"):
        measure.once(
            lambda: pyconv.fit(
                model, x, labels, epochs=-(-steps // count), batch_size=batch, optimizer=optimizer, backend="serial",
                threads_per_worker=1, normalize=False, progress="off", on_step=after_each,
            )
        )  # fmt: skip
    assert np.array_equal(alone.flat.view(np.uint32), model.flat.view(np.uint32)), "both did the same arithmetic"
    usual = {name: Times(tuple(taken[WARM_UP:])) for name, taken in seconds.items()}
    least = {name: min(times.samples) for name, times in usual.items()}
    for name, times in usual.items():
        measure.add(
            experiment=EXPERIMENT, case="5-50-100-10", operation=f"training step, batch {batch}, {data}", column=name,
            threads=1, batch=batch, x=batch, **times.as_record(), least_s=least[name],
            ratio=times.median / usual["arithmetic"].median, least_ratio=least[name] / least["arithmetic"],
            target=TARGET if batch == 64 and name == "fit" else None,
        )  # fmt: skip
