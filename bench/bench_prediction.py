"""The cost model beside the clock: predicted and measured seconds of an epoch, for 1 and 2 workers of one thread each.

Predictions and short epochs of real workers take turns. The smallest value of each counts, because other programs can
only add time; a short epoch is more likely to be undisturbed.
"""

from __future__ import annotations

import numpy as np
import pytest

import pyconv
from pyconv import costmodel, nn, optim, threads

EXPERIMENT = "prediction"
MODELS = {"fer": 640, "lenet": 6400, "5-50-100-10": 6400, "3-20-50-10": 9600}
ROUNDS, EPOCHS = 2, 5
BATCH = 64


def test_constants(measure, process_calibration) -> None:
    machine = process_calibration
    fits = {f"t_c {backend} {name}": fit for backend, by in machine.t_c.items() for name, fit in by.items()}
    fits |= {name: getattr(machine, name) for name in ("t_s", "t_b", "t_u", "t_n", "t_copy")}
    measure.once(lambda: None)
    for name, fit in fits.items():
        measure.add(
            experiment="constants", case=name, operation="calibration", column="pyconv", value=fit.value, low=fit.low,
            high=fit.high, unit=fit.unit, points=fit.points,
        )  # fmt: skip
    measure.add(
        experiment="constants", case="slowdown in company", operation="calibration", column="pyconv", unit="times",
        value=machine.slowdown, points=1,
    )  # fmt: skip


@pytest.mark.parametrize("update", ["sync", "hogwild", "local"])
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("name", MODELS)
def test_epoch(name: str, workers: int, update: str, measure, process_calibration, quick: bool) -> None:
    if workers > threads.usable_cpus():
        pytest.skip(f"needs {workers} CPUs that this process may use")
    if update != "sync" and (workers == 1 or quick):
        pytest.skip("one worker has nobody to meet" if workers == 1 else "left out by --quick")
    if update != "sync" and name != "fer":
        pytest.skip("the other rules are held against the clock on one network")
    if quick and name not in ("fer", "lenet"):
        pytest.skip("left out by --quick")
    images, epochs = MODELS[name], 3 if quick else EPOCHS
    model = nn.build(name)
    rng = np.random.default_rng()
    x = rng.integers(0, 256, (images, *model.input_shape)).astype(np.uint8)
    labels = rng.integers(0, model.output_shape[0], images)
    how = {"images": images, "threads": 1, "backend": "serial", "calibration": process_calibration}
    predicted, lines = [], []
    rarely = {"update_options": {"sync_every": 0}} if update == "local" else {}  # once an epoch, as in Algorithm 4
    if rarely:
        how["every"] = images / (workers * BATCH)

    def train() -> list[dict]:
        return pyconv.fit(
            model, x, labels, epochs=epochs, batch_size=BATCH, optimizer=optim.SGD(1e-4, momentum=0.9), workers=workers,
            update=update, threads_per_worker=1, backend="serial", progress="off", **rarely,
        )  # fmt: skip

    def in_turns() -> None:
        for _ in range(1 if quick else ROUNDS):
            predicted.append(costmodel.predict(model, BATCH, workers, update, **how))
            lines.extend(train()[1:])  # the first epoch warms up

    measure.once(in_turns)
    for line in lines:  # an epoch that left something out would have no speed
        assert line["images"] == images and np.isfinite(line["train_loss"]) and line["workers"] == workers
    best = min(predicted, key=lambda one: one.epoch_s)
    fastest = min(lines, key=lambda line: line["seconds"])
    seconds = [line["seconds"] for line in lines]
    flops = model.flops(BATCH, training=True) * images / BATCH
    rate = flops / fastest["seconds"] / 1e9
    low, middle, high = (float(value) for value in np.percentile(seconds, [25, 50, 75]))
    measure.add(
        experiment=EXPERIMENT, case=name, operation=f"epoch of {images} images, {update}", column="pyconv", x=workers,
        median_s=middle, q1_s=low, q3_s=high, least_s=fastest["seconds"], rounds=len(seconds), threads=1,
        predicted_s=best.epoch_s, communication_s=fastest["communication_s"],
        predicted_communication_s=best.communication_s, flops=flops, gflops=rate,
        share_of_peak=rate / measure.peak(workers).gflops,
    )  # fmt: skip
