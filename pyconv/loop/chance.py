"""Whether a run has learnt anything: its accuracy beside that of always guessing the commonest class."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from .evaluation import evaluate

if TYPE_CHECKING:
    from ..nn import Sequential

ERRORS, MOST = 2.0, 0.05
"""How far above guessing an accuracy still counts as that: standard errors of so many images, and at most this."""
LOOKED_AT = 1000
"""Training images that are looked at where there are none for validation."""
FEW_STEPS = 200


def guessing(accuracy: float, labels: np.ndarray) -> float | None:
    """The accuracy of always guessing the commonest class, where `accuracy` is no better than that; else None.

    Parameters
    ----------
    accuracy : float
        From 0 to 1, on as many images as there are labels.
    labels : (N,) integer array

    Returns
    -------
    float or None
        None also where all labels are the same, and there is nothing to guess.
    """
    share = float(np.bincount(labels).max()) / len(labels)
    margin = min(ERRORS * math.sqrt(share * (1 - share) / len(labels)), MOST)
    return share if share < 1 and accuracy <= share + margin else None


def training_accuracy(model: Sequential, x: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Accuracy on some of the training images, evenly spread, and the labels of those."""
    some = slice(None, None, -(-len(x) // LOOKED_AT))
    figures = evaluate(model, x[some], labels[some])
    assert figures is not None, "nobody asked to stop"
    return figures[1], labels[some]


def warning(what: str, accuracy: float, share: float, steps: int, rate: float, usual: float | None) -> str:
    """One line that says that a run has learnt nothing, and what to try.

    Parameters
    ----------
    what : str
        Whose accuracy it is: ``"validation"`` or ``"training"``.
    accuracy, share : float
        What was reached, and what guessing reaches.
    steps : int
        Of the run.
    rate : float
        Its learning rate.
    usual : float, optional
        The learning rate that would have been chosen, where that is known.
    """
    if usual is not None and not usual / 2 <= rate <= 2 * usual:
        advice = f"lr {usual:g}, which is what this run gets where none is given"
    elif steps < FEW_STEPS:
        advice = f"more epochs, or a smaller batch: it took {steps} steps only"
    else:
        advice = f"more epochs, or a smaller learning rate, such as {rate / 4:.1g}"
    return (
        f"the run ends at chance: {what} accuracy {100 * accuracy:.2f} % is no better than always guessing the "
        f"commonest class, {100 * share:.2f} %; try {advice}"
    )
