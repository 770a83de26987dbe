"""Checks the lines of ``metrics.jsonl``: their fields, and the kind of each."""

from __future__ import annotations

from typing import Any

from ..records import Kind, check, count, finite, measure, measures, optional, share, size, text

_NEEDED: dict[str, Kind] = {
    "epoch": size,
    "step": count,
    "images": count,
    "seconds": measure,
    "images_per_s": measure,
    "train_loss": finite,
    "val_loss": optional(finite),
    "val_accuracy": optional(share),
    "lr": measure,
    "elapsed_s": measure,
    "workers": size,
    "update": text,
}


def _amounts(value: Any, name: str) -> None:
    """Check numbers of at least 0, alone or in a list or table, as in a histogram."""
    if isinstance(value, dict):
        value = list(value.values())
    for item in value if isinstance(value, list) else [value]:
        measure(item, name)


_STATISTICS: dict[str, Kind] = {
    **dict.fromkeys(("compute_s", "communication_s", "wait_s", "staleness_mean", "staleness_max", "restarts"), measure),
    "staleness_histogram": measures,
}


def check_line(line: Any, where: str) -> None:
    """Check a line of metrics that was read from a file.

    Raises
    ------
    DataError
        If it lacks a field, or one is of another kind; the message begins with `where`.
    """
    check(line, where, {**_NEEDED, **_STATISTICS, "seconds_to_target": measure}, needed=_NEEDED)


def check_statistics(statistics: Any, where: str) -> None:
    """Check an engine's figures for a part of an epoch that were read from a checkpoint.

    Raises
    ------
    DataError
        If one of them is not a number of at least 0.
    """
    check(statistics, where, {**dict.fromkeys(statistics, _amounts), **_STATISTICS}, prefix="statistics.")
