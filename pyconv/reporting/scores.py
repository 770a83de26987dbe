"""How good a classifier is, class by class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ShapeError


@dataclass(frozen=True)
class Scores:
    """Counts of a classifier's answers and what follows from them.

    Attributes
    ----------
    confusion : (classes, classes) int64 array
        Rows are the true classes, columns the answers.
    classes : tuple of str
        Their names.
    """

    confusion: NDArray[np.int64]
    classes: tuple[str, ...]

    @property
    def support(self) -> NDArray[np.int64]:
        """Examples of each class."""
        return self.confusion.sum(axis=1)

    @property
    def accuracy(self) -> float:
        """Share of right answers, 0 to 1."""
        return float(np.trace(self.confusion) / max(self.confusion.sum(), 1))

    @property
    def precision(self) -> NDArray[np.float64]:
        """Of the answers of each class, the share that is right; 0 where there is no such answer."""
        return _share(np.diag(self.confusion), self.confusion.sum(axis=0))

    @property
    def recall(self) -> NDArray[np.float64]:
        """Of the examples of each class, the share that is found; 0 where there is no such example."""
        return _share(np.diag(self.confusion), self.support)

    @property
    def f1(self) -> NDArray[np.float64]:
        """Harmonic mean of precision and recall of each class: 2 tp / (2 tp + fp + fn)."""
        right = np.diag(self.confusion)
        return _share(2 * right, self.confusion.sum(axis=0) + self.support)

    @property
    def macro_f1(self) -> float:
        """Mean of :attr:`f1` over the classes that occur, among examples or answers: rare classes count as much."""
        occurs = (self.confusion.sum(axis=0) + self.support) > 0
        return float(self.f1[occurs].mean()) if occurs.any() else 0.0


def scores(labels: NDArray[np.integer], answers: NDArray[np.integer], classes: list[str]) -> Scores:
    """Compare answers with labels.

    Parameters
    ----------
    labels, answers : (N,) integer arrays
        True classes and a classifier's, 0 to ``len(classes) - 1``.
    classes : list of str
        Names.

    Raises
    ------
    ShapeError
        If the two are not of one length.
    """
    labels, answers = np.asarray(labels), np.asarray(answers)
    if labels.shape != answers.shape or labels.ndim != 1:
        raise ShapeError(f"labels and answers must be vectors of one length, not {labels.shape} and {answers.shape}")
    count = len(classes)
    confusion = np.bincount(labels * count + answers, minlength=count * count).reshape(count, count)
    return Scores(confusion.astype(np.int64), tuple(classes))


def _share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
