"""The cost model against the clock: predicted and measured seconds of an epoch, for 1 and 2 workers of one thread."""

from __future__ import annotations

import numpy as np
import pytest

import pyconv
from pyconv import costmodel, nn, optim, threads

EXPERIMENT = "prediction"
MODELS = {"fer": 1280, "lenet": 25600, "5-50-100-10": 12800, "3-20-50-10": 38400}
ROUNDS = 3
BATCH = 64


@pytest.fixture(scope="module")
def machine(quick: bool) -> costmodel.Calibration:
    """The constants, those of messages between processes included."""
    return costmodel.calibrate("serial", seconds=0.01 if quick else 0.03)


@pytest.mark.parametrize("update", ["sync", "hogwild", "local"])
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("name", MODELS)
def test_epoch(name: str, workers: int, update: str, measure, machine, quick: bool) -> None:
    if workers > threads.usable_cpus():
        pytest.skip(f"needs {workers} CPUs that this process may use")
    if update != "sync" and (workers == 1 or quick):
        pytest.skip("one worker has nobody to meet" if workers == 1 else "left out by --quick")
    images = MODELS[name] // (4 if quick else 1)
    model = nn.build(name)
    rng = np.random.default_rng()
    x = rng.integers(0, 256, (images, *model.input_shape)).astype(np.uint8)
    labels = rng.integers(0, model.output_shape[0], images)
    how = {"images": images, "threads": 1, "backend": "serial", "calibration": machine}
    predicted, seconds, history = [], [], []

    def train() -> list[dict]:
        return pyconv.fit(
            model, x, labels, epochs=2, batch_size=BATCH, optimizer=optim.SGD(1e-4, momentum=0.9), workers=workers,
            update=update, threads_per_worker=1, backend="serial", progress="off",
        )  # fmt: skip

    def in_turns() -> None:
        for _ in range(ROUNDS):
            predicted.append(costmodel.predict(model, BATCH, workers, update, **how))
            history[:] = train()
            seconds.append(history[-1]["seconds"])  # the first epoch warms up

    measure.once(in_turns)
    least = min(seconds)  # of both the least counts: what else runs on the machine only ever adds
    measure.add(
        experiment=EXPERIMENT, case=name, operation=f"epoch of {images} images, {update}", column="pyconv", x=workers,
        median_s=least, q1_s=least, q3_s=float(np.median(seconds)), rounds=ROUNDS, threads=1,
        predicted_s=min(one.epoch_s for one in predicted),
        communication_s=history[-1]["communication_s"], predicted_communication_s=predicted[0].communication_s,
    )  # fmt: skip
