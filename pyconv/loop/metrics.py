"""A line of ``metrics.jsonl``: what it holds, and of what kind."""

from __future__ import annotations

from typing import Any

from ..errors import InputError, shown
from ..records import Kind, check, count, finite, measure, optional, share, size, text

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
    """Numbers of at least 0, one by one or in a list or table, as a histogram is."""
    if isinstance(value, dict):
        value = list(value.values())
    for item in value if isinstance(value, list) else [value]:
        measure(item, name)


def _list(value: Any, name: str) -> None:
    """A list of numbers of at least 0."""
    if not isinstance(value, list):
        raise InputError(f"{name} must be a list, not {shown(value)}")
    _amounts(value, name)


_STATISTICS: dict[str, Kind] = {
    **dict.fromkeys(("compute_s", "communication_s", "wait_s", "staleness_mean", "staleness_max", "restarts"), measure),
    "staleness_histogram": _list,
}


def check_line(line: Any, where: str) -> None:
    """Check a line of metrics, which a file holds.

    Raises
    ------
    DataError
        If it lacks a field, or one is of another kind; the message begins with `where`.
    """
    check(line, where, {**_NEEDED, **_STATISTICS, "seconds_to_target": measure}, needed=_NEEDED)


def check_statistics(statistics: Any, where: str) -> None:
    """Check an engine's figures over a part of an epoch, which a checkpoint holds.

    Raises
    ------
    DataError
        If one of them is no amount.
    """
    check(statistics, where, {**dict.fromkeys(statistics, _amounts), **_STATISTICS}, prefix="statistics.")
