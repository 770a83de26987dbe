"""Time to accuracy under each update rule, beside one worker: Fashion-MNIST, the paper's network 5-50-100-10.

``SETTINGS`` are the learning rates that docs/explanation/parameter-server.md recommends. One run of each, from the same
seed; only a rule that waits in every step gives the same accuracy each time.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import pyconv
from pyconv import datasets, nn, optim, threads
from pyconv.parallel import RULES

EXPERIMENT = "update_rules"
DATA = Path("/usr/share/datasets/fashion-mnist")
MODEL, BATCH, EPOCHS = "5-50-100-10", 64, 4
TARGET = 0.9
#: Learning rate with W workers, momentum, options of the rule.
SETTINGS = {
    "sync": (lambda workers: 0.02 * workers, 0.9, {}),
    "async": (lambda workers: 0.02, 0.9, {}),
    "ssp": (lambda workers: 0.02, 0.9, {"staleness": 3}),
    "hogwild": (lambda workers: 0.04, 0.8, {}),
    "local": (lambda workers: 0.02 * workers, 0.9, {"sync_every": 10}),
    "easgd": (lambda workers: 0.02 * workers, 0.9, {"sync_every": 4}),
}


@pytest.fixture(scope="module")
def fashion(quick: bool) -> datasets.Dataset:
    """The data, or a part of it."""
    if not DATA.exists():
        pytest.skip(f"{DATA} is not there; on Debian: apt install dataset-fashion-mnist")
    return datasets.load(str(DATA), limit=4000 if quick else None)


def train(data: datasets.Dataset, update: str, workers: int, epochs: int) -> list[dict]:
    """The history of a run."""
    rate, momentum, options = SETTINGS[update]
    alone = workers == 1
    model = nn.build(MODEL, input_shape=data.image_shape, classes=len(data.classes), seed=0)
    return pyconv.fit(
        model, data.train.x, data.train.y, validation=data.validation, epochs=epochs, batch_size=BATCH,
        optimizer=optim.SGD(0.02 if alone else rate(workers), momentum=0.9 if alone else momentum, weight_decay=5e-4),
        schedule=optim.schedule("cosine", warmup=0.05), workers=workers, update=update, threads_per_worker=1,
        update_options={} if alone else options, backend="serial", progress="off", normalize=True,
    )  # fmt: skip


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("update", RULES)
def test_rule(update: str, workers: int, measure, fashion: datasets.Dataset, quick: bool) -> None:
    if workers == 1 and update != "sync":
        pytest.skip("one worker is plain SGD under every rule")
    if workers > max(2, threads.usable_cpus()):
        pytest.skip(f"{workers} workers on {threads.usable_cpus()} CPUs take as long as fewer, for the same accuracy")
    history = measure.once(lambda: train(fashion, update, workers, 1 if quick else EPOCHS))
    assert all(line["images"] == len(fashion.train.x) for line in history), "each image once an epoch"
    to_target = next((line["elapsed_s"] for line in history if line["val_accuracy"] >= TARGET), None)
    _, momentum, options = SETTINGS[update]
    rate = history[-1]["images_per_s"] * nn.build(MODEL).flops(1, training=True) / 1e9
    measure.add(
        experiment=EXPERIMENT, case=f"Fashion-MNIST, {MODEL}, {workers} worker{'s' * (workers > 1)}",
        operation=f"{len(history)} epochs", column=update if workers > 1 else "one worker", x=workers, threads=1,
        median_s=history[-1]["elapsed_s"], accuracies=[line["val_accuracy"] for line in history],
        best_accuracy=max(line["val_accuracy"] for line in history), target_accuracy=TARGET, to_target_s=to_target,
        images_per_s=history[-1]["images_per_s"], lr=history[0]["lr"], options=options, momentum=momentum,
        staleness_mean=history[-1]["staleness_mean"], staleness_max=history[-1]["staleness_max"],
        gflops=rate, share_of_peak=rate / measure.peak(min(workers, threads.usable_cpus())).gflops,
    )  # fmt: skip
