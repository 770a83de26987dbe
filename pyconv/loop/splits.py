"""How the ranks of a cluster share out a network's layers: what the user says, or what a run that is continued did."""

from __future__ import annotations

from typing import Any

from ..cluster import SPLITS, Session
from ..errors import InputError
from ..parallel import Rule
from ..values import choice


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


def check_rule(split: str | None, rule: Rule) -> None:
    """Check that a split is not asked for together with an update rule, which would have nothing to do.

    Raises
    ------
    InputError
        If it is.
    """
    if split is not None and rule.name != "sync":
        raise InputError(
            f"split {split} is one worker on all ranks, of whose steps update {rule.name} changes nothing: leave one "
            "of them out"
        )
