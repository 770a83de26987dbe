"""Scores: a classifier's confusion matrix, and the precision, recall and F1 of each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, ShapeError, short
from ..records import check, count_rows, texts

if TYPE_CHECKING:
    from ..nn import Sequential

SHOWN, MISTAKES, WIDTH = 20, 2, 24
"""A run shows at most so many classes, so many wrong answers of each, and so many letters of a class's name."""


@dataclass(frozen=True)
class Scores:
    """Counts of a classifier's answers, and the figures that follow from them.

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
        """For each class, the share of right ones among the answers of that class; 0 if there is no such answer."""
        return _share(np.diag(self.confusion), self.confusion.sum(axis=0))

    @property
    def recall(self) -> NDArray[np.float64]:
        """For each class, the share of its examples that are found; 0 if there is no such example."""
        return _share(np.diag(self.confusion), self.support)

    @property
    def f1(self) -> NDArray[np.float64]:
        """Harmonic mean of precision and recall of each class: 2 tp / (2 tp + fp + fn)."""
        right = np.diag(self.confusion)
        return _share(2 * right, self.confusion.sum(axis=0) + self.support)

    @property
    def macro_precision(self) -> float:
        """Mean of :attr:`precision`, as :attr:`macro_f1`."""
        return self._mean(self.precision)

    @property
    def macro_recall(self) -> float:
        """Mean of :attr:`recall`, as :attr:`macro_f1`."""
        return self._mean(self.recall)

    @property
    def macro_f1(self) -> float:
        """Mean of :attr:`f1` over the classes that occur, among examples or answers: rare classes count as much."""
        return self._mean(self.f1)

    def _mean(self, values: NDArray[np.float64]) -> float:
        occurs = (self.confusion.sum(axis=0) + self.support) > 0
        return float(values[occurs].mean()) if occurs.any() else 0.0

    def record(self) -> dict[str, Any]:
        """The counts, and for readers of the file also the figures, as a dict for JSON."""
        return {
            "classes": list(self.classes),
            "confusion": self.confusion.tolist(),
            "precision": self.precision.tolist(),
            "recall": self.recall.tolist(),
            "f1": self.f1.tolist(),
            "support": self.support.tolist(),
            "accuracy": self.accuracy,
            "macro_f1": self.macro_f1,
        }

    def lines(self) -> list[str]:
        """The scores as lines for a terminal: of each class or, if there are many, of those with the lowest F1."""
        shown = np.arange(len(self.classes))
        if len(shown) > SHOWN:
            shown = np.argsort(np.where(self.support > 0, self.f1, np.inf), kind="stable")[:SHOWN]
        names = [short(self.classes[at], WIDTH) for at in shown]
        mean = "mean over classes"
        width = max(map(len, [mean, *names]))
        made = [f"{'class':<{width}}  precision  recall     F1  images  most often taken for"]
        for at, name in zip(shown, names, strict=True):
            numbers = f"{self.precision[at]:9.3f}  {self.recall[at]:6.3f}  {self.f1[at]:5.3f}  {self.support[at]:6}"
            made.append(f"{name:<{width}}  {numbers}  {self._mistakes(int(at))}".rstrip())
        if len(self.classes) > SHOWN:
            made.append(f"… and {len(self.classes) - SHOWN} more, none with a lower F1")
        means = f"{self.macro_precision:9.3f}  {self.macro_recall:6.3f}  {self.macro_f1:5.3f}  {self.support.sum():6}"
        made.append(f"{mean:<{width}}  {means}")
        return made

    def _mistakes(self, row: int) -> str:
        """The wrong answers that a class's examples get most often, with their numbers."""
        wrong = self.confusion[row].copy()
        wrong[row] = 0
        often = [at for at in np.argsort(-wrong, kind="stable")[:MISTAKES] if wrong[at]]
        return ", ".join(f"{short(self.classes[at], WIDTH)} {wrong[at]}" for at in often)


def scores(labels: NDArray[np.integer], answers: NDArray[np.integer], classes: Sequence[str]) -> Scores:
    """Compare answers with labels.

    Parameters
    ----------
    labels, answers : (N,) integer arrays
        True classes and a classifier's, 0 to ``len(classes) - 1``.
    classes : sequence of str
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


def of_model(model: Sequential, labels: NDArray[np.integer], answers: NDArray[np.integer]) -> Scores:
    """Like :func:`scores`, with the model's class names, or numbers if it has none.

    Parameters
    ----------
    model : Sequential
    labels, answers : (N,) integer arrays

    Returns
    -------
    Scores
    """
    return scores(labels, answers, model.classes or [f"class {index}" for index in range(model.output_shape[-1])])


def recorded(record: Mapping[str, Any], where: str) -> Scores:
    """The scores in a file that was written from :meth:`Scores.record`.

    Parameters
    ----------
    record : mapping
    where : str
        The file, for messages.

    Raises
    ------
    DataError
        If it lacks the counts or the names, or they do not fit together.
    """
    check(record, where, {"classes": texts, "confusion": count_rows}, needed=("classes", "confusion"))
    classes, confusion = record["classes"], record["confusion"]
    if len(confusion) != len(classes) or any(len(row) != len(classes) for row in confusion):
        raise DataError(f"{where}: confusion must have a row and a column for each of {len(classes)} classes")
    return Scores(np.array(confusion, np.int64).reshape(len(classes), len(classes)), tuple(classes))


def _share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
