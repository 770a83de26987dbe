"""How a flag is added: its help says its default, and shell completion learns which values it may have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .. import datasets, nn, optim
from ..backends import NAMES as BACKENDS
from ..cluster import CHOICES as CLUSTERS
from ..cluster import SHARD, WIRES
from ..command import Parser
from ..completion import suggest
from ..datasets.brightness import DATA
from ..loop import recipe, weights
from ..loop.progress import CHOICES
from ..parallel.choose import ON_FAILURE, UPDATES
from ..parallel.stages import SCHEDULES

# loop.recipe chooses batch size, learning rate, momentum, weight decay, warm-up and the rule's options.
DEFAULTS: dict[str, Any] = {
    "data": "faces",
    "model": "fer",
    "epochs": 5,
    "optimizer": recipe.OPTIMIZER,
    "schedule": recipe.SCHEDULE,
    "seed": 0,
    "workers": 1,
    "update": "sync",
    "backend": "auto",
    "on_worker_failure": "restart",
    "cluster": "auto",
    "shard": "read",
    "wire": "exact",
    "checkpoint_every": 60,
    "shift": 0,
}

# Flags of a step that is split into stages and micro-batches.
SPLIT = ("pipeline_stages", "micro_batches", "cut", "pipeline_schedule")

# Values that shell completion offers, beside those that argparse knows, by flag; and whether it offers files too.
SUGGESTED: dict[str, tuple[Iterable[str], bool]] = {
    "data": (datasets.NAMED, True),
    "model": (nn.MODELS, True),
    "optimizer": (optim.OPTIMIZERS, False),
    "schedule": (optim.SCHEDULES, False),
    "bits": ((DATA,), False),
    "class_weights": ((weights.BALANCED,), False),
    "backend": (BACKENDS, False),
    "gpus": ((), False),
    "workers": (("auto",), False),
    "update": (UPDATES, False),
    "on_worker_failure": (ON_FAILURE, False),
    "cluster": (CLUSTERS, False),
    "shard": (SHARD, False),
    "wire": (WIRES, False),
    "pipeline_schedule": (SCHEDULES, False),
    "progress": (CHOICES, False),
}


def group(made: Parser, title: str) -> Callable[..., None]:
    """A function that adds a flag to a new group of `made`: it takes the flag, its help and argparse's settings."""
    flags = made.add_argument_group(title)

    def add(flag: str, text: str, **options: Any) -> None:
        name = flag.lstrip("-").replace("-", "_")
        if name in DEFAULTS:
            text += f" (default: {DEFAULTS[name]})"
        action = flags.add_argument(flag, help=text.replace("%", "%%"), **options)
        if name in SUGGESTED:
            suggest(action, *SUGGESTED[name])

    return add
