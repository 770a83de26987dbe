"""When to stop early: the settings of ``--early-stopping`` and ``--stopping-metric``."""

from __future__ import annotations

from typing import Any

from ..errors import InputError


def stopping(given: dict[str, Any], recorded: dict[str, Any] | None) -> dict[str, Any] | None:
    """When to stop early: the recorded settings of a run that is continued, changed by the flags."""
    names = {"early_stopping": "epochs", "stopping_metric": "metric"}
    flags = {names[name]: given[name] for name in names if name in given}
    if "metric" in flags and "epochs" not in {**(recorded or {}), **flags}:
        raise InputError("--stopping-metric is for --early-stopping: give that too")
    return {**(recorded or {}), **flags} or None
