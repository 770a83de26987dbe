"""The loss that networks are trained with."""

from __future__ import annotations

import numpy as np

from pyconv.arithmetic import own

from .run import Run


def cross_entropy(logits: np.ndarray, labels: np.ndarray, run: Run) -> tuple[float, np.ndarray]:
    """Mean cross-entropy of the softmax of `logits`, in nats, and its gradient.

    Parameters
    ----------
    logits : (N, classes) ndarray
    labels : (N,) ndarray of int64
        Checked.
    run : Run

    Returns
    -------
    loss : float
        Accumulated in float64.
    gradient : (N, classes) ndarray
        Of the mean loss, for the logits.
    """
    losses, gradient = run.ops.softmax_cross_entropy(logits, labels, threads=run.threads)
    gradient /= len(labels)
    return float(losses.mean(dtype=np.float64)), gradient


def count_correct(logits: np.ndarray, labels: np.ndarray) -> int:
    """How many of the ``(N, classes)`` logits are largest at their label."""
    return int(np.count_nonzero(logits.argmax(axis=1) == labels))


@own
def softmax(logits: np.ndarray) -> np.ndarray:
    """Class probabilities from ``(N, classes)`` logits: ``exp(z) / sum exp(z)``, without overflow."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    shifted /= shifted.sum(axis=1, keepdims=True)
    return shifted
