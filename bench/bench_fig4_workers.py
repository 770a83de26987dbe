"""The paper's Fig. 4: time against the number of workers; and what workers cost besides computing gradients.

Workers have one thread each. The candidates take turns on the same images in one run. Rounds that other programs
disturb are repeated; the record says how many of the counted ones were disturbed after all. Beside each point is the
cost model's prediction, from the time of the gradient on one worker, and the simulation's. Run it on two idle cores.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from pathlib import Path

import numpy as np
import pytest
from harness import torch_peer, training
from harness.epochs import BATCH, Epochs, data_for, same_losses
from harness.images import images_for
from harness.torch_workers import TorchWorkers
from harness.turns import in_turns
from harness.verify import relative_error

from pyconv import costmodel, nn, optim, threads
from pyconv.errors import BackendUnavailable
from pyconv.parallel import Job, engine_for

EXPERIMENT, BESIDE = "fig4", "parallel"  # the figure; and what is measured beside it
#: Images of an epoch: enough for seconds of work, and whole steps of 16 workers.
MODELS = {"fer": 2048, "5-50-100-10": 8192}
PEER_IMAGES = {"fer": 512, "5-50-100-10": 8192}  # the same compared with PyTorch
#: Rules and numbers of workers, as in the paper's figure; without a rule it is one process.
RUNS = [("", 1), ("sync", 2), ("hogwild", 2), ("local", 2), ("sync", 4), ("sync", 8), ("sync", 16), ("local", 16)]
QUICK_RUNS = RUNS[:5]


def column(update: str, workers: int) -> str:
    """A run's name."""
    return f"{update}, {workers} workers" if update else "1 worker"


def alone(name: str, seconds: float) -> costmodel.Measured:
    """Steps of the network on one thread, with no other worker."""
    return costmodel.measure(nn.build(name), BATCH, backend="serial", threads=1, seconds=seconds)


def simulated(
    images: int, workers: int, update: str, predicted: costmodel.Prediction, steps: costmodel.Measured, size: int
) -> float | None:
    """Seconds of an epoch in the simulation, whose workers share a node's memory; None without SimPy."""
    slower = predicted.gradient_s / steps.gradient_s  # in company, and where workers take turns
    machine = costmodel.Cluster(
        predicted.gradient_s, size, slower * steps.update_s, workers_per_node=workers, spread=steps.spread,
        shuffle_s=predicted.shuffle_s,
    )  # fmt: skip
    every = math.ceil(images / BATCH)
    try:
        made = costmodel.simulate(machine, workers, update, steps=math.ceil(every / workers), epoch=every)
    except BackendUnavailable:
        return None
    return images / BATCH / made.steps_per_s


@pytest.mark.parametrize("name", MODELS)
def test_epoch(name: str, measure, process_calibration, two_cpus: None, quick: bool) -> None:
    images, runs, seconds = MODELS[name], RUNS, 1.0
    if quick:
        images, runs, seconds = images // 4, QUICK_RUNS, 0.3
    data, before = data_for(name, images), alone(name, seconds)
    with contextlib.ExitStack() as stack:
        candidates = {column(*run): Epochs(name, *run, *data) for run in runs}
        for run in candidates.values():
            stack.callback(run.engine.close)
        times, disturbed = measure.once(lambda: in_turns(candidates, *((1, 1) if quick else (4, 1.25)), same_losses))
        spent = {key: run.engine.statistics() for key, run in candidates.items()}
    # Other programs can only add time, so the smaller time is the better one.
    steps = min(before, alone(name, seconds), key=lambda found: found.gradient_s)
    one_s, model = times["1 worker"].median, nn.build(name)
    flops = model.flops(BATCH, training=True) * images / BATCH
    known = {"gradient_s": steps.gradient_s, "update_s": steps.update_s, "spread": steps.spread}
    how = {"images": images, "threads": 1, "backend": "serial", "calibration": process_calibration, **known}
    rules = list(dict.fromkeys(update for update, _ in runs if update))
    # One worker is plain SGD under every rule, so each curve begins with it.
    for update, workers in [*((rule, 1) for rule in rules), *runs[1:]]:
        key = column(update, workers) if workers > 1 else "1 worker"
        ratios = [one / many for one, many in zip(times["1 worker"].samples, times[key].samples, strict=True)]
        every = images / (workers * BATCH) if update == "local" else None  # once an epoch, as it is measured
        predicted = costmodel.predict(model, BATCH, workers, update, every=every, **how)
        played = simulated(images, workers, update, predicted, steps, model.flat.nbytes)
        rate = flops / times[key].median / 1e9
        measure.add(
            experiment=EXPERIMENT, case=name, operation=f"epoch of {images} images", column=f"{name} {update}",
            x=workers, **times[key].as_record(), threads=1, images=images, images_per_s=images / times[key].median,
            speedup=one_s / times[key].median, median_of_speedups=float(np.median(ratios)), disturbed_rounds=disturbed,
            compute_s=spent[key]["compute_s"], communication_s=spent[key]["communication_s"],
            predicted_s=predicted.epoch_s, simulated_s=played, flops=flops, gflops=rate,
            share_of_peak=rate / measure.peak(min(workers, threads.usable_cpus())).gflops,
        )  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_peers(name: str, measure, two_cpus: None, quick: bool) -> None:
    """Two processes of one thread each, beside PyTorch's DistributedDataParallel and Hogwild in the better memory
    layout.

    The data are images and the parameters have been trained for a while, because both decide how many zeros pyconv
    skips.
    """
    torch_peer.import_torch()
    if quick and name == "fer":
        pytest.skip("left out by --quick")
    images, model = PEER_IMAGES[name] // (4 if quick else 1), nn.build(name, seed=0)
    model.backend = "serial"
    x, labels, whose = images_for(model, images)
    trained = 10 if quick else training.TRAINED[name]
    training.trained(model, training.batches_of(x, labels, BATCH), trained)
    data, flops = (x, labels, model.flat), model.flops(BATCH, training=True) * images / BATCH
    with contextlib.ExitStack() as stack:
        candidates = {}
        for update in ("sync", "hogwild"):
            candidates[column(update, 2)] = run = Epochs(name, update, 2, *data)
            stack.callback(run.engine.close)
        for how in ("ddp",) if quick else ("ddp", "hogwild"):
            for layout in torch_peer.LAYOUTS[-1:] if quick else torch_peer.LAYOUTS:
                candidates[f"torch {how} {layout}"] = peer = TorchWorkers(how, name, layout, 2, BATCH, *data)
                stack.callback(peer.close)
        times, disturbed = measure.once(lambda: in_turns(candidates, 2 if quick else 3, 1.4, same_losses))
    for key, taken in times.items():
        rate = flops / taken.median / 1e9
        measure.add(
            experiment=BESIDE, case=name, operation=f"{images} images, 2 processes", column=key, x=2,
            data=f"{whose}, after {trained} steps",
            **taken.as_record(), threads=1, images=images, images_per_s=images / taken.median,
            disturbed_rounds=disturbed, flops=flops, gflops=rate, share_of_peak=rate / measure.peak(2).gflops,
        )  # fmt: skip


