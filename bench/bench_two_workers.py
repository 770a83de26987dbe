"""Two workers beside one worker, and beside the most that this machine can give: two processes that train separately.

The gain of two threads that multiply and add in registers only is measured too: a smaller gain of two processes is due
to memory, which they share. Epochs are longer than in Fig. 4, so that the last mini-batch of the faster worker matters
less. It takes five minutes on two idle cores; only with ``--thorough`` or ``--quick``.
"""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from harness.epochs import BATCH, Epochs, data_for, same_losses
from harness.independent import IndependentProcesses
from harness.peak import in_registers
from harness.turns import in_turns

from pyconv import nn

EXPERIMENT = "two_workers"
MODELS = {"fer": 4096, "5-50-100-10": 24576}
RULES = ("sync", "hogwild", "local")
REGISTERS = {"multiply-adds, 1 thread": 1, "multiply-adds, 2 threads": 2}
REGISTER_FLOPS = 100_000_000_000


@pytest.mark.parametrize("name", MODELS)
def test_two_workers(name: str, measure, two_cpus: None, quick: bool, thorough: bool) -> None:
    if not (thorough or quick):
        pytest.skip("only with --thorough")
    images = MODELS[name] // (8 if quick else 1)
    data, epoch_flops = data_for(name, images), nn.build(name).flops(BATCH, training=True) * images / BATCH
    with contextlib.ExitStack() as stack:
        apart = IndependentProcesses(name, 2, *data)
        stack.callback(apart.close)
        training = {"1 worker": Epochs(name, "", 1, *data), "2 processes apart": apart}
        for rule in RULES:
            training[f"{rule}, 2 workers"] = run = Epochs(name, rule, 2, *data)
            stack.callback(run.engine.close)
        registers = {column: in_registers(REGISTER_FLOPS, threads) for column, threads in REGISTERS.items()}
        times, disturbed = measure.once(
            lambda: in_turns(
                {**training, **registers},
                1 if quick else 5,
                1.4,
                lambda found: same_losses({column: found[column] for column in training}),
            )
        )
    for column, taken in times.items():
        in_memory = column in training
        alone = times[next(iter(training if in_memory else registers))]
        workers = 1 if taken is alone else 2
        flops = epoch_flops if in_memory else REGISTER_FLOPS
        rate = flops / taken.median / 1e9
        measure.add(
            experiment=EXPERIMENT, case=name, column=column, x=workers, **taken.as_record(), threads=1,
            operation=f"epoch of {images} images" if in_memory else f"{flops // 10**9} GFLOP in registers",
            images=images if in_memory else None, images_per_s=images / taken.median if in_memory else None,
            speedup=alone.median / taken.median,
            median_of_speedups=float(np.median([a / b for a, b in zip(alone.samples, taken.samples, strict=True)])),
            disturbed_rounds=disturbed, flops=flops, gflops=rate, share_of_peak=rate / measure.peak(workers).gflops,
        )  # fmt: skip
