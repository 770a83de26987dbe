"""Two workers against one, and against the most that this machine can give: two processes that train apart.

Epochs are longer than in Fig. 4, so that the last mini-batch of the faster worker weighs little. Four minutes on both
of two idle cores; only with ``--thorough`` or ``--quick``.
"""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from harness.epochs import BATCH, Epochs, data_for, same_losses
from harness.independent import IndependentProcesses
from harness.turns import in_turns

from pyconv import nn

EXPERIMENT = "two_workers"
MODELS = {"fer": 4096, "5-50-100-10": 24576}
RULES = ("sync", "hogwild", "local")


@pytest.mark.parametrize("name", MODELS)
def test_two_workers(name: str, measure, two_cpus: None, quick: bool, thorough: bool) -> None:
    if not (thorough or quick):
        pytest.skip("only with --thorough")
    images = MODELS[name] // (8 if quick else 1)
    data, flops = data_for(name, images), nn.build(name).flops(BATCH, training=True) * images / BATCH
    with contextlib.ExitStack() as stack:
        apart = IndependentProcesses(name, 2, *data)
        stack.callback(apart.close)
        candidates = {"1 worker": Epochs(name, "", 1, *data), "2 processes apart": apart}
        for rule in RULES:
            candidates[f"{rule}, 2 workers"] = run = Epochs(name, rule, 2, *data)
            stack.callback(run.engine.close)
        times, disturbed = measure.once(lambda: in_turns(candidates, 1 if quick else 5, 1.4, same_losses))
    one = times["1 worker"]
    for column, taken in times.items():
        workers = 1 if column == "1 worker" else 2
        rate = flops / taken.median / 1e9
        measure.add(
            experiment=EXPERIMENT, case=name, operation=f"epoch of {images} images", column=column, x=workers,
            **taken.as_record(), threads=1, images=images, images_per_s=images / taken.median,
            speedup=one.median / taken.median,
            median_of_speedups=float(np.median([a / b for a, b in zip(one.samples, taken.samples, strict=True)])),
            disturbed_rounds=disturbed, flops=flops, gflops=rate, share_of_peak=rate / measure.peak(workers).gflops,
        )  # fmt: skip
