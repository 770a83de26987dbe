"""The arguments of `fit` for a new run, or for one that ``--resume auto`` begins or continues, from the flags."""

from __future__ import annotations

from typing import Any

from .. import datasets
from ..cluster import Session
from ..datasets.augmentations import AUGMENTATIONS
from ..errors import InputError
from ..loop import READING, check_free, default_folder, folder_named, recipe
from ..parallel import OPTIONS
from .group import DEFAULTS, SPLIT
from .model import network
from .ranks import data_on_rank, shard_for
from .source import absolute
from .stopping import stopping

#: The value of ``--resume`` with which a command may be started again and again.
AUTO = "auto"


def new(given: dict[str, Any], ranks: Session | None) -> dict[str, Any]:
    """The arguments of fit() for a new run, from the flags."""
    resume = given.get("resume") == AUTO
    if resume and "out" not in given:
        raise InputError("--resume auto continues the run in --out, or begins it there: give --out a folder")
    asked = {**DEFAULTS, **given}
    optimizer = {"name": asked["optimizer"], **_those(given, "lr", "momentum", "weight_decay")}
    schedule = {"name": asked["schedule"], **_those(given, "warmup")}
    recipe.Asked.of(asked.get("batch_size"), optimizer, schedule)  # checks them before the data is read
    options = _those(given, *OPTIONS)
    out = folder_named(given["out"]) if "out" in given else default_folder()
    if not resume and (ranks is None or ranks.leads):
        check_free(out)
    kept = _those(given, *READING)
    limit, seed = asked.get("limit"), asked["seed"]
    how = given.get("shard", shard_for(asked.get("split")))
    data = data_on_rank(ranks, how, lambda: datasets.load(asked["data"], limit=limit, seed=seed, **kept))
    model, ready = network(asked["model"], data, asked["seed"], bool(asked.get("new_head")))
    model.classes = list(data.classes)
    return {
        "data": data,
        "model": model,
        "epochs": asked["epochs"],
        "batch_size": asked.get("batch_size"),
        "optimizer": optimizer,
        "schedule": schedule,
        "augment": _augmentation(given),
        "seed": asked["seed"],
        "workers": asked["workers"],
        "update": asked["update"],
        "update_options": options,
        "threads_per_worker": asked.get("threads_per_worker"),
        "backend": asked["backend"],
        "on_worker_failure": asked["on_worker_failure"],
        "cluster": asked["cluster"],
        "split": asked.get("split"),
        "overlap": not asked.get("no_overlap"),
        "wire": asked["wire"],
        **{name: asked.get(name) for name in SPLIT},
        "trace": asked.get("trace"),
        "target_accuracy": asked.get("target_accuracy"),
        "checkpoint_every": asked["checkpoint_every"],
        "class_weight": asked.get("class_weights"),
        "label_smoothing": asked.get("label_smoothing") or 0.0,
        "clip_norm": asked.get("clip_norm"),
        "freeze": asked.get("freeze"),
        "normalize": "auto" if ready else True,
        "early_stopping": stopping(given, None),
        "tensorboard": bool(asked.get("tensorboard")),
        "out": out,
        "resume": resume,
        "description": {
            "data": {
                "source": absolute(asked["data"]),
                "name": data.name,
                "limit": asked.get("limit"),
                "seed": asked["seed"],
                **kept,
                **({"notes": list(data.notes)} if data.notes else {}),
                **({"brightness": list(data.brightness)} if data.brightness else {}),
            },
            "model": {"name": asked["model"], "classes": list(data.classes)},
        },
    }


def _those(given: dict[str, Any], *names: str) -> dict[str, Any]:
    """Those of the flags that were given, by name."""
    return {name: given[name] for name in names if name in given}


def _augmentation(given: dict[str, Any]) -> dict[str, Any] | None:
    """The settings of the augmentation flags, or None if there are none."""
    flip, shift = bool(given.get("flip")), given.get("shift", 0)
    others = {name: each.check(given[name]) for name, each in AUGMENTATIONS.items() if name in given}
    return {"flip": flip, "shift": shift, **others} if flip or shift or others else None
