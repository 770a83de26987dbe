"""How the ranks of a cluster share out each of a network's layers: as the user says, or as a run did that goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..cluster import SPLITS, Session
from ..errors import InputError
from ..parallel import Rule
from ..values import choice
from .pipelines import Split


def chosen(split: Any, ranks: Session | None, config: dict[str, Any] | None) -> str | None:
    """What of each layer the ranks share out.

    Parameters
    ----------
    split : {"filters", "rows"} or None
        As the user has it.
    ranks : Session or None
    config : dict or None
        The settings of a run that is continued.

    Returns
    -------
    str or None

    Raises
    ------
    InputError
        If there are no ranks, or there is no such split.
    """
    if split is None:
        recorded = None if config is None or ranks is None else config["training"].get("split")
        return None if recorded is None else str(choice(recorded, "split", SPLITS))
    choice(split, "split", SPLITS)
    if ranks is None:
        raise InputError(
            f"split {split} divides a network among ranks, and this is one process: start several, as with: mpiexec "
            "-n 2 python -m pyconv.train; or leave it out"
        )
    return str(split)


def check(split: str, parts: Split, rule: Rule, recorded: Mapping[str, Any] | None) -> None:
    """Check that what else the user wants, or the run that is continued has, goes together with a split.

    Parameters
    ----------
    split : {"filters", "rows"}
    parts : Split
        Stages and micro-batches.
    rule : Rule
    recorded : mapping or None
        The section "training" of a run that is continued.

    Raises
    ------
    InputError
        If it does not.
    """
    stages = "stages of a pipeline" if parts.stages is not None else None
    micro = "micro-batches" if parts.micro_batches > 1 else None
    if recorded is None:
        if other := stages or micro:
            raise InputError(f"split {split} and {other} do not go together: leave one of them out")
        if rule.name != "sync":
            raise InputError(
                f"split {split} is one worker on all ranks, of whose steps update {rule.name} changes nothing: leave "
                "one of them out"
            )
    elif stages and split == recorded.get("split"):
        raise InputError(f"this run has split {split}, and {stages} do not go together with it: leave them out")
    elif other := stages or micro or (f"{recorded['workers']} workers" if recorded["workers"] > 1 else None):
        raise InputError(f"this run has {other}, and split {split} does not go together with that: leave it out")