def test_update_of_4_megabytes(measure, two_cpus: None, tmp_path: Path, quick: bool) -> None:
    """The time from when the first of 4 workers begins to average until the last has updated its share."""
    model, alone = (
        nn.Sequential([nn.Flatten(), nn.Dense(1024), nn.Dense(10)], input_shape=(32, 32, 1), seed=0) for _ in range(2)
    )
    rng = np.random.default_rng()
    x, labels = rng.standard_normal((800, 32, 32, 1), dtype=np.float32), rng.integers(0, 10, 800)
    trace = tmp_path / "trace.json"
    epochs, how = 1 if quick else 4, {"threads_per_worker": 1, "backend": "serial"}

    def train(model: nn.Sequential, workers: int, trace: str | None) -> None:
        job = Job(optim.SGD(1e-3, momentum=0.9), 8 // workers, 10, workers=workers, trace=trace, **how)
        engine = engine_for(model, x, labels, job)
        for epoch in range(epochs):
            list(engine.epoch(epoch))
        engine.close()

    before = model.flat.copy()
    train(alone, 1, None)
    measure.once(lambda: train(model, 4, str(trace)))
    # One process that takes all workers' images in each step makes the same steps, except for rounding.
    error = relative_error(model.flat - before, alone.flat - before, 1e-3)
    spans: dict[int, list[float]] = {}
    for event in json.loads(trace.read_text()):
        if event["name"] == "update":
            first, last = event["ts"], event["ts"] + event["dur"]
            span = spans.setdefault(event["args"]["mini-batch"], [first, last])
            span[:] = min(span[0], first), max(span[1], last)
    seconds = [(last - first) / 1e6 for first, last in spans.values()]
    low, middle, high = np.percentile(seconds, [25, 50, 75]).tolist()
    # For each parameter, four gradients are added and divided, and velocity and parameter are multiplied and added to.
    flops = 8 * model.flat.size
    rate = flops / middle / 1e9
    measure.add(
        experiment=BESIDE, case=f"{model.flat.nbytes / 2**20:.1f} MB of parameters", operation="reduce and update",
        column="sync, 4 workers", x=4, median_s=middle, q1_s=low, q3_s=high, rounds=len(seconds), threads=1,
        relative_error=error, flops=flops, gflops=rate,
        share_of_peak=rate / measure.peak(min(4, threads.usable_cpus())).gflops,
    )  # fmt: skip


def test_start_of_16_workers(measure, two_cpus: None, quick: bool) -> None:
    """The time from the call until the report of the first step."""
    seconds, data = [], data_for("5-50-100-10", 16 * BATCH)

    def start() -> None:
        for _ in range(1 if quick else 3):
            began = time.perf_counter()
            run = Epochs("5-50-100-10", "sync", 16, *data)
            assert next(iter(run.engine.epoch(0))).images == 16 * BATCH, "the step was every worker's"
            seconds.append(time.perf_counter() - began)
            run.engine.close()

    measure.once(start)
    low, middle, high = np.percentile(seconds, [25, 50, 75]).tolist()
    measure.add(
        experiment=BESIDE, case="5-50-100-10", operation="start to the first step", column="sync, 16 workers", x=16,
        median_s=middle, q1_s=low, q3_s=high, rounds=len(seconds), threads=1,
    )  # fmt: skip
