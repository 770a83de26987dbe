"""The weighted mean of a batch's cross-entropies: weights of examples and classes, and label smoothing.

With the weight ``s[i]`` of example i, ``w[c]`` of class c and smoothing ε over K classes, the targets of example i
are ``q[i, c] = (1 - ε) [c = y[i]] + ε / K``, and the loss of a batch is that of PyTorch's ``CrossEntropyLoss``::

    loss = Σ_i s[i] Σ_c w[c] q[i, c] (-log p[i, c]) / Σ_i s[i] w[y[i]]

The gradient for the logits follows as ``dz[i, c] = (hits[i] + rows[i] Σ smooth) p[i, c] - hits[i] [c = y[i]]
- rows[i] smooth[c]``, with the three arrays of :class:`Weighting`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pyconv.arrays import as_array
from pyconv.errors import DtypeError, InputError, ShapeError
from pyconv.values import real


@dataclass(frozen=True, eq=False)
class Weighting:
    """The factors of a batch's cross-entropies; the division for the mean is included.

    Attributes
    ----------
    rows : (N,) float64 ndarray
        ``s[i] / total``.
    hits : (N,) float64 ndarray
        Factor of the loss at the label: ``(1 - ε) s[i] w[y[i]] / total``.
    smooth : (K,) float64 ndarray
        What every class gets from each row: ``w[c] ε / K``.
    """

    rows: np.ndarray
    hits: np.ndarray
    smooth: np.ndarray

    def apply(
        self, losses: np.ndarray, gradient: np.ndarray, logits: np.ndarray, labels: np.ndarray
    ) -> tuple[float, np.ndarray]:
        """The weighted mean of a batch's losses, and its gradient.

        Parameters
        ----------
        losses : (N,) ndarray
            Cross-entropy of each example.
        gradient : (N, K) ndarray
            ``softmax(z) - onehot(label)``; overwritten.
        logits : (N, K) ndarray
        labels : (N,) ndarray of int64

        Returns
        -------
        loss : float
            Accumulated in float64.
        gradient : (N, K) ndarray
        """
        dtype = gradient.dtype
        spread = float(self.smooth.sum())
        whole = self.hits + self.rows * spread
        kept = whole > 0  # an example of weight zero is left out, even if its loss is infinite
        loss = float(np.sum(whole * losses, where=kept, dtype=np.float64))
        gradient *= whole.astype(dtype)[:, None]
        if spread:
            each = np.arange(len(labels))
            apart = logits[each, labels].astype(np.float64)[:, None] - logits
            loss += float(np.sum(self.rows * (apart * self.smooth).sum(axis=1), where=kept, dtype=np.float64))
            gradient[each, labels] += (self.rows * spread).astype(dtype)
            gradient -= (self.rows[:, None] * self.smooth).astype(dtype)
        if not kept.all():
            gradient[~kept] = 0
        return loss, gradient


def weighting(
    labels: np.ndarray, classes: int, weights: ArrayLike | None = None, class_weights: ArrayLike | None = None,
    label_smoothing: Any = 0.0, weight_sum: Any = None,
) -> Weighting | None:  # fmt: skip
    """The factors of a batch; None if all examples have the same weight and labels are not smoothed.

    Parameters
    ----------
    labels : (N,) ndarray of int64
        Checked.
    classes : int
        K.
    weights : (N,) array, optional
        Weights of the examples, at least 0.
    class_weights : (K,) array, optional
        Weights of the classes, at least 0.
    label_smoothing : float
        ε, from 0 to 1.
    weight_sum : float, optional
        Divisor of the sum; by default the sum of the examples' weights times their classes' weights.

    Raises
    ------
    ShapeError, DtypeError, InputError
        If an argument does not fit.
    """
    smoothing = real(label_smoothing, "label_smoothing", minimum=0, maximum=1)
    if weights is None and class_weights is None and not smoothing and weight_sum is None:
        return None
    own = np.ones(len(labels)) if weights is None else amounts(weights, "weights", len(labels), "example")
    of_classes = (
        np.ones(classes) if class_weights is None else amounts(class_weights, "class_weights", classes, "class")
    )
    at_label = own * of_classes[labels]
    divisor = float(at_label.sum()) if weight_sum is None else real(weight_sum, "weight_sum", minimum=0)
    factor = 1 / divisor if divisor else 0.0  # no example has any weight: loss and gradient are 0
    return Weighting(own * factor, (1 - smoothing) * at_label * factor, of_classes * (smoothing / classes))


def amounts(value: ArrayLike, name: str, count: int, of: str) -> np.ndarray:
    """`value` as float64 weights, one for each of `count`, or an error that names the first wrong one."""
    array = as_array(value, name)
    if array.dtype.kind not in "iufb":
        raise DtypeError(f"{name} must be numbers, not {array.dtype}")
    if array.shape != (count,):
        raise ShapeError(f"{name} must have one number for each {of}, shape ({count},), not {array.shape}")
    made = np.ascontiguousarray(array, np.float64)
    wrong = np.flatnonzero(~(np.isfinite(made) & (made >= 0)))
    if wrong.size:
        raise InputError(f"{name} must be finite and at least 0, but holds {made[wrong[0]]:g} at position {wrong[0]}")
    return made
