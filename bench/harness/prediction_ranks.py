"""What runs on each rank: constants between the ranks, then for each split a prediction, and epochs of training.

    python -m harness.prediction_ranks SETTINGS RESULT

SETTINGS is JSON: ``network``, ``batch``, ``steps`` and ``epochs`` of a training, ``turns`` of each case, ``seconds`` of
a measurement, ``cpus`` that all ranks share, and ``cases``, names of :func:`cases`. All ranks compute and send at once
while constants are measured, as they do in training. Trainings and measurements for predictions take turns, so that
both meet the machine at its fastest.
"""

from __future__ import annotations

import functools
import itertools
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import pyconv
from pyconv import cluster, costmodel, nn
from pyconv.cluster.session import Session

from .images import images_for

Case = tuple[int, dict[str, Any], dict[str, Any]]
"""Images of a step over those of a worker's, arguments of predict(), and arguments of fit()."""


def cases(ranks: int, micro_batches: int, cuts: dict[int, tuple[int, ...]]) -> dict[str, Case]:
    """All ways to train on so many ranks."""
    local = {"update": "local", "update_options": {"sync_every": 4}}
    found: dict[str, Case] = {
        "images": (ranks, {}, {}),
        "images, no overlap": (ranks, {"overlap": False}, {"overlap": False}),
        "images, local": (ranks, {"update": "local", "every": 4}, local),
        "rows": (1, {"split": "rows"}, {"split": "rows"}),
        "filters": (1, {"split": "filters"}, {"split": "filters"}),
    }
    for stages, cut in cuts.items():
        for schedule in ("1f1b", "gpipe"):
            name = f"{stages} stages, {schedule}"
            told = {"stages": stages, "micro_batches": micro_batches, "schedule": schedule, "cut": cut}
            trained = {
                "pipeline_stages": stages, "micro_batches": micro_batches, "pipeline_schedule": schedule,
                "cut": list(cut),
            }  # fmt: skip
            found[name] = (ranks // stages, {"split": "pipeline", **told}, trained)
    return found


def measured(ranks: Session, given: dict[str, Any]) -> dict[str, Any]:
    """The constants, and for each case predicted and measured seconds of an epoch."""
    batch, how = given["batch"], {"backend": "serial", "threads": 1, "cluster": True, "shared_cpus": given["cpus"]}
    build = lambda: nn.build(given["network"], seed=0)  # noqa: E731
    model = build()
    machine = costmodel.calibrate("serial", seconds=0.01, cluster=True, largest=given["largest"])
    pipelines = [stages for stages in (2, 4) if ranks.size % stages == 0]
    cuts = {
        stages: costmodel.cut(model, stages, batch // given["micro_batches"], backend="serial", calibration=machine)
        for stages in pipelines
    }
    made: dict[str, Any] = {}
    for name, (times, told, trained) in cases(ranks.size, given["micro_batches"], cuts).items():
        if given["cases"] and name not in given["cases"]:
            continue
        images = given["steps"] * batch * times
        predict = functools.partial(
            costmodel.predict, model, batch, images=images, calibration=machine, **told, **how
        )  # fmt: skip
        x, labels, _ = images_for(model, images)
        predictions, seconds, losses = [predict()], list[float](), list[float]()
        for _ in range(given["turns"]):
            history = pyconv.fit(
                build(), x, labels, epochs=given["epochs"], batch_size=batch, threads_per_worker=1, backend="serial",
                optimizer={"name": "sgd", "lr": 1e-3}, progress="off", checkpoint_every=1e9, cluster="mpi", **trained,
            )  # fmt: skip
            ends = [line["elapsed_s"] for line in history]  # with what ranks send each other at the end of an epoch
            seconds += [end - begin for begin, end in itertools.pairwise(ends)]  # the first epoch warms up
            losses += _losses(history)
            predictions.append(predict())
        best = min(predictions, key=lambda each: each.epoch_s)
        made[name] = {"images": images, "seconds": seconds, "predicted": asdict(best), "losses": losses}
    advice = costmodel.advise(model, batch, calibration=machine, seconds=given["seconds"], backend="serial", threads=1,
                              cluster=True, shared_cpus=given["cpus"])  # fmt: skip
    return {"cases": made, "advice": str(advice), "machine": machine._content(), "library": ranks.library}


def _losses(history: list[dict[str, Any]]) -> list[float]:
    losses = [line["train_loss"] for line in history]
    assert np.isfinite(losses).all(), "an epoch that did not train is not timed"
    return losses


def main(settings: str, target: str) -> None:
    """Measure, and write the result."""
    ranks = cluster.session("mpi")
    assert ranks is not None
    with ranks.together():
        found = measured(ranks, json.loads(settings))
    if ranks.leads:
        Path(target).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
