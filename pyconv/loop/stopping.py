"""Early stopping: when a run no longer improves, and which of its epochs was the best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..values import choice, integer, mapping, real

METRICS = {"val_accuracy": 1, "val_loss": -1}
"""The metrics by which an epoch can be judged; 1 if larger is better."""


@dataclass(frozen=True)
class Stopping:
    """When a run stops early, and which epoch is the best.

    Attributes
    ----------
    epochs : int or None
        Epochs in a row without an improvement after which the run stops; None: it does not.
    metric : {"val_accuracy", "val_loss"}
    min_delta : float
        By how much an epoch must be better than the best before it.
    """

    epochs: int | None = None
    metric: str = "val_accuracy"
    min_delta: float = 0.0

    @classmethod
    def of(cls, value: Any) -> Stopping:
        """Check the argument of :func:`pyconv.fit`: None, a number of epochs, or a mapping."""
        if value is None:
            return cls()
        name = "early_stopping"
        if not isinstance(value, Mapping):
            return cls(integer(value, name, minimum=1))
        given = mapping(value, name, "{'epochs': 5, 'metric': 'val_loss'}")
        for key in given:
            choice(key, f"setting of {name}", ("epochs", "metric", "min_delta"))
        return cls(
            integer(given.get("epochs", 5), f"{name}'s epochs", minimum=1),
            choice(given.get("metric", "val_accuracy"), f"metric of {name}", METRICS),
            real(given.get("min_delta", 0.0), f"{name}'s min_delta", minimum=0),
        )

    def config(self) -> dict[str, Any] | None:
        """The settings as :meth:`of` takes them; None if nothing stops the run."""
        return None if self.epochs is None else dict(vars(self))

    def best(self, history: Sequence[Mapping[str, Any]]) -> int | None:
        """Index of the best epoch's line; None if there is no metric to judge by."""
        best, position = -math.inf, None
        for at, line in enumerate(history):
            value = line[self.metric]
            if value is not None and METRICS[self.metric] * value > best + (0 if position is None else self.min_delta):
                best, position = METRICS[self.metric] * value, at
        return position

    def reached(self, history: Sequence[Mapping[str, Any]]) -> bool:
        """Whether a run with this history stops now."""
        best = self.best(history)
        return self.epochs is not None and best is not None and len(history) - 1 - best >= self.epochs
