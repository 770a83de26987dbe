"""The arguments of `fit` to continue a run, from its folder and the flags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import datasets, nn, optim
from ..cluster import Session
from ..documents import parse_json
from ..errors import DataError, InputError
from ..loop import read_config, reading
from .ranks import data_on_rank, shard_for
from .source import absolute
from .stopping import stopping

# Flags that may differ when a run is continued: they change how long, how fast and how visibly it runs, not its
# results.
WITH_RESUME = {"resume", "data", "epochs", "lr", "backend", "threads_per_worker", "progress", "target_accuracy",
               "early_stopping", "stopping_metric", "checkpoint_every", "on_worker_failure", "trace",
               "tensorboard", "cluster", "shard", "split", "no_overlap",
               "pipeline_stages", "cut", "pipeline_schedule"}  # fmt: skip


def continued(given: dict[str, Any], ranks: Session | None) -> dict[str, Any]:
    """The arguments of fit() to continue the run in a folder, with the changes that the flags ask for."""
    fixed = sorted(set(given) - WITH_RESUME)
    if fixed:
        raise InputError(
            f"--{fixed[0].replace('_', '-')} cannot be changed when a run is continued; "
            "leave it out, or begin another run without --resume"
        )
    folder = Path(given["resume"])
    config = read_config(folder) if ranks is None else ranks.of_leader(lambda: read_config(folder))
    about, training = config["data"], config["training"]
    source = given["data"] if "data" in given else about.get("source")  # the data may have moved
    if source is None:
        raise InputError(
            f"{folder}: this run was begun from Python with arrays; continue it there, with "
            "pyconv.fit(..., out=..., resume=True)"
        )
    try:
        settings = {**config["optimizer"], **{name: given[name] for name in ("lr",) if name in given}}
        plan = {
            "optimizer": optim.by_name(**settings),
            "schedule": optim.schedule(**config["schedule"]),
            "augment": config.get("augment") or None,
            "update_options": config.get("update_options", {}),
            "description": {"data": {**about, "source": absolute(source)}, "model": config["model"]},
            "out": folder,
            "resume": True,
            **{name: training.get(name) for name in ("threads_per_worker", "target_accuracy")},
            **{name: training[name] for name in ("epochs", "batch_size", "seed", "workers", "update", "backend",
                                                 "on_worker_failure", "checkpoint_every")},
            "clip_norm": training.get("clip_norm"),
            "freeze": training.get("freeze"),
            "tensorboard": training.get("tensorboard", False),
            "class_weight": training.get("class_weights"),
            "label_smoothing": training.get("label_smoothing", 0.0),
            "overlap": not given.get("no_overlap"),
            "wire": training.get("wire", "exact"),
        }  # fmt: skip
        apart = {"resume", "data", "lr", "progress", "early_stopping", "stopping_metric", "shard", "no_overlap"}
        plan.update({name: given[name] for name in WITH_RESUME - apart if name in given})
        plan["early_stopping"] = stopping(given, training.get("early_stopping"))
        model = nn.from_config(parse_json(config["model"]["config"]))
        model.classes = config["model"].get("classes")
    except ValueError as error:  # an InputError is one
        raise DataError(
            f"{folder / 'config.toml'}: the settings are not those of a run ({error}); put the file back as it was"
        ) from None
    how = given.get("shard", shard_for(given.get("split", training.get("split"))))
    data = data_on_rank(ranks, how, lambda: datasets.load(source, **reading(about)))
    return {"data": data, "model": model, **plan}
