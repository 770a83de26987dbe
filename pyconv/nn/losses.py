"""Probabilities and correct predictions from logits; the loss itself is an operation of the backends."""

from __future__ import annotations

import numpy as np

from pyconv.arithmetic import own


def count_correct(logits: np.ndarray, labels: np.ndarray) -> int:
    """How many of the ``(N, classes)`` logits have their largest number at the label."""
    return int(np.count_nonzero(logits.argmax(axis=1) == labels))


@own
def softmax(logits: np.ndarray) -> np.ndarray:
    """Class probabilities from ``(N, classes)`` logits: ``exp(z) / sum exp(z)``, without overflow."""
    # Ufuncs' own methods: for one example, the arrays' would take longer than everything else here.
    shifted = np.exp(logits - np.maximum.reduce(logits, axis=1, keepdims=True))
    shifted /= np.add.reduce(shifted, axis=1, keepdims=True)
    return shifted
