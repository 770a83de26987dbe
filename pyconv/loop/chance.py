"""Finds out whether a run has learnt anything: is its accuracy better than always guessing the commonest class?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..threads import counted
from .evaluation import evaluate

if TYPE_CHECKING:
    from ..nn import Sequential

ERRORS, MOST = 2.0, 0.05
"""Up to how far above guessing an accuracy counts as guessing: in standard errors for so many images, and at most."""
LOOKED_AT = 1000
"""How many training images are used if there are none for validation."""
FEW_STEPS, SMALL_BATCH = 200, 8
"""A run of fewer steps may need more steps; mini-batches of this size are small enough already."""


def guessing(accuracy: float, labels: np.ndarray) -> float | None:
    """The accuracy of always guessing the commonest class, if `accuracy` is no better than that; else None.

    Parameters
    ----------
    accuracy : float
        From 0 to 1, on as many images as there are labels.
    labels : (N,) integer array

    Returns
    -------
    float or None
        None also if all labels are the same, so that there is nothing to guess.
    """
    share = float(np.bincount(labels).max()) / len(labels)
    margin = min(ERRORS * math.sqrt(share * (1 - share) / len(labels)), MOST)
    return share if share < 1 and accuracy <= share + margin else None


def training_accuracy(
    model: Sequential, x: np.ndarray, labels: np.ndarray, held: np.ndarray | None = None
) -> tuple[float, np.ndarray]:
    """Accuracy on some of the training images, evenly spread over all or over those `held` here, and their labels."""
    if held is None:
        some: slice | np.ndarray = slice(None, None, -(-len(x) // LOOKED_AT))
    else:
        some = held[:: -(-len(held) // LOOKED_AT)]
    figures = evaluate(model, x[some], labels[some])
    assert figures is not None, "nobody asked to stop"
    return figures[1], labels[some]


def warning(what: str, accuracy: float, share: float, steps: int, batch: int, rate: float, usual: float | None) -> str:
    """One line that says that a run has learnt nothing, and what to try.

    Parameters
    ----------
    what : str
        Whose accuracy it is: ``"validation"`` or ``"training"``.
    accuracy, share : float
        The run's accuracy, and that of guessing.
    steps, batch : int
        Steps of the run, and images of a worker's step.
    rate : float
        The run's learning rate.
    usual : float, optional
        The learning rate that pyconv would have chosen, if known.
    """
    if usual is not None and not usual / 2 <= rate <= 2 * usual:
        advice = f"lr {usual:g}, which is what this run gets where none is given"
    elif steps < FEW_STEPS:
        smaller = ", or a smaller batch" if batch > SMALL_BATCH else ""
        advice = f"more epochs{smaller}: it took {counted(steps, 'step')} only"
    else:
        advice = f"more epochs, or a smaller learning rate, such as {rate / 4:.1g}"
    return (
        f"the run ends at chance: {what} accuracy {100 * accuracy:.2f} % is no better than always guessing the "
        f"commonest class, {100 * share:.2f} %; try {advice}"
    )
