"""A run that is continued: its own settings where the user gave none, and what it does in another way than before."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, InputError, shown
from ..parallel import Job
from .recipe import Asked


def as_recorded(asked: Asked, config: Mapping[str, Any], folder: Path) -> tuple[Asked, int]:
    """The settings, completed from the run's folder, and the folder's number of workers.

    Raises
    ------
    InputError
        If the folder's settings are not those of a run.
    CheckpointError
        If its update rule is another one, whose options would be unknown.
    """
    try:
        before = config["training"]["update"]
        if before == asked.rule.name:
            return asked.as_in(config), int(config["training"]["workers"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"{folder / 'config.toml'}: the settings are not those of a run ({type(error).__name__}: {error}); put "
            "the file back as it was"
        ) from None
    raise CheckpointError(
        f"{folder}: this run has update {shown(before)}, not {asked.rule.name!r}; resume it with the same settings or "
        "begin another run"
    )


def changes(recorded: Mapping[str, Any], job: Job, ranks: int) -> list[str]:
    """A line for the log, if other ranks or another split of the network continue the run.

    Parameters
    ----------
    recorded : mapping
        The section "training" of the run.
    job : Job
        As the run goes on.
    ranks : int
        On which it does.
    """
    before, split = recorded.get("ranks", 1), recorded.get("split")
    changed = [] if before == ranks else [f"ranks were {before} and are {ranks}"]
    if job.split != split and ranks > 1:
        changed.append(f"split was {split or 'none'} and is {job.split or 'none'}")
    if not changed:
        return []
    divided = split is not None or job.split is not None
    return [f"{', '.join(changed)} from here on; {_consequence(job, divided)}"]


def _consequence(job: Job, divided: bool) -> str:
    """What becomes of the numbers on other ranks; `divided` is whether each layer is shared out, or was."""
    if divided:
        return "the numbers stay the same up to rounding"
    if job.workers == 1:
        return "the worker and its numbers stay the same"
    if not job.rule.lockstep:
        return f"the {job.workers} workers stay the same"
    if job.wire != "exact":
        return f"the {job.workers} workers stay the same, but not what wire {job.wire} rounds"
    return f"the {job.workers} workers and their numbers stay the same"
