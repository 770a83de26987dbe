"""The cost model against the clock: predicted and measured seconds of an epoch, for 1 and 2 workers of one thread."""

from __future__ import annotations

import numpy as np
import pytest

import pyconv
from pyconv import costmodel, nn, optim, threads

EXPERIMENT = "prediction"
MODELS = {"fer": 1024, "lenet": 12800, "5-50-100-10": 6400, "3-20-50-10": 25600}
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
    predicted = [costmodel.predict(model, BATCH, workers, update, **how)]

    def train() -> list[dict]:
        return pyconv.fit(
            model, x, labels, epochs=4, batch_size=BATCH, optimizer=optim.SGD(1e-4, momentum=0.9), workers=workers,
            update=update, threads_per_worker=1, backend="serial", progress="off",
        )  # fmt: skip

    history = measure.once(train)
    predicted.append(costmodel.predict(model, BATCH, workers, update, **how))
    seconds = sorted(line["seconds"] for line in history[1:])  # the first epoch warms up
    measure.add(
        experiment=EXPERIMENT, case=name, operation=f"epoch of {images} images, {update}", column="pyconv", x=workers,
        median_s=seconds[1], q1_s=seconds[0], q3_s=seconds[2], rounds=len(seconds), threads=1,
        predicted_s=float(np.mean([one.epoch_s for one in predicted])),
        communication_s=history[-1]["communication_s"], predicted_communication_s=predicted[0].communication_s,
    )  # fmt: skip
