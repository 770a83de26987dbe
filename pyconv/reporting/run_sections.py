"""The sections of a comparison of runs: tables, curves, and each run's scores by class."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ..loop import confusion
from ..loop.scores import Scores
from . import run_pictures
from .page import Picture, Section, Table
from .runs import Run, distinct, percent, some, summary

CURVES = (
    "Training loss and validation accuracy against epochs, and validation accuracy against seconds since the start of "
    "the run."
)


def run_sections(runs: Sequence[Run]) -> list[Section]:
    """All sections of a comparison of runs.

    Parameters
    ----------
    runs : sequence of Run
        At least one.

    Returns
    -------
    list of Section
        The runs, their curves, and each one's confusion matrix and scores by class.
    """
    runs = distinct(some(runs))
    sections = [
        Section("The runs", [summary(runs), *_time_split(runs)]),
        Section("Curves", [Picture("curves", partial(run_pictures.curves, runs), CURVES)]),
    ]
    for number, run in enumerate(runs):
        if run.scores is None:
            sections.append(Section(f"{run.name}: classes", [f"No scores by class: {run.note}."]))
            continue
        caption = (
            f"Confusion matrix of {run.name} on {run.scores.support.sum()} validation images: rows are the true "
            "classes, in per cent of each."
        )
        picture = Picture(f"confusion-{number + 1}", partial(confusion.figure, run.scores), caption)
        sections.append(Section(f"{run.name}: classes", [picture, class_table(run.scores)]))
    return sections


def class_table(found: Scores) -> Table:
    """Precision, recall, F1 and number of examples of each class, and the means over classes."""
    rows = [
        (name, f"{p:.3f}", f"{r:.3f}", f"{f:.3f}", str(n))
        for name, p, r, f, n in zip(found.classes, found.precision, found.recall, found.f1, found.support)
    ]
    means = (f"{found.macro_precision:.3f}", f"{found.macro_recall:.3f}", f"{found.macro_f1:.3f}")
    rows.append(("mean over classes", *means, str(found.support.sum())))
    return Table(("class", "precision", "recall", "F1", "examples"), rows, f"Accuracy {percent(found.accuracy)}")


def _time_split(runs: Sequence[Run]) -> list[Table]:
    """How the workers spent their time, by run."""
    rows = []
    for run in runs:
        compute, communication = (
            sum(line.get(name) or 0.0 for line in run.history) for name in ("compute_s", "communication_s")
        )
        stale = max(line.get("staleness_max") or 0 for line in run.history)
        restarts = sum(line.get("restarts") or 0 for line in run.history)
        rows.append((run.name, f"{compute:.1f} s", f"{communication:.1f} s", str(stale), str(restarts)))
    header = ("run", "computation", "communication", "largest staleness", "restarts")
    return [Table(header, rows, "Where a worker's time went, and how asynchronous it was")]
