"""Accuracy with the defaults: every update rule with 1, 2, 4 and 16 workers, beside one worker.

Nothing but rule, workers and seed is given to :func:`pyconv.fit`. Two data sets and networks: synthetic faces with
`fer`, and Fashion-MNIST with the paper's 5-50-100-10; the command's five epochs. Accuracy does not depend on how fast
the machine is; under rules whose workers do not wait it depends on the order in which they come. One seed;
``--thorough`` takes three: 114 runs, four hours on two cores, so each cell is added to the file by itself: ``pytest
--benchmark-only --thorough "bench/bench_rule_defaults.py::test_defaults[1-faces-sync-4]"`` for one of them.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest
from harness import machine
from harness.images import FASHION

import pyconv
from pyconv import datasets, nn
from pyconv.loop import recipe
from pyconv.parallel import RULES

EXPERIMENT = "rule_defaults"
NETWORKS = {"faces": "fer", "Fashion-MNIST": "5-50-100-10"}
WORKERS = (1, 2, 4, 16)
SEEDS = (0, 1, 2)
EPOCHS, QUICK_EPOCHS = 5, 2


@functools.cache
def load(name: str, limit: int | None) -> datasets.Dataset:
    """The data, or part of them."""
    if name != "faces" and not FASHION.exists():
        pytest.skip(f"{FASHION} is not there; on Debian: apt install dataset-fashion-mnist")
    return datasets.load("faces" if name == "faces" else str(FASHION), limit=limit, seed=0)


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("update", RULES)
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("seed", SEEDS)
def test_defaults(name: str, update: str, workers: int, seed: int, measure, quick: bool, thorough: bool) -> None:
    if workers == 1 and update != "sync":
        pytest.skip("one worker is plain SGD under every rule")
    if seed and not thorough:
        pytest.skip("only with --thorough")
    data, epochs = load(name, 2000 if quick else None), QUICK_EPOCHS if quick else EPOCHS
    model = nn.build(NETWORKS[name], input_shape=data.image_shape, classes=len(data.classes), seed=seed)

    def train() -> list[dict]:
        return pyconv.fit(
            model, *data.train, validation=data.validation, epochs=epochs, workers=workers, update=update, seed=seed,
            progress="off", normalize=True,
        )  # fmt: skip

    history = measure.once(train)
    assert all(line["images"] == len(data.train.x) for line in history), "each image once an epoch"
    last = history[-1]
    chosen = recipe.choose(recipe.Asked.of(None, None, None, update), workers, len(data.train.x))
    options = recipe.set_options(chosen.rule) if workers > 1 else {}
    measure.add(
        experiment=EXPERIMENT, case=f"{name}, {NETWORKS[name]}", operation=f"{epochs} epochs, seed {seed}",
        column=update if workers > 1 else "one worker", x=workers, seed=seed, epochs=epochs,
        accuracies=[line["val_accuracy"] for line in history], accuracy=last["val_accuracy"],
        train_loss=float(np.round(last["train_loss"], 4)), batch_size=chosen.batch_size,
        optimizer=chosen.optimizer.config(), options=options, staleness_mean=last["staleness_mean"],
        staleness_max=last["staleness_max"], median_s=last["elapsed_s"], processor=machine.processor(),
    )  # fmt: skip
