"""``--find-lr``: looks for a learning rate instead of training."""

from __future__ import annotations

from typing import Any

from .. import datasets, nn
from ..errors import InputError
from ..loop import find_lr, rates_in_words
from ..loop.progress import Progress
from ..values import path as as_path
from .group import SPLIT
from .new_run import new

#: Flags that a search for a learning rate refuses: the search chooses their values, or writes no run.
NOT_WITH_FIND_LR = ("resume", "out", "lr", "schedule", "warmup", "epochs", "target_accuracy", "early_stopping",
                    "stopping_metric", "checkpoint_every", "on_worker_failure", "trace", "tensorboard",
                    *SPLIT)  # fmt: skip
#: Arguments of `fit` that the search takes too.
FOR_FIND_LR = ("batch_size", "optimizer", "augment", "seed", "workers", "update", "update_options",
               "threads_per_worker", "backend", "class_weight", "label_smoothing", "clip_norm")  # fmt: skip


def search(given: dict[str, Any], show: Progress) -> list[str]:
    """Look for a learning rate, and write a picture only; returns the lines that the command prints."""
    for name in NOT_WITH_FIND_LR:
        if name in given:
            raise InputError(
                f"--find-lr trains for a moment only and leaves no run: leave out --{name.replace('_', '-')}"
            )
    picture = given.pop("find_lr")
    as_path(picture, "--find-lr")
    plan = new(given, None)
    if plan["workers"] == "auto":
        raise InputError("--find-lr needs a number of workers, on which the learning rate depends: --workers 2, say")
    data: datasets.Dataset = plan["data"]
    settings = {name: plan[name] for name in FOR_FIND_LR}
    model: nn.Sequential = plan["model"]
    if plan["freeze"] is not None:
        model.frozen = plan["freeze"]
    found = find_lr(model, *data.train, normalize=plan["normalize"], progress=show, picture=picture, **settings)
    advice = f"; train with: --lr {found.suggestion:g}" if found.suggestion is not None else ""
    rates = [rates_in_words(found)] if given.get("progress") == "off" else []
    return [*rates, f"picture {picture}{advice}"]
