"""Time to accuracy under each update rule, beside one worker: Fashion-MNIST, the paper's network 5-50-100-10.

``SETTINGS`` are tuned for this network, with the rules as their papers have them; ``bench_rule_defaults.py`` measures
what pyconv chooses by itself. One run of each, from the same seed; only a rule that waits in every step gives the same
accuracy each time. ``--thorough`` takes all rules, trains longer, and with 4 workers too: seven minutes on two cores.
"""

from __future__ import annotations

from math import sqrt

import pytest
from harness.images import FASHION

import pyconv
from pyconv import datasets, nn, optim, threads
from pyconv.parallel import RULES

EXPERIMENT = "update_rules"
MODEL = "5-50-100-10"
TARGET = 0.9
#: The settings that are tuned for one worker. For any number of workers, their mini-batches together have this size.
BATCH, LR, MOMENTUM = 64, 0.02, 0.9
#: Rules that are measured without --thorough.
USUAL = ("sync", "hogwild", "local")
#: Factor of the learning rate with W workers, and options of the rule.
SETTINGS = {
    "sync": (lambda workers: 1.0, {}),
    "async": (lambda workers: 1 / sqrt(workers), {"shared_state": True}),
    "ssp": (lambda workers: 1 / sqrt(workers), {"staleness": 3, "shared_state": True}),
    "hogwild": (lambda workers: 1 / sqrt(workers), {"shared_state": True}),
    "local": (lambda workers: sqrt(workers), {"sync_every": 4}),
    "easgd": (lambda workers: sqrt(workers), {"sync_every": 4, "moving_rate": 0.0}),
}


@pytest.fixture(scope="module")
def fashion(quick: bool) -> datasets.Dataset:
    """The data, or a part of it."""
    if not FASHION.exists():
        pytest.skip(f"{FASHION} is not there; on Debian: apt install dataset-fashion-mnist")
    return datasets.load(str(FASHION), limit=4000 if quick else None)


def train(data: datasets.Dataset, update: str, workers: int, epochs: int) -> list[dict]:
    """The history of a run."""
    factor, options = SETTINGS[update]
    model = nn.build(MODEL, input_shape=data.image_shape, classes=len(data.classes), seed=0)
    return pyconv.fit(
        model, data.train.x, data.train.y, validation=data.validation, epochs=epochs, batch_size=BATCH // workers,
        optimizer=optim.SGD(LR * factor(workers), momentum=MOMENTUM, weight_decay=5e-4),
        schedule=optim.schedule("cosine", warmup=0.05), workers=workers, update=update, threads_per_worker=1,
        update_options=options if workers > 1 else {}, backend="serial", progress="off", normalize=True,
    )  # fmt: skip


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("update", RULES)
def test_rule(update: str, workers: int, measure, fashion: datasets.Dataset, quick: bool, thorough: bool) -> None:
    if workers == 1 and update != "sync":
        pytest.skip("one worker is plain SGD under every rule")
    if not thorough and (workers > 2 or update not in USUAL):
        pytest.skip("only with --thorough")
    epochs = 5 if thorough else 1 if quick else 3
    history = measure.once(lambda: train(fashion, update, workers, epochs))
    assert all(line["images"] == len(fashion.train.x) for line in history), "each image once an epoch"
    to_target = next((line["elapsed_s"] for line in history if line["val_accuracy"] >= TARGET), None)
    factor, options = SETTINGS[update]
    rate = history[-1]["images_per_s"] * nn.build(MODEL).flops(1, training=True) / 1e9
    measure.add(
        experiment=EXPERIMENT, case=f"Fashion-MNIST, {MODEL}, {workers} worker{'s' * (workers > 1)}",
        operation=f"{len(history)} epochs", column=update if workers > 1 else "one worker", x=workers, threads=1,
        median_s=history[-1]["elapsed_s"], accuracies=[line["val_accuracy"] for line in history],
        best_accuracy=max(line["val_accuracy"] for line in history), target_accuracy=TARGET, to_target_s=to_target,
        images_per_s=history[-1]["images_per_s"], options=options, momentum=MOMENTUM,
        lr=LR * factor(workers), batch_size=BATCH // workers,
        staleness_mean=history[-1]["staleness_mean"], staleness_max=history[-1]["staleness_max"],
        gflops=rate, share_of_peak=rate / measure.peak(min(workers, threads.usable_cpus())).gflops,
    )  # fmt: skip
