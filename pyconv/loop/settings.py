"""Checks the settings in ``config.toml``: their names, and the kind of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..records import Kind, check, count, flag, measure, measures, share, size, table, text, texts

_SECTIONS: dict[str, Kind] = dict.fromkeys(
    ("data", "model", "training", "optimizer", "schedule", "augment", "update_options"), table
)

_KINDS: dict[str, dict[str, Kind]] = {
    "data": {
        "dtype": text,
        "fingerprint": text,
        "source": text,
        "name": text,
        "limit": count,
        "seed": count,
        "brightness": measures,
    },
    "model": {"parameters": count, "config": text, "name": text, "classes": texts},
    "training": {
        "epochs": count,
        "batch_size": count,
        "seed": count,
        "backend": text,
        "threads_per_worker": count,
        "workers": count,
        "ranks": count,
        "split": text,
        "update": text,
        "on_worker_failure": text,
        "target_accuracy": share,
        "checkpoint_every": measure,
        "clip_norm": measure,
        "wire": text,
        "micro_batches": size,
        "pipeline_stages": size,
        "pipeline_schedule": text,
        "cut": measures,
        "class_weights": measures,
        "early_stopping": table,
        "label_smoothing": share,
        "tensorboard": flag,
    },
    "optimizer": {"name": text},
    "schedule": {"name": text},
}

_NEEDED = {
    "data": (),
    "model": ("config",),
    "training": (
        "epochs",
        "batch_size",
        "seed",
        "backend",
        "workers",
        "update",
        "on_worker_failure",
        "checkpoint_every",
    ),
    "optimizer": ("name",),
    "schedule": ("name",),
}

# Options with which a command reads the data; a run keeps them to read the data in the same way again.
READING = ("size", "first_label", "bits")


def reading(about: Mapping[str, Any]) -> dict[str, Any]:
    """The options of :func:`pyconv.datasets.load`, from the section "data" of a run's ``config.toml``."""
    kept = {name: about[name] for name in READING if name in about}
    return {"limit": about.get("limit"), "seed": about.get("seed", 0), **kept}


def check_settings(config: Mapping[str, Any], where: str) -> None:
    """Check the content of a run's ``config.toml``.

    Raises
    ------
    DataError
        If a setting is missing or of another kind; the message names it, after `where`.
    """
    check(config, where, _SECTIONS, needed=_NEEDED)
    for section, kinds in _KINDS.items():
        check(config[section], where, kinds, needed=_NEEDED[section], prefix=f"{section}.")
