"""How far a run has come, as a checkpoint keeps it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..checkpoint import Checkpoint
from ..errors import DataError
from .metrics import check_line, check_statistics


@dataclass
class Position:
    """How far a run has come: the numbers that a checkpoint keeps beside the arrays."""

    epoch: int = 0
    """Epochs done."""
    step: int = 0
    """Steps done in the epoch after those."""
    total_steps: int = 0
    images: int = 0
    """Images in the current epoch; the three below are of the current epoch too."""
    loss_sum: float = 0.0
    """A sum over images, so that after a resume the mean has the same bits."""
    correct: int = 0
    seconds: float = 0.0
    statistics: dict[str, Any] = field(default_factory=dict)
    statistics_images: int = 0
    """How many of these images `statistics` covers."""
    elapsed: float = 0.0
    """Seconds of the earlier sessions together."""

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Position:
        """Where a checkpoint says that its run stands.

        Raises
        ------
        DataError
            If it does not say it, or its history says something else.
        """
        known = {name: (int, float) if type(value) is float else type(value) for name, value in vars(cls()).items()}
        found = checkpoint.position
        if found.keys() != known.keys() or not all(isinstance(found[name], kind) for name, kind in known.items()):
            raise DataError("its numbers are not those of a run")
        check_statistics(found["statistics"], "position")
        for line in checkpoint.history:
            check_line(line, "a line of history")
        if found["epoch"] != len(checkpoint.history):
            raise DataError(f"{found['epoch']} epochs are done, and history has {len(checkpoint.history)} lines")
        return cls(**found)
